// absent.c - stands in for the CUDA backend in a build that was made without nvcc.
#include "kernels/kernels.h"

Backend *backend_cuda_create(int device, int threads, Error *error) {
    (void)device, (void)threads;
    error_set(error, "this lisa was built without CUDA");
    error_hint(error, "install the CUDA toolkit (nvcc), then run make again, or use --device cpu");
    return NULL;
}
