// fill_normal.cu - random weights, made on the card: a benchmark of a large model waits for no copy.
#include "base/random.h"
#include "kernels/cuda/backend.h"

#define THREADS 256

static __global__ void __launch_bounds__(THREADS)
    fill_normal_kernel(bf16 *out, int64_t count, float mean, float deviation, uint64_t key) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < count) out[i] = bf16_from_float(__fmaf_rn(deviation, random_normal(key, static_cast<uint64_t>(i)), mean));
}

void cuda_fill_normal(Backend *b, bf16 *out, int64_t count, float mean, float deviation, uint64_t key, Stream *stream) {
    if (count == 0) return;
    LAUNCH(fill_normal_kernel, cuda_blocks(count, THREADS), THREADS, 0, cuda_stream(b, stream), out, count, mean,
           deviation, key);
    cuda_launched(b, "fill_normal");
}
