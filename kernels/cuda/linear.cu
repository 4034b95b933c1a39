// linear.cu - the three matrix products of a linear layer, its bias gradient, and the rate of the library behind them.
#include "base/random.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/gemm.h"
#include <stdlib.h>

#define COLUMNS 32  // of the bias gradient that a block sums
#define STRIPES 16  // rows t, t + STRIPES, ... are summed by one thread
#define THREADS 256 // of the kernel that fills matrices

static void multiply(Backend *b, const char *operation, const GemmCall *call, Stream *stream) {
    Error error;
    bool good = gemm_multiply(cuda_backend(b)->gemm, call, cuda_stream(b, stream), &error);
    cuda_launched(b, operation); // CUDA's own reason comes before the library's
    if (!good) cuda_fail(b, &error);
}

void cuda_linear_forward(Backend *b, Activation *out, const Activation *x, const bf16 *weight, const bf16 *bias,
                         const Activation *add, int64_t tokens, int64_t n, int64_t k, int64_t stride, Stream *stream) {
    if (tokens <= 0) return;
    GemmCall call = {};
    call.layout = GEMM_FORWARD;
    call.m = tokens, call.n = n, call.k = k;
    call.first = static_cast<const bf16 *>(x), call.first_stride = k;
    call.second = weight, call.second_stride = k;
    call.out = out, call.out_stride = stride;
    call.add = add;
    call.bias = bias;
    multiply(b, "linear_forward", &call, stream);
}

void cuda_linear_backward_input(Backend *b, Activation *dx, const Activation *dout, const bf16 *weight, int64_t tokens,
                                int64_t n, int64_t k, int64_t stride, Stream *stream) {
    if (tokens <= 0) return;
    GemmCall call = {};
    call.layout = GEMM_BACKWARD_INPUT;
    call.m = tokens, call.n = k, call.k = n;
    call.first = static_cast<const bf16 *>(dout), call.first_stride = stride;
    call.second = weight, call.second_stride = k;
    call.out = dx, call.out_stride = k;
    multiply(b, "linear_backward_input", &call, stream);
}

// Column sums of dout [tokens, stride]: a thread sums every STRIPES-th row, the stripes are added in a fixed tree.
static __global__ void __launch_bounds__(COLUMNS *STRIPES)
    bias_gradient_kernel(float *gradient, const __nv_bfloat16 *dout, int64_t tokens, int64_t n, int64_t stride) {
    SHARED(float, sums, [STRIPES][COLUMNS]);
    int64_t column = static_cast<int64_t>(blockIdx.x) * COLUMNS + threadIdx.x;
    float sum = 0;
    if (column < n)
        for (int64_t t = threadIdx.y; t < tokens; t += STRIPES) sum += __bfloat162float(dout[t * stride + column]);
    sums[threadIdx.y][threadIdx.x] = sum;
    for (unsigned half = STRIPES / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half) sums[threadIdx.y][threadIdx.x] += sums[threadIdx.y + half][threadIdx.x];
    }
    if (threadIdx.y == 0 && column < n) gradient[column] += sums[0][threadIdx.x];
}

void cuda_linear_backward_weight(Backend *b, float *gradient, float *bias_gradient, const Activation *dout,
                                 const Activation *x, int64_t tokens, int64_t n, int64_t k, int64_t stride,
                                 Stream *stream) {
    if (tokens <= 0) return;
    GemmCall call = {};
    call.layout = GEMM_BACKWARD_WEIGHT;
    call.m = n, call.n = k, call.k = tokens;
    call.first = static_cast<const bf16 *>(dout), call.first_stride = stride;
    call.second = static_cast<const bf16 *>(x), call.second_stride = k;
    call.out = gradient, call.out_stride = k;
    call.add = gradient;
    call.sums = true;
    multiply(b, "linear_backward_weight", &call, stream);
    if (!bias_gradient) return;
    LAUNCH(bias_gradient_kernel, cuda_blocks(n, COLUMNS), dim3(COLUMNS, STRIPES), 0, cuda_stream(b, stream),
           bias_gradient, static_cast<const __nv_bfloat16 *>(dout), tokens, n, stride);
    cuda_launched(b, "linear_backward_weight (bias)");
}

