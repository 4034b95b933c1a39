// attention_query_gradients.cuh - dQ.
//
// A block owns QUERIES queries of one head, 16 per warp, and walks over the keys that they see as the forward pass
// does. lse and delta are numbers of a lane's two rows.
#pragma once
#include "kernels/cuda/attention_gradients.cuh"

template <int D> struct QueryGradientConfig {
    static constexpr int WARPS = D > 128 ? 4 : 8;
    static constexpr int THREADS = 32 * WARPS;
    static constexpr int QUERIES = WARP_ROWS * WARPS;
    static constexpr int KEYS = D > 192 ? 16 : 32; // of a tile
    static constexpr int BLOCKS = D <= 64 ? 2 : 1; // at least, per processor: 2 leave 128 registers
    static constexpr bool HELD = D <= 128;         // queries and dO stay in registers
    static constexpr int SHARED_BYTES = (2 * QUERIES + 4 * KEYS) * D * (int)sizeof(Element);
};

template <int D> struct QueryGradientTiles {
    Element *queries; // [QUERIES][D], in the end dQ on its way out
    Element *douts;   // [QUERIES][D]
    Element *keys;    // [2][KEYS][D]
    Element *values;  // [2][KEYS][D]

    __device__ __forceinline__ explicit QueryGradientTiles(Element *shared) {
        typedef QueryGradientConfig<D> Config;
        queries = shared;
        douts = queries + Config::QUERIES * D;
        keys = douts + Config::QUERIES * D;
        values = keys + 2 * Config::KEYS * D;
    }
};

// Scores become probabilities.
template <int KEYS>
DEVICE void probabilities_of_rows(Sums<KEYS> &scores, const RowStatistics rows[2], float scale_log2) {
#pragma unroll
    for (int t = 0; t < scores.TILES; t++) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            scores.tile[t][i] = exp2_approx(fmaf(scores.tile[t][i], scale_log2, -rows[i >> 1].lse_log2));
    }
}

// dP becomes dS.
template <int KEYS>
DEVICE void score_gradients_of_rows(Sums<KEYS> &gradients, const Sums<KEYS> &probabilities,
                                    const RowStatistics rows[2]) {
#pragma unroll
    for (int t = 0; t < gradients.TILES; t++) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            gradients.tile[t][i] = probabilities.tile[t][i] * (gradients.tile[t][i] - rows[i >> 1].delta);
    }
}

// What a warp owns: 16 queries.
template <int D> struct QueryGradientWarp {
    typedef QueryGradientConfig<D> Config;
    WarpView view; // of the keys
    RowOperand<D, Config::HELD> queries, douts;
    RowStatistics rows[2]; // of this lane
    float scale_log2;
    Sums<D> dq;

    // Adds what the keys of a tile, from first_key on, contribute.
    __device__ __forceinline__ void add(const QueryGradientTiles<D> &tiles, int stage, int first_key) {
        constexpr int KEYS = Config::KEYS;
        const Interval columns = {first_key, first_key + KEYS};
        if (!view.some(columns)) return;
        const Element *keys = tiles.keys + stage * KEYS * D;
        Sums<KEYS> p = {}, ds = {};
        multiply_transposed(p, queries, keys);
        if (!view.all(columns)) mask_scores(p, view, first_key);
        probabilities_of_rows(p, rows, scale_log2);
        multiply_transposed(ds, douts, tiles.values + stage * KEYS * D);
        score_gradients_of_rows(ds, p, rows);
        multiply<D>(dq, round_to_operand(ds), keys);
    }
};

// grid: (tiles of QUERIES tokens, heads)
template <int D>
static __global__ void __launch_bounds__(QueryGradientConfig<D>::THREADS, QueryGradientConfig<D>::BLOCKS)
    attention_query_gradients_kernel(BackwardData data, AttentionShape shape) {
    typedef QueryGradientConfig<D> Config;
    constexpr int QUERIES = Config::QUERIES, KEYS = Config::KEYS, THREADS = Config::THREADS;
    DYNAMIC_SHARED(Element, shared);
    const QueryGradientTiles<D> tiles(shared);
    const int head = blockIdx.y, kv_head = head / (shape.heads / shape.kv_heads);
    const int first_query = (int)(gridDim.x - 1 - blockIdx.x) * QUERIES; // late queries see most keys: they start first
    const int warp_row = warp_id() * WARP_ROWS, lane_query = first_query + warp_row + lane_row();
    const int end = sequences_end(shape), end_key = min(first_query + QUERIES, end);
    const int first_key = visible_keys(shape, first_query).begin;
    const InputRows keys = key_rows(data.qkv, shape, kv_head), values = value_rows(data.qkv, shape, kv_head);

    auto load_keys = [&](int key, int stage) {
        load_tile<D, KEYS, THREADS>(tiles.keys + stage * KEYS * D, keys, key, end);
        load_tile<D, KEYS, THREADS>(tiles.values + stage * KEYS * D, values, key, end);
        cp_async_commit();
    };
    load_tile<D, QUERIES, THREADS>(tiles.queries, query_rows(data.qkv, shape, head), first_query, end);
    load_tile<D, QUERIES, THREADS>(tiles.douts, output_rows(data.dout, shape, head), first_query, end);
    cp_async_commit();
    load_keys(first_key, 0);
    cp_async_wait<1>();
    __syncthreads(); // queries and dO have arrived
    Element *warp_queries = tiles.queries + warp_row * D;
    QueryGradientWarp<D> warp = {
        WarpView(visible_keys(shape, lane_query), visible_keys(shape, lane_query + 8)),
        RowOperand<D, Config::HELD>(warp_queries),
        RowOperand<D, Config::HELD>(tiles.douts + warp_row * D),
        {row_statistics(data, shape, head, lane_query), row_statistics(data, shape, head, lane_query + 8)},
        shape.scale * LOG2_E,
        {},
    };
    int stage = 0;
    for (int key = first_key; key < end_key; key += KEYS, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads(); // this tile has arrived, and no warp reads the one before any more
        if (key + KEYS < end_key) load_keys(key + KEYS, stage ^ 1);
        warp.add(tiles, stage, key);
    }

    const float factor[2] = {shape.scale, shape.scale};
    store_rows<D>(query_rows(data.dqkv, shape, head), first_query + warp_row, (int)shape.tokens, warp.dq, factor,
                  warp_queries);
}
