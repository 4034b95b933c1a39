// embedding.cu - rows of the embedding table, and the gradient of the rows that occurred.
#include "kernels/cuda/packs.cuh"

// Table and activations are both bf16 here: the rows are copied as they are.
void cuda_embed_forward(Backend *b, Activation *out, const bf16 *table, const int32_t *ids, int64_t tokens, int64_t d,
                        Stream *stream) {
    cuda_gather_rows(b, out, table, ids, tokens, d, stream);
}

// A thread sums its columns of one row over that row's tokens, one after the other: no atomics, and as the sum starts
// from what is there, the bits of the CPU backend.
template <class Pack>
static __global__ void __launch_bounds__(PACK_THREADS)
    embed_backward_kernel(float *gradient, const Pack *dout, const int32_t *rows, const int32_t *starts,
                          const int32_t *order, int64_t packs) {
    constexpr int WIDTH = PACK_WIDTH<Pack>;
    const int64_t pack = pack_in_row();
    if (pack >= packs) return;
    float *to = gradient + (rows[blockIdx.x] * packs + pack) * WIDTH;
    float sums[WIDTH], values[WIDTH];
    load_floats(sums, to);
    const int32_t last = starts[blockIdx.x + 1];
#pragma unroll 4 // loads in flight: a frequent token's sum is long
    for (int32_t i = starts[blockIdx.x]; i < last; i++) {
        unpack(values, dout[order[i] * packs + pack]);
#pragma unroll
        for (int j = 0; j < WIDTH; j++) sums[j] += values[j];
    }
    store_floats(to, sums);
}

template <class Pack>
static void embed_backward(Backend *b, float *gradient, const Activation *dout, const int32_t *rows,
                           const int32_t *starts, const int32_t *order, int64_t row_count, int64_t d, Stream *stream) {
    const int64_t packs = d / PACK_WIDTH<Pack>;
    const RowLaunch launch = row_launch(row_count, packs);
    LAUNCH((embed_backward_kernel<Pack>), launch.grid, launch.threads, 0, cuda_stream(b, stream), gradient,
           static_cast<const Pack *>(dout), rows, starts, order, packs);
}

void cuda_embed_backward(Backend *b, float *gradient, const Activation *dout, const int32_t *rows,
                         const int32_t *starts, const int32_t *order, int64_t row_count, int64_t d, Stream *stream) {
    if (row_count == 0) return;
    auto backward = packs_fit(d, gradient, dout) ? embed_backward<uint4> : embed_backward<uint16_t>;
    backward(b, gradient, dout, rows, starts, order, row_count, d, stream);
    cuda_launched(b, "embed_backward");
}
