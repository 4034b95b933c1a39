// cuda_faults.cu - see cuda_faults.h. Each kernel is run by a block of 64 threads unless it says otherwise.
#include "kernels/cuda/ptx.cuh"
#include "tests/cuda_faults.h"
#include <stdlib.h>

namespace {

enum { THREADS = 64, INPUTS = 256 };
constexpr unsigned ALL = 0xffffffffu;

// ---- shared memory -------------------------------------------------------------------------------------------------

template <int N> __global__ void sound_template(float *out) {
    SHARED(float, s, [N]);
    s[threadIdx.x] = static_cast<float>(threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = s[N - 1 - threadIdx.x];
}

__global__ void sound_warp_barrier(float *out) {
    SHARED(float, s, [THREADS]);
    s[threadIdx.x] = 1.0f;
    __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 1];
}

__global__ void missing_barrier(float *out) {
    SHARED(float, s, [THREADS]);
    s[threadIdx.x] = 1.0f;
    out[threadIdx.x] = s[threadIdx.x ^ 32];
}

// The second round overwrites what other threads may still read.
__global__ void missing_second_barrier(float *out) {
    SHARED(float, s, [THREADS]);
    float sum = 0.0f;
    for (int round = 0; round < 2; round++) {
        s[threadIdx.x] = static_cast<float>(round);
        __syncthreads();
        sum += s[threadIdx.x ^ 33];
    }
    out[threadIdx.x] = sum;
}

__global__ void missing_warp_barrier(float *out) {
    SHARED(float, s, [THREADS]);
    s[threadIdx.x] = 1.0f;
    out[threadIdx.x] = s[threadIdx.x ^ 1];
}

__global__ void warp_barrier_across_warps(float *out) {
    SHARED(float, s, [THREADS]);
    s[threadIdx.x] = 1.0f;
    __syncwarp();
    out[threadIdx.x] = s[threadIdx.x ^ 32];
}

__global__ void shared_out_of_bounds(float *out, int beyond) {
    SHARED(float, s, [THREADS]);
    SHARED(float, other, [THREADS]);
    s[threadIdx.x] = other[threadIdx.x] = 1.0f;
    __syncthreads();
    if (threadIdx.x == 0) s[beyond] = 2.0f;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x] + other[threadIdx.x];
}

__global__ void dynamic_out_of_bounds(float *out) { // launched with one float too few
    DYNAMIC_SHARED(float, s);
    s[threadIdx.x] = 1.0f;
    out[threadIdx.x] = s[threadIdx.x];
}

__global__ void shared_uninitialised(float *out) {
    SHARED(float, s, [THREADS]);
    if (threadIdx.x != 5) s[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}

__global__ void shared_too_much(float *out) { // with 60 KiB of dynamic memory
    SHARED(float, s, [10 << 10]);
    s[threadIdx.x] = 1.0f;
    out[threadIdx.x] = s[threadIdx.x];
}

// ---- device memory -------------------------------------------------------------------------------------------------

__global__ void device_out_of_bounds(float *out) {
    out[threadIdx.x] = 1.0f;
    if (threadIdx.x == 0) out[THREADS] = 1.0f;
}

__global__ void device_uninitialised(float *out, const float *in) {
    out[threadIdx.x] = in[INPUTS + threadIdx.x]; // allocated, never written
}

__global__ void output_incomplete(float *out) {
    if (threadIdx.x != THREADS - 1) out[threadIdx.x] = 1.0f;
}

__global__ void blocks_write_one_place(float *out) {
    out[threadIdx.x] = static_cast<float>(blockIdx.x);
}

__global__ void block_reads_anothers(float *out) { // 16 blocks of one thread over an output of zeros
    out[blockIdx.x] = 1.0f;
    if (blockIdx.x > 0) out[16 + blockIdx.x] = out[blockIdx.x - 1];
}

__global__ void block_writes_what_another_read(float *out) {
    float sum = out[0];
    out[blockIdx.x] = sum;
}

__global__ void sum_without_atomics(float *out) {
    out[0] = out[0] + 1.0f;
}

__global__ void sound_atomics(float *out) {
    atomicAdd(&out[0], 1.0f);
}

__global__ void unaligned_vector(float *out) {
    *reinterpret_cast<float4 *>(out + 1 + 4 * (threadIdx.x & 1)) = make_float4(1.0f, 2.0f, 3.0f, 4.0f);
}

__global__ void sound_vector(float *out, const float *in) {
    if (threadIdx.x < THREADS / 4)
        reinterpret_cast<float4 *>(out)[threadIdx.x] = reinterpret_cast<const float4 *>(in)[threadIdx.x];
}

__global__ void reads_host_memory(float *out, const float *host) {
    out[threadIdx.x] = host[0];
}

// ---- barriers and warps --------------------------------------------------------------------------------------------

__global__ void barriers_on_two_lines(float *out) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1.0f;
}

__global__ void return_before_barrier(float *out) { // over an output of zeros
    if (threadIdx.x >= 40) return;
    __syncthreads();
    out[threadIdx.x] = 1.0f;
}

