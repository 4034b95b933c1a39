// cross_entropy.cu - the loss of each row of logits, and its gradient in place of the logits.
//
// A block takes a row. The first pass keeps the largest logit so far and the sum of exponentials below it together and
// rescales the sum when the largest grows (Milakov & Gimelshein, arXiv 1805.02867); the second reads the row again,
// mostly from the second-level cache, and writes the gradient. Everything between is float.
//
// A row is cut into groups of eight columns; thread t takes the groups t, t + THREADS, ... in both passes, so no thread
// writes what another one reads. Rows that are not aligned for vectors, and the group at the vocabulary's end, are read
// one column at a time.
#include "kernels/cuda/backend.h"
#include <math.h>

#define THREADS 512
#define WARPS   (THREADS / 32)
#define EIGHT   8 // columns of a group

typedef struct Logits {
    __nv_bfloat16 *values; // [rows, stride]
    int64_t vocabulary;    // columns that are used
    int64_t stride;
    bool vectors; // every row is aligned for them
} Logits;

// ---- eight columns --------------------------------------------------------------------------------------------------

// Columns j .. j + 7 of a row; -infinity, whose exponential is 0, beyond the vocabulary.
static __device__ __forceinline__ void load_eight(float x[EIGHT], const Logits *logits, const __nv_bfloat16 *row,
                                                  int64_t j) {
    if (logits->vectors && j + EIGHT <= logits->vocabulary) {
        uint4 packed = *reinterpret_cast<const uint4 *>(row + j);
        uint32_t pairs[EIGHT / 2] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
        for (int k = 0; k < EIGHT; k++) x[k] = float_from_bits(k % 2 ? pairs[k / 2] & 0xffff0000u : pairs[k / 2] << 16);
        return;
    }
#pragma unroll
    for (int k = 0; k < EIGHT; k++) x[k] = j + k < logits->vocabulary ? __bfloat162float(row[j + k]) : -INFINITY;
}

static __device__ __forceinline__ uint32_t pack_pair(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&pair);
}

static __device__ __forceinline__ void store_eight(const Logits *logits, __nv_bfloat16 *row, int64_t j,
                                                   const float x[EIGHT]) {
    if (logits->vectors && j + EIGHT <= logits->stride) {
        *reinterpret_cast<uint4 *>(row + j) =
            make_uint4(pack_pair(x[0], x[1]), pack_pair(x[2], x[3]), pack_pair(x[4], x[5]), pack_pair(x[6], x[7]));
        return;
    }
#pragma unroll
    for (int k = 0; k < EIGHT; k++)
        if (j + k < logits->stride) row[j + k] = __float2bfloat16_rn(x[k]);
}

// ---- the softmax of a row ----------------------------------------------------------------------------------------

// The largest logit of some columns and the sum of exp(logit - top) over them. The top of no columns is finite, so that
// top - top is 0 and not NaN. A NaN among the logits is passed over by top and makes the sum NaN.
typedef struct Softmax {
    float top, sum;
} Softmax;

#define LEAST_TOP (-3.0e38f)

static __device__ __forceinline__ void add_eight(Softmax *softmax, const float x[EIGHT]) {
    float top = softmax->top;
#pragma unroll
    for (int k = 0; k < EIGHT; k++) top = fmaxf(top, x[k]);
    softmax->sum *= __expf(softmax->top - top);
#pragma unroll
    for (int k = 0; k < EIGHT; k++) softmax->sum += __expf(x[k] - top);
    softmax->top = top;
}

static __device__ __forceinline__ void merge(Softmax *softmax, float top, float sum) {
    float both = fmaxf(softmax->top, top);
    softmax->sum = softmax->sum * __expf(softmax->top - both) + sum * __expf(top - both);
    softmax->top = both;
}

