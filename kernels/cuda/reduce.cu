// reduce.cu - the sum of the losses, the gradient norm, and what follows from it for the step. The host waits for none.
//
// The sum of squares is a fixed tree that depends on the number of values alone:
//   * The values are cut into at most SQUARES_PARTS equal parts, a multiple of LEAST_PART values each, one per block.
//   * Value i of a part belongs to lane i % 4 of thread i / 4 % THREADS; a lane adds its values in ascending order.
//   * A thread's lanes are added as (0 + 1) + (2 + 3), the 32 threads of a warp as a butterfly, distance 16 first, and
//     the warps in ascending order.
//   * A second kernel, one block, adds the parts: thread t adds the parts t, t + THREADS, ..., the rest as above.
// The square of a float is exact in double, so it is the same with or without a fused multiply-add.
#include "kernels/cuda/backend.h"
#include <math.h>

#define THREADS    256
#define WARPS      (THREADS / 32)
#define ROUND      (THREADS * 4) // values that a block reads at a time
#define LEAST_PART (ROUND * 4)   // four reads of a thread on the way at once

// The sum over the block's threads in a fixed order, in thread 0. Called once per kernel, by all threads.
static __device__ __forceinline__ double block_total(double sum) {
    SHARED(double, warps, [WARPS]);
#pragma unroll
    for (int distance = 16; distance; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    double total = 0;
    for (int w = 0; w < WARPS && threadIdx.x == 0; w++) total += warps[w];
    return total;
}

// ---- squares -------------------------------------------------------------------------------------------------------

// values[i] .. values[i + 3], 0 from `end` on.
static __device__ __forceinline__ float4 load_four(const float *values, int64_t i, int64_t end, bool vectors) {
    if (vectors && i + 4 <= end) return *reinterpret_cast<const float4 *>(values + i);
    float4 four = make_float4(0, 0, 0, 0);
    if (i < end) four.x = values[i];
    if (i + 1 < end) four.y = values[i + 1];
    if (i + 2 < end) four.z = values[i + 2];
    if (i + 3 < end) four.w = values[i + 3];
    return four;
}

static __device__ __forceinline__ double add_square(double sum, float value) {
    return fma(static_cast<double>(value), static_cast<double>(value), sum);
}

// parts[p]: the sum of squares of values[p * part .. (p + 1) * part), p the number of the block.
static __global__ void __launch_bounds__(THREADS)
    square_parts_kernel(double *parts, const float *values, int64_t count, int64_t part, bool vectors) {
    int64_t start = static_cast<int64_t>(blockIdx.x) * part;
    int64_t end = start + part < count ? start + part : count;
    double lanes[4] = {0, 0, 0, 0};
#pragma unroll 4
    for (int64_t i = start + threadIdx.x * 4; i < end; i += ROUND) {
        float4 four = load_four(values, i, end, vectors);
        lanes[0] = add_square(lanes[0], four.x);
        lanes[1] = add_square(lanes[1], four.y);
        lanes[2] = add_square(lanes[2], four.z);
        lanes[3] = add_square(lanes[3], four.w);
    }
    double total = block_total((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

// *sum += parts[0] + ... + parts[count - 1]
static __global__ void __launch_bounds__(THREADS) add_parts_kernel(double *sum, const double *parts, int count) {
    double mine = 0;
    for (int p = threadIdx.x; p < count; p += THREADS) mine += parts[p];
    double total = block_total(mine);
    if (threadIdx.x == 0) *sum += total;
}

void cuda_sum_squares(Backend *b, double *sum, const float *values, int64_t count, Stream *stream) {
    if (count == 0) return;
    cudaStream_t queue = cuda_stream(b, stream);
    double *parts = cuda_backend(b)->square_parts;
    int64_t part = round_up((count + SQUARES_PARTS - 1) / SQUARES_PARTS, LEAST_PART);
    unsigned used = cuda_blocks(count, part);
    bool vectors = reinterpret_cast<uintptr_t>(values) % sizeof(float4) == 0;
    LAUNCH(square_parts_kernel, used, THREADS, 0, queue, parts, values, count, part, vectors);
    LAUNCH(add_parts_kernel, 1, THREADS, 0, queue, sum, parts, static_cast<int>(used));
    cuda_launched(b, "sum_squares");
}

// ---- losses --------------------------------------------------------------------------------------------------------

// One thread adds, in order; the others fetch what comes next for it.
static __global__ void __launch_bounds__(THREADS) sum_losses_kernel(double *sum, const float *losses, int64_t count) {
    SHARED(float, next, [THREADS]);
    double total = 0;
    for (int64_t start = 0; start < count; start += THREADS) {
        if (start + threadIdx.x < count) next[threadIdx.x] = losses[start + threadIdx.x];
        __syncthreads();
        int some = static_cast<int>(count - start < THREADS ? count - start : THREADS);
        for (int i = 0; i < some && threadIdx.x == 0; i++) total += next[i];
        __syncthreads();
    }
    if (threadIdx.x == 0) *sum += total;
}

void cuda_sum_losses(Backend *b, double *sum, const float *losses, int64_t count, Stream *stream) {
    if (count == 0) return;
    LAUNCH(sum_losses_kernel, 1, THREADS, 0, cuda_stream(b, stream), sum, losses, count);
    cuda_launched(b, "sum_losses");
}

// ---- the clip -------------------------------------------------------------------------------------------------------

static __global__ void clip_finish_kernel(float *norm, float *clip_scale, int32_t *skip, const double *squares,
                                          int64_t count, const double *loss, float max_norm) {
    double total = 0;
    for (int64_t i = 0; i < count; i++) total += squares[i];
    float length = static_cast<float>(sqrt(total));
    float scale = max_norm / (length + 1e-6f);
    *norm = length;
    *clip_scale = max_norm > 0 && scale < 1.0f ? scale : 1.0f;
    *skip = !isfinite(length) || !isfinite(*loss);
}

void cuda_clip_finish(Backend *b, float *norm, float *clip_scale, int32_t *skip, const double *squares, int64_t count,
                      const double *loss, float max_norm, Stream *stream) {
    LAUNCH(clip_finish_kernel, 1, 1, 0, cuda_stream(b, stream), norm, clip_scale, skip, squares, count, loss, max_norm);
    cuda_launched(b, "clip_finish");
}
