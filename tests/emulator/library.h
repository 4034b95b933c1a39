// library.h - for the emulations of libraries that put work of their own on a stream, as cuBLASLt does.
#pragma once
#include "cuda_runtime_api.h"
#include <functional>

namespace emulator {

// Queues a host function that may touch device memory with plain loops. It must say what it touches, before it does:
// its accesses are checked by these two calls alone. Counts as a launch for emulator_fail_launch.
cudaError_t enqueue(cudaStream_t stream, const char *name, std::function<void()> function);
void library_reads(const void *memory, size_t bytes);
void library_writes(void *memory, size_t bytes);

// cudaMalloc for work space that the emulation never touches: it is counted, and given no pages, which every opening of
// device memory would cost time for.
cudaError_t library_reserve(void **memory, size_t bytes);

} // namespace emulator