__global__ void shuffle_without_all_lanes(float *out) { // over an output of zeros
    float value = 1.0f;
    if (threadIdx.x & 1) value = __shfl_xor_sync(ALL, value, 2);
    out[threadIdx.x] = value;
}

__global__ void shuffle_from_outside_mask(float *out) {
    float value = 1.0f;
    if (threadIdx.x % 32 < 16) value = __shfl_sync(0xffffu, value, 20);
    out[threadIdx.x] = value;
}

__global__ void sound_partial_mask(float *out) {
    float value = 1.0f;
    if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(0xffffu, value, 8);
    out[threadIdx.x] = value;
}

__global__ void lanes_at_two_shuffles(float *out) {
    float value = 1.0f;
    if (threadIdx.x & 1)
        value = __shfl_xor_sync(ALL, value, 1);
    else
        value = __shfl_xor_sync(ALL, value, 2);
    out[threadIdx.x] = value;
}

// ---- asynchronous copies and matrices ------------------------------------------------------------------------------

template <int GROUPS_LEFT, bool BARRIER> __global__ void async_copy(float *out, const float *in) {
    SHARED(float, s, [INPUTS]);
    cp_async16(s + threadIdx.x * 4, in + threadIdx.x * 4);
    cp_async_commit();
    cp_async_wait<GROUPS_LEFT>();
    if (BARRIER) __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}

__global__ void async_copy_uncommitted(float *out, const float *in) {
    SHARED(float, s, [INPUTS]);
    cp_async16(s + threadIdx.x * 4, in + threadIdx.x * 4);
    cp_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}

__global__ void async_copy_unaligned(float *out, const float *in) {
    SHARED(float, s, [INPUTS]);
    cp_async16(s + (threadIdx.x & 31) * 4, in + threadIdx.x + 1);
    out[threadIdx.x] = 1.0f;
}

__global__ void matrix_unaligned(float *out) {
    SHARED(float, s, [INPUTS]);
    for (int i = threadIdx.x; i < INPUTS; i += THREADS) s[i] = 1.0f;
    __syncthreads();
    uint32_t r[4];
    ldmatrix_x4(r, s + 2 * (threadIdx.x & 15));
    out[threadIdx.x] = static_cast<float>(r[0]);
}

__global__ void matrix_from_device(float *out, const float *in) {
    uint32_t r[4];
    ldmatrix_x4(r, in + 4 * (threadIdx.x & 15));
    out[threadIdx.x] = static_cast<float>(r[0]);
}

// ---- running one ---------------------------------------------------------------------------------------------------

struct Buffers {
    float *out; // [THREADS], unwritten
    float *in;  // [2 * INPUTS], the first half zeros, the rest unwritten
};

Buffers make_buffers(bool clear_output) {
    Buffers buffers;
    cudaMalloc(&buffers.out, THREADS * sizeof(float));
    cudaMalloc(&buffers.in, 2 * INPUTS * sizeof(float));
    cudaMemset(buffers.in, 0, INPUTS * sizeof(float));
    if (clear_output) cudaMemset(buffers.out, 0, THREADS * sizeof(float));
    return buffers;
}

void finish(Buffers buffers) {
    float host[THREADS];
    cudaMemcpy(host, buffers.out, sizeof host, cudaMemcpyDeviceToHost);
    cudaFree(buffers.out);
    cudaFree(buffers.in);
}

#define RUN_WITH(kernel, clear, grid, block, shared, ...)                                                              \
    [] {                                                                                                               \
        Buffers b = make_buffers(clear);                                                                               \
        LAUNCH(kernel, grid, block, shared, nullptr, __VA_ARGS__);                                                     \
        finish(b);                                                                                                     \
    }
#define RUN(kernel)       RUN_WITH(kernel, false, 1, THREADS, 0, b.out)
#define RUN_CLEAR(kernel) RUN_WITH(kernel, true, 1, THREADS, 0, b.out)
#define RUN_INPUT(kernel) RUN_WITH(kernel, false, 1, THREADS, 0, b.out, b.in)

void run_host_pointer() {
    Buffers b = make_buffers(true);
    float *host = static_cast<float *>(calloc(1, sizeof(float)));
    LAUNCH(reads_host_memory, 1, THREADS, 0, nullptr, b.out, host);
    finish(b);
    free(host);
}

void run_after_free() {
    Buffers b = make_buffers(true);
    float *gone;
    cudaMalloc(&gone, THREADS * sizeof(float));
    cudaMemset(gone, 0, THREADS * sizeof(float));
    cudaFree(gone);
    LAUNCH(reads_host_memory, 1, THREADS, 0, nullptr, b.out, gone);
    finish(b);
}

void run_free_twice() {
    Buffers b = make_buffers(true);
    finish(b);
    cudaFree(b.out);
}

void run_copy_out_of_bounds() {
    Buffers b = make_buffers(true);
    float host[THREADS + 1];
    cudaMemcpy(host, b.out, sizeof host, cudaMemcpyDeviceToHost);
    finish(b);
}