// That of all threads' columns: the lanes of a warp as a butterfly, then the warps in order. Each thread gets it.
static __device__ __forceinline__ void merge_block(Softmax *softmax) {
    SHARED(float, tops, [WARPS]);
    SHARED(float, sums, [WARPS]);
#pragma unroll
    for (int distance = 16; distance; distance /= 2) {
        float top = __shfl_xor_sync(0xffffffffu, softmax->top, distance);
        float sum = __shfl_xor_sync(0xffffffffu, softmax->sum, distance);
        merge(softmax, top, sum);
    }
    if (threadIdx.x % 32 == 0) {
        tops[threadIdx.x / 32] = softmax->top;
        sums[threadIdx.x / 32] = softmax->sum;
    }
    __syncthreads();
    float top = tops[0], sum = 0;
    for (int w = 1; w < WARPS; w++) top = fmaxf(top, tops[w]);
    for (int w = 0; w < WARPS; w++) sum += sums[w] * __expf(tops[w] - top);
    softmax->top = top;
    softmax->sum = sum;
}

// ---- rows -----------------------------------------------------------------------------------------------------------

static __device__ __forceinline__ void zero_row(const Logits *logits, __nv_bfloat16 *row) {
    const float zeros[EIGHT] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int64_t j = threadIdx.x * EIGHT; j < logits->stride; j += THREADS * EIGHT) store_eight(logits, row, j, zeros);
}

// The row becomes scale * (softmax - onehot), 0 beyond the vocabulary.
static __device__ __forceinline__ void write_gradient(const Logits *logits, __nv_bfloat16 *row, Softmax softmax,
                                                      int32_t label, float scale) {
    float factor = scale / softmax.sum;
    for (int64_t j = threadIdx.x * EIGHT; j < logits->stride; j += THREADS * EIGHT) {
        float x[EIGHT];
        load_eight(x, logits, row, j);
#pragma unroll
        for (int k = 0; k < EIGHT; k++) {
            x[k] = j + k < logits->vocabulary ? __expf(x[k] - softmax.top) * factor : 0.0f;
            if (j + k == label) x[k] -= scale;
        }
        store_eight(logits, row, j, x);
    }
}

static __global__ void __launch_bounds__(THREADS)
    cross_entropy_kernel(Logits logits, float *losses, const int32_t *labels, float scale, bool gradient) {
    __nv_bfloat16 *row = logits.values + static_cast<int64_t>(blockIdx.x) * logits.stride;
    int32_t label = labels[blockIdx.x];
    if (label == LABEL_IGNORED) { // the same for all threads of the block
        if (threadIdx.x == 0) losses[blockIdx.x] = 0;
        if (gradient) zero_row(&logits, row);
        return;
    }
    float target = threadIdx.x == 0 ? __bfloat162float(row[label]) : 0; // before anyone overwrites it
    Softmax softmax = {LEAST_TOP, 0};
    for (int64_t j = threadIdx.x * EIGHT; j < logits.vocabulary; j += THREADS * EIGHT) {
        float x[EIGHT];
        load_eight(x, &logits, row, j);
        add_eight(&softmax, x);
    }
    merge_block(&softmax);
    if (threadIdx.x == 0) losses[blockIdx.x] = logf(softmax.sum) + (softmax.top - target);
    if (gradient) write_gradient(&logits, row, softmax, label, scale);
}

void cuda_cross_entropy(Backend *b, Activation *logits, float *losses, const int32_t *labels, float scale,
                        bool gradient, int64_t count, int64_t vocabulary, int64_t stride, Stream *stream) {
    if (count == 0) return;
    Logits rows = {static_cast<__nv_bfloat16 *>(logits), vocabulary, stride, false};
    rows.vectors = stride % EIGHT == 0 && reinterpret_cast<uintptr_t>(logits) % sizeof(uint4) == 0;
    LAUNCH(cross_entropy_kernel, static_cast<unsigned>(count), THREADS, 0, cuda_stream(b, stream), rows, losses, labels,
           scale, gradient);
    cuda_launched(b, "cross_entropy");
}