// ---- measuring ------------------------------------------------------------------------------------------------------

// Values as in a network: a card computes zeros faster than numbers.
static __global__ void __launch_bounds__(THREADS) fill_kernel(__nv_bfloat16 *values, int64_t count) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < count) values[i] = __float2bfloat16_rn(static_cast<float>(random_uniform(1, i)) - 0.5f);
}

static int compare_times(const void *a, const void *b) {
    float x = *static_cast<const float *>(a), y = *static_cast<const float *>(b);
    return (x > y) - (x < y);
}

// Runs the call `repeats` times after a first one that loads its kernel; times in milliseconds.
static void time_calls(Backend *b, const GemmCall *call, cudaEvent_t start, cudaEvent_t stop, float *times,
                       int repeats) {
    cudaStream_t stream = cuda_stream(b, NULL);
    for (int i = -1; i < repeats; i++) {
        float time = 0;
        cuda_note(b, "gemm_seconds", cudaEventRecord(start, stream));
        multiply(b, "gemm_seconds", call, NULL);
        cuda_note(b, "gemm_seconds", cudaEventRecord(stop, stream));
        cuda_note(b, "gemm_seconds", cudaEventSynchronize(stop));
        cuda_note(b, "gemm_seconds", cudaEventElapsedTime(&time, start, stop));
        if (i >= 0) times[i] = time;
    }
}

bool cuda_gemm_seconds(Backend *b, GemmLayout layout, int64_t m, int64_t n, int64_t k, int repeats, double *seconds,
                       Error *error) {
    GemmCall call = {};
    call.layout = layout;
    call.m = m, call.n = n, call.k = k;
    call.first_stride = layout == GEMM_BACKWARD_WEIGHT ? m : k;
    call.second_stride = layout == GEMM_FORWARD ? k : n;
    call.out_stride = n;
    call.sums = layout == GEMM_BACKWARD_WEIGHT;
    int64_t inputs = m * k + k * n, out_start = (inputs * 2 + 255) / 256 * 256; // elements, bytes
    size_t bytes = static_cast<size_t>(out_start) + static_cast<size_t>(m * n) * (call.sums ? 4 : 2);
    void *memory = NULL;
    cudaEvent_t start = NULL, stop = NULL;
    float *times = static_cast<float *>(calloc(static_cast<size_t>(repeats), sizeof *times));
    bool good = times ? b->allocate(b, MEMORY_DEVICE, bytes, &memory, error)
                      : error_memory(error, "the measured times", static_cast<size_t>(repeats) * sizeof *times);
    if (good) {
        cuda_note(b, "gemm_seconds", cudaEventCreate(&start));
        cuda_note(b, "gemm_seconds", cudaEventCreate(&stop));
        b->zero(b, memory, bytes, NULL);
        LAUNCH(fill_kernel, cuda_blocks(inputs, THREADS), THREADS, 0, cuda_stream(b, NULL),
               static_cast<__nv_bfloat16 *>(memory), inputs);
        call.first = static_cast<const bf16 *>(memory);
        call.second = call.first + m * k;
        call.out = static_cast<char *>(memory) + out_start;
        if (call.sums) call.add = call.out;
        time_calls(b, &call, start, stop, times, repeats);
        qsort(times, static_cast<size_t>(repeats), sizeof *times, compare_times);
        *seconds = times[repeats / 2] * 1e-3;
        good = b->check(b, error);
    }
    if (start) cudaEventDestroy(start);
    if (stop) cudaEventDestroy(stop);
    b->release(b, MEMORY_DEVICE, memory);
    free(times);
    return good;
}