void run_copy_wrong_kind() {
    Buffers b = make_buffers(true);
    float host[THREADS];
    cudaMemcpy(host, b.out, sizeof host, cudaMemcpyHostToDevice);
    finish(b);
}

void run_static_and_dynamic() {
    cudaFuncSetAttribute(shared_too_much, cudaFuncAttributeMaxDynamicSharedMemorySize, 60 << 10);
    Buffers b = make_buffers(true);
    LAUNCH(shared_too_much, 1, THREADS, 60 << 10, nullptr, b.out);
    finish(b);
}

} // namespace

const CudaFault cuda_faults[] = {
    {"sound template", "", "", RUN(sound_template<THREADS>)},
    {"sound warp barrier", "", "", RUN(sound_warp_barrier)},
    {"sound atomics", "", "", RUN_WITH(sound_atomics, true, 3, THREADS, 0, b.out)},
    {"sound vector", "", "", RUN_INPUT(sound_vector)},
    {"sound partial mask", "", "", RUN(sound_partial_mask)},
    {"sound async copy", "", "", RUN_INPUT((async_copy<0, true>))},
    {"missing barrier", "race|uninitialised", "", RUN(missing_barrier)},
    {"missing second barrier", "race", "", RUN(missing_second_barrier)},
    {"missing warp barrier", "race|uninitialised", "", RUN(missing_warp_barrier)},
    {"warp barrier across warps", "race|uninitialised", "", RUN(warp_barrier_across_warps)},
    {"shared out of bounds", "out-of-bounds", "", RUN_WITH(shared_out_of_bounds, false, 1, THREADS, 0, b.out, THREADS)},
    {"dynamic out of bounds", "out-of-bounds", "", RUN_WITH(dynamic_out_of_bounds, false, 1, THREADS, 252, b.out)},
    {"shared uninitialised", "uninitialised", "", RUN(shared_uninitialised)},
    {"too much dynamic shared memory", "launch", "launch",
     RUN_WITH(sound_warp_barrier, true, 1, THREADS, 50000, b.out)},
    {"too much shared memory", "shared-limit", "shared-limit", run_static_and_dynamic},
    {"too many threads", "launch", "launch", RUN_WITH(sound_warp_barrier, true, 1, 1056, 0, b.out)},
    {"empty grid", "launch", "launch", RUN_WITH(sound_warp_barrier, true, 0, THREADS, 0, b.out)},
    {"device out of bounds", "out-of-bounds", "", RUN(device_out_of_bounds)},
    {"device uninitialised", "uninitialised", "", RUN_INPUT(device_uninitialised)},
    {"output incomplete", "uninitialised", "", RUN(output_incomplete)},
    {"two blocks write", "race-blocks", "", RUN_WITH(blocks_write_one_place, false, 2, THREADS, 0, b.out)},
    {"block reads another's", "race-blocks", "", RUN_WITH(block_reads_anothers, true, 16, 1, 0, b.out)},
    {"block writes what another read", "race-blocks", "",
     RUN_WITH(block_writes_what_another_read, true, 2, 1, 0, b.out)},
    {"sum without atomics", "race", "", RUN_CLEAR(sum_without_atomics)},
    {"unaligned vector", "unaligned", nullptr, RUN_CLEAR(unaligned_vector)},
    {"host pointer", "host-memory", "", run_host_pointer},
    {"device memory after its release", "out-of-bounds", "", run_after_free},
    {"released twice", "free", "free", run_free_twice},
    {"copy out of bounds", "out-of-bounds", "out-of-bounds", run_copy_out_of_bounds},
    {"copy of the wrong kind", "copy-kind", "copy-kind", run_copy_wrong_kind},
    {"barriers on two lines", "divergent-barrier", "divergent-barrier", RUN(barriers_on_two_lines)},
    {"return before a barrier", "divergent-barrier", "divergent-barrier", RUN_CLEAR(return_before_barrier)},
    {"shuffle without all lanes", "deadlock", "deadlock", RUN_CLEAR(shuffle_without_all_lanes)},
    {"shuffle from outside the mask", "warp-mask", "warp-mask", RUN(shuffle_from_outside_mask)},
    {"lanes at two shuffles", "divergent-warp", "divergent-warp", RUN(lanes_at_two_shuffles)},
    {"async copy not waited for", "uninitialised", "", RUN_INPUT((async_copy<1, true>))},
    {"async copy without a barrier", "race|uninitialised", "", RUN_INPUT((async_copy<0, false>))},
    {"async copy not committed", "uninitialised", "", RUN_INPUT(async_copy_uncommitted)},
    {"async copy unaligned", "unaligned", "unaligned", RUN_INPUT(async_copy_unaligned)},
    {"matrix unaligned", "unaligned", "unaligned", RUN_CLEAR(matrix_unaligned)},
    {"matrix from device memory", "ldmatrix", "ldmatrix", RUN_INPUT(matrix_from_device)},
};
const int cuda_fault_count = sizeof cuda_faults / sizeof *cuda_faults;
