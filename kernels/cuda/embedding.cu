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

// ---- rows that were summed elsewhere -------------------------------------------------------------------------------

static __device__ __forceinline__ float add(float a, float b) {
    return a + b;
}

static __device__ __forceinline__ float4 add(float4 a, float4 b) {
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// blockIdx.x is the row of the table. A vector is four floats or one.
template <class Vector>
static __global__ void __launch_bounds__(PACK_THREADS)
    add_rows_kernel(Vector *table, const Vector *rows, const int32_t *places, int64_t vectors) {
    const int64_t row = blockIdx.x, place = places[row], vector = pack_in_row();
    if (place < 0 || vector >= vectors) return;
    Vector *to = table + row * vectors + vector;
    *to = add(*to, rows[place * vectors + vector]);
}

template <class Vector>
static void add_rows(Backend *b, float *table, const float *rows, const int32_t *places, int64_t count, int64_t d,
                     Stream *stream) {
    const int64_t vectors = d / static_cast<int64_t>(sizeof(Vector) / sizeof(float));
    const RowLaunch launch = row_launch(count, vectors);
    LAUNCH((add_rows_kernel<Vector>), launch.grid, launch.threads, 0, cuda_stream(b, stream),
           reinterpret_cast<Vector *>(table), reinterpret_cast<const Vector *>(rows), places, vectors);
}

void cuda_add_rows(Backend *b, float *table, const float *rows, const int32_t *places, int64_t count, int64_t d,
                   Stream *stream) {
    if (count == 0) return;
    const uintptr_t addresses = reinterpret_cast<uintptr_t>(table) | reinterpret_cast<uintptr_t>(rows);
    auto add_all = d % 4 == 0 && addresses % sizeof(float4) == 0 ? add_rows<float4> : add_rows<float>;
    add_all(b, table, rows, places, count, d, stream);
    cuda_launched(b, "add_rows");
}
