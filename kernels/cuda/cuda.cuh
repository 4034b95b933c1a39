// cuda.cuh - the only header through which the sources of this folder see CUDA.
//
// nvcc takes the toolkit's own headers. Any other C++ compiler takes the emulation of tests/emulator, which runs the
// same sources on the CPU and watches their memory; for its sake kernels are written by these rules:
//   * Launch with LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...), templates in parentheses. Arguments
//     have no side effects. Kernels are `static __global__` and live in the file of their launcher.
//   * Shared memory is SHARED(type, name, [8][32]) or, sized by the launch, DYNAMIC_SHARED(type, name).
//   * Warp functions in their _sync forms with an explicit mask; all its lanes reach the same line. __syncthreads where
//     every thread of the block arrives, on one line: guard the work, do not return before a barrier.
//   * A __syncwarp or __syncthreads stands between a write and a read by different lanes. Blocks do not talk.
//   * No memcpy or library call on device memory inside a kernel; no asm outside ptx.cuh.
#pragma once
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                         \
    kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define SHARED(type, name, dimensions) __shared__ __align__(16) type name dimensions
#define DYNAMIC_SHARED(type, name)                                                                                     \
    extern __shared__ __align__(128) unsigned char cuda_dynamic_shared[];                                              \
    type *name = reinterpret_cast<type *>(cuda_dynamic_shared)
#else
#include <cuda_emulator.h>
#endif
