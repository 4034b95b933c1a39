// to_float.cu - activations as floats, for logits that the host samples from.
#include "kernels/cuda/backend.h"

#define THREADS 256

static __global__ void __launch_bounds__(THREADS) to_float_kernel(float *out, const __nv_bfloat16 *x, int64_t count) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (i < count) out[i] = __bfloat162float(x[i]);
}

void cuda_to_float(Backend *b, float *out, const Activation *x, int64_t count, Stream *stream) {
    if (count == 0) return;
    LAUNCH(to_float_kernel, cuda_blocks(count, THREADS), THREADS, 0, cuda_stream(b, stream), out,
           static_cast<const __nv_bfloat16 *>(x), count);
    cuda_launched(b, "to_float");
}
