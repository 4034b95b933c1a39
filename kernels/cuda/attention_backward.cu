// attention_backward.cu - gradients of attention, without atomics: every sum has one owner and a fixed order.
//
// With P = softmax(scale Q K^T), computed again from the log-sum-exp of the forward pass, and O = P V:
//   delta = row sums of dO O      dV = P^T dO      dP = dO V^T      dS = P (dP - delta)
//   dQ = scale dS K      dK = scale dS^T Q
// Three kernels: delta; dK and dV, where a block owns keys and walks over the queries that see them; dQ, where a block
// owns queries and walks over the keys that they see. Scores and dP are computed twice, 7 products where one kernel
// would need 5, but that one would have to add to dQ from many blocks (docs/attention.md).
#include "kernels/cuda/attention_key_gradients.cuh"
#include "kernels/cuda/attention_query_gradients.cuh"

constexpr int DELTA_WARPS = 8;

// The sum of two products of bf16 pairs
DEVICE float dot_of_pairs(uint32_t a, uint32_t b) {
    const float2 x = unpack_pair(a), y = unpack_pair(b);
    return fmaf(x.x, y.x, x.y * y.y);
}

// delta[head][token] = sum of dout * out over the head. One warp a row, a lane per chunk of the head.
static __global__ void __launch_bounds__(32 * DELTA_WARPS)
    attention_delta_kernel(float *delta, const Element *dout, const Element *out, AttentionShape shape) {
    const int64_t row = (int64_t)blockIdx.x * DELTA_WARPS + warp_id();
    if (row >= (int64_t)sequences_end(shape) * shape.heads) return; // the whole warp
    float sum = 0;
    if (lane_id() * CHUNK < shape.head_dim) {
        const int64_t at = row * shape.head_dim + lane_id() * CHUNK;
        const uint4 x = *reinterpret_cast<const uint4 *>(dout + at), y = *reinterpret_cast<const uint4 *>(out + at);
        sum = dot_of_pairs(x.x, y.x) + dot_of_pairs(x.y, y.y) + dot_of_pairs(x.z, y.z) + dot_of_pairs(x.w, y.w);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, distance);
    if (lane_id() == 0) delta[row % shape.heads * shape.tokens + row / shape.heads] = sum;
}

template <int D>
static void launch_gradients(const BackwardData &data, const AttentionShape &shape, cudaStream_t stream) {
    typedef KeyGradientConfig<D> Keys;
    const dim3 key_grid(cuda_blocks(shape.tokens, Keys::KEYS), (unsigned)shape.kv_heads);
    allow_shared_bytes(attention_key_gradients_kernel<D>, Keys::SHARED_BYTES);
    LAUNCH((attention_key_gradients_kernel<D>), key_grid, Keys::THREADS, Keys::SHARED_BYTES, stream, data, shape);

    typedef QueryGradientConfig<D> Queries;
    const dim3 query_grid(cuda_blocks(shape.tokens, Queries::QUERIES), (unsigned)shape.heads);
    allow_shared_bytes(attention_query_gradients_kernel<D>, Queries::SHARED_BYTES);
    LAUNCH((attention_query_gradients_kernel<D>), query_grid, Queries::THREADS, Queries::SHARED_BYTES, stream, data,
           shape);
}

void cuda_attention_backward(Backend *b, Activation *dqkv, const Activation *dout, const Activation *qkv,
                             const Activation *out, const float *lse, void *scratch, const AttentionShape *shape,
                             Stream *stream) {
    if (shape->tokens == 0) return;
    float *delta = static_cast<float *>(scratch);
    const BackwardData data = {static_cast<Element *>(dqkv), static_cast<const Element *>(dout),
                               static_cast<const Element *>(qkv), lse, delta};
    const cudaStream_t queue = cuda_stream(b, stream);
    with_tile_width(b, "attention_backward", shape->head_dim, [&](auto width) {
        const unsigned blocks = cuda_blocks(shape->tokens * shape->heads, DELTA_WARPS);
        LAUNCH(attention_delta_kernel, blocks, 32 * DELTA_WARPS, 0, queue, delta, data.dout,
               static_cast<const Element *>(out), *shape);
        launch_gradients<decltype(width)::WIDTH>(data, *shape, queue);
    });
    cuda_launched(b, "attention_backward");
}
