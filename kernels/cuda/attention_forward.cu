// attention_forward.cu - causal attention over packed sequences, in the order of work of FlashAttention-2 (Dao 2023).
//
// A block computes QUERIES rows of one query head, 16 per warp, and walks once over the keys that these rows see. Tiles
// of keys and values are double buffered; scores exist one tile at a time, in registers.
#include "kernels/cuda/attention_intervals.cuh"
#include "kernels/cuda/attention_softmax.cuh"

template <int D> struct ForwardConfig {
    static constexpr int WARPS = 8;
    static constexpr int THREADS = 32 * WARPS;
    static constexpr int QUERIES = WARP_ROWS * WARPS;
    static constexpr int KEYS = D == 128 ? 64 : D == 256 ? 16 : 32; // of a tile
    static constexpr int BLOCKS = D <= 64 ? 2 : 1;                  // at least, per processor: 2 leave 128 registers
    static constexpr bool HELD = D <= 128;                          // queries stay in registers
    static constexpr int SHARED_BYTES = (QUERIES + 4 * KEYS) * D * (int)sizeof(Element);
};

template <int D> struct ForwardTiles {
    Element *queries; // [QUERIES][D], in the end the output on its way out
    Element *keys;    // [2][KEYS][D]
    Element *values;  // [2][KEYS][D]

    __device__ __forceinline__ explicit ForwardTiles(Element *shared)
        : queries(shared), keys(queries + ForwardConfig<D>::QUERIES * D),
          values(keys + 2 * ForwardConfig<D>::KEYS * D) {
    }
};

// The output of a warp's rows and their log-sum-exp; 0 for rows that see nothing.
template <int D>
DEVICE void store_output(OutputRows out, float *lse, int warp_query, const AttentionShape &shape, const Sums<D> &sums,
                         const OnlineSoftmax &softmax, Element *staging) {
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int query = warp_query + lane_row() + 8 * half;
        const float sum = sum_of_row(softmax.sum[half]);
        inverse[half] = sum > 0 ? 1.0f / sum : 0.0f;
        if (lane_column() == 0 && query < shape.tokens)
            lse[query] = sum > 0 ? fmaf(softmax.maximum[half], shape.scale, logf(sum)) : 0.0f;
    }
    store_rows<D>(out, warp_query, (int)shape.tokens, sums, inverse, staging);
}

// grid: (tiles of QUERIES tokens, heads)
template <int D>
static __global__ void __launch_bounds__(ForwardConfig<D>::THREADS, ForwardConfig<D>::BLOCKS)
    attention_forward_kernel(Element *out, float *lse, const Element *qkv, AttentionShape shape) {
    typedef ForwardConfig<D> Config;
    constexpr int QUERIES = Config::QUERIES, KEYS = Config::KEYS, THREADS = Config::THREADS;
    DYNAMIC_SHARED(Element, shared);
    const ForwardTiles<D> tiles(shared);
    const int head = blockIdx.y, kv_head = head / (shape.heads / shape.kv_heads);
    const int first_query = (int)(gridDim.x - 1 - blockIdx.x) * QUERIES; // late queries see most keys: they start first
    const int warp_query = first_query + warp_id() * WARP_ROWS, lane_query = warp_query + lane_row();
    const int end = sequences_end(shape), end_key = min(first_query + QUERIES, end);
    const int first_key = visible_keys(shape, first_query).begin;
    const WarpView view(visible_keys(shape, lane_query), visible_keys(shape, lane_query + 8));
    const InputRows keys = key_rows(qkv, shape, kv_head), values = value_rows(qkv, shape, kv_head);

    auto load_keys = [&](int key, int stage) {
        load_tile<D, KEYS, THREADS>(tiles.keys + stage * KEYS * D, keys, key, end);
        load_tile<D, KEYS, THREADS>(tiles.values + stage * KEYS * D, values, key, end);
        cp_async_commit();
    };
    load_tile<D, QUERIES, THREADS>(tiles.queries, query_rows(qkv, shape, head), first_query, end);
    cp_async_commit();
    load_keys(first_key, 0);
    cp_async_wait<1>();
    __syncthreads(); // the queries have arrived
    Element *warp_rows = tiles.queries + warp_id() * WARP_ROWS * D;
    const RowOperand<D, Config::HELD> queries(warp_rows);

    OnlineSoftmax softmax;
    Sums<D> sums = {};
    int stage = 0;
    for (int key = first_key; key < end_key; key += KEYS, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads(); // this tile has arrived, and no warp reads the one before any more
        if (key + KEYS < end_key) load_keys(key + KEYS, stage ^ 1);
        const Interval columns = {key, key + KEYS};
        if (!view.some(columns)) continue;
        Sums<KEYS> scores = {};
        multiply_transposed(scores, queries, tiles.keys + stage * KEYS * D);
        if (!view.all(columns)) mask_scores(scores, view, key);
        update_softmax(softmax, scores, sums, shape.scale * LOG2_E);
        multiply<D>(sums, round_to_operand(scores), tiles.values + stage * KEYS * D);
    }
    store_output(output_rows(out, shape, head), lse + head * shape.tokens, warp_query, shape, sums, softmax, warp_rows);
}

template <int D>
static void launch_forward(Element *out, float *lse, const Element *qkv, const AttentionShape &shape,
                           cudaStream_t stream) {
    typedef ForwardConfig<D> Config;
    const dim3 grid(cuda_blocks(shape.tokens, Config::QUERIES), (unsigned)shape.heads);
    allow_shared_bytes(attention_forward_kernel<D>, Config::SHARED_BYTES);
    LAUNCH((attention_forward_kernel<D>), grid, Config::THREADS, Config::SHARED_BYTES, stream, out, lse, qkv, shape);
}

void cuda_attention_forward(Backend *b, Activation *out, float *lse, const Activation *qkv, const AttentionShape *shape,
                            Stream *stream) {
    if (shape->tokens == 0) return;
    with_tile_width(b, "attention_forward", shape->head_dim, [&](auto width) {
        launch_forward<decltype(width)::WIDTH>(static_cast<Element *>(out), lse, static_cast<const Element *>(qkv),
                                               *shape, cuda_stream(b, stream));
    });
    cuda_launched(b, "attention_forward");
}
