// cuda_emulator.h - CUDA as the kernel sources see it when they are compiled as plain C++ and run on the CPU.
//
// kernels/cuda/cuda.cuh includes this instead of the CUDA toolkit. Every CUDA thread becomes a fiber (fibers.cc), so a
// kernel is ordinary code that may stop at a barrier. What differs from CUDA is what a kernel source must keep to:
//   * LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...) instead of <<<>>>; a template kernel with its
//     arguments goes in parentheses. Arguments are evaluated and copied where the launch is issued, as in CUDA; a null
//     pointer is spelled nullptr.
//   * SHARED(type, name, [8][32]) and DYNAMIC_SHARED(type, name) instead of __shared__, which does not exist here.
//   * The _sync forms of warp functions with an explicit mask; every lane of the mask exists and reaches the same line.
//   * __syncthreads() where every thread of the block arrives, at one line: no return before a barrier.
//   * Between a write and another lane's read stands __syncwarp() or __syncthreads(): shuffles, ldmatrix and mma do not
//     order memory. Blocks of one launch do not talk to each other except by atomicAdd.
//   * No memcpy, memset or other library function on shared or device memory inside a kernel: their accesses are not
//     seen by the checker. No arrays of 1-byte elements written by different threads (it looks at 2 bytes at a time).
#pragma once
#include "cuda_device.h"
#include "cuda_runtime_api.h"
#include "cuda_types.h"
#include <memory>
#include <tuple>
#include <type_traits>

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__    __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

namespace emulator {

// One launch with its arguments; run once by every thread.
struct KernelCall {
    virtual ~KernelCall() = default;
    virtual void run_thread() const = 0;
    virtual size_t bytes() const = 0; // of this object: the arguments, which the kernel may read
};

template <class... Parameters> struct KernelCallOf final : KernelCall {
    void (*kernel)(Parameters...);
    std::tuple<std::decay_t<Parameters>...> arguments;

    template <class... Arguments>
    KernelCallOf(void (*function)(Parameters...), Arguments &&...values)
        : kernel(function), arguments(std::forward<Arguments>(values)...) {
    }
    void run_thread() const override {
        std::apply(kernel, arguments);
    }
    size_t bytes() const override {
        return sizeof *this;
    }
};

struct LaunchShape {
    const char *name;     // of the kernel, as written at the launch
    const void *function; // its address, for cudaFuncSetAttribute
    dim3 grid, block;
    size_t dynamic_shared; // bytes
};

void launch(const LaunchShape &shape, cudaStream_t stream, std::unique_ptr<KernelCall> call);

template <class... Parameters, class... Arguments>
void launch_kernel(const char *name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared,
                   cudaStream_t stream, Arguments &&...arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments), "a kernel's arguments are given in full");
    launch({name, reinterpret_cast<const void *>(kernel), grid, block, shared}, stream,
           std::make_unique<KernelCallOf<Parameters...>>(kernel, std::forward<Arguments>(arguments)...));
}

// The shared variable of the running block that belongs to this place in the source (and, in a template, to this
// instance of it): key is the address of a static of that place.
void *shared_variable(const void *key, size_t bytes, Place place = here());
void *dynamic_shared();

} // namespace emulator

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                         \
    emulator::launch_kernel(#kernel, kernel, (grid), (block), (shared_bytes), (stream), __VA_ARGS__)
#define SHARED(type, name, dimensions)                                                                                 \
    typedef type name##_array dimensions;                                                                              \
    static char name##_key;                                                                                            \
    name##_array &name = *static_cast<name##_array *>(emulator::shared_variable(&name##_key, sizeof(name##_array)))
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emulator::dynamic_shared())
