// host_device.h - marks a function of a header that both the host and CUDA kernels call.
#pragma once

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif
