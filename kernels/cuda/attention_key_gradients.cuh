// attention_key_gradients.cuh - dK and dV.
//
// A block owns KEYS keys of one key/value head and walks over the queries of all query heads of its group that see
// them, so that the sum over the group stays in registers. It works on transposed scores S^T = K Q^T: rows are keys,
// columns are queries, and P^T and dS^T are at once the left operands of dV += P^T dO and dK += dS^T Q. The sums of 16
// keys are two 16 x D matrices. In wide heads two warps share the keys: each computes all scores and adds to one half
// of the columns.
#pragma once
#include "kernels/cuda/attention_gradients.cuh"

template <int D> struct KeyGradientConfig {
    static constexpr int WARPS = 8;
    static constexpr int THREADS = 32 * WARPS;
    static constexpr int PARTS = D > 128 ? 2 : 1; // warps that share 16 keys
    static constexpr int COLUMNS = D / PARTS;     // of the sums of a warp
    static constexpr int KEYS = WARP_ROWS * WARPS / PARTS;
    static constexpr int QUERIES = D > 192 ? 16 : 32; // of a tile
    static constexpr bool HELD = D <= 64;             // keys and values stay in registers
    static constexpr int TILE_ELEMENTS = (2 * KEYS + 4 * QUERIES) * D;
    static constexpr int SHARED_BYTES = TILE_ELEMENTS * (int)sizeof(Element) + 4 * QUERIES * (int)sizeof(float);
};

template <int D> struct KeyGradientTiles {
    Element *keys;    // [KEYS][D], in the end dK on its way out
    Element *values;  // [KEYS][D], in the end dV
    Element *queries; // [2][QUERIES][D]
    Element *douts;   // [2][QUERIES][D]
    float *lse_log2;  // [2][QUERIES]
    float *delta;     // [2][QUERIES]

    __device__ __forceinline__ explicit KeyGradientTiles(Element *shared) {
        typedef KeyGradientConfig<D> Config;
        keys = shared;
        values = keys + Config::KEYS * D;
        queries = values + Config::KEYS * D;
        douts = queries + 2 * Config::QUERIES * D;
        lse_log2 = reinterpret_cast<float *>(douts + 2 * Config::QUERIES * D);
        delta = lse_log2 + 2 * Config::QUERIES;
    }
};

// The tiles of queries that a block walks over: those of the first head of the group, of the second, ...
struct QuerySteps {
    int first_head, first_query;
    int tiles_per_head, count;

    __device__ __forceinline__ QuerySteps(const AttentionShape &shape, int kv_head, Interval queries, int tile) {
        const int group = shape.heads / shape.kv_heads;
        first_head = kv_head * group;
        first_query = queries.begin;
        tiles_per_head = max(0, queries.end - queries.begin + tile - 1) / tile;
        count = group * tiles_per_head;
    }
    __device__ __forceinline__ int head(int step) const {
        return first_head + step / tiles_per_head;
    }
    __device__ __forceinline__ int query(int step, int tile) const {
        return first_query + step % tiles_per_head * tile;
    }
};

// Scores (transposed) become probabilities.
template <int QUERIES>
DEVICE void probabilities_of_columns(Sums<QUERIES> &scores, const float *lse_log2, float scale_log2) {
#pragma unroll
    for (int t = 0; t < scores.TILES; t++) {
        const float2 lse = *reinterpret_cast<const float2 *>(lse_log2 + 8 * t + lane_column());
#pragma unroll
        for (int i = 0; i < 4; i++)
            scores.tile[t][i] = exp2_approx(fmaf(scores.tile[t][i], scale_log2, i & 1 ? -lse.y : -lse.x));
    }
}

// dP (transposed) becomes dS.
template <int QUERIES>
DEVICE void score_gradients_of_columns(Sums<QUERIES> &gradients, const Sums<QUERIES> &probabilities,
                                       const float *delta) {
#pragma unroll
    for (int t = 0; t < gradients.TILES; t++) {
        const float2 d = *reinterpret_cast<const float2 *>(delta + 8 * t + lane_column());
#pragma unroll
        for (int i = 0; i < 4; i++)
            gradients.tile[t][i] = probabilities.tile[t][i] * (gradients.tile[t][i] - (i & 1 ? d.y : d.x));
    }
}

// What a warp owns: 16 keys, and of their gradients the columns from first_chunk on.
template <int D> struct KeyGradientWarp {
    typedef KeyGradientConfig<D> Config;
    WarpView view; // of the queries
    RowOperand<D, Config::HELD> keys, values;
    int first_chunk;
    float scale_log2;
    Sums<Config::COLUMNS> dk, dv;

    // Adds what the queries of a tile, from first_query on, contribute.
    __device__ __forceinline__ void add(const KeyGradientTiles<D> &tiles, int stage, int first_query) {
        constexpr int QUERIES = Config::QUERIES;
        const Interval columns = {first_query, first_query + QUERIES};
        if (!view.some(columns)) return;
        const Element *queries = tiles.queries + stage * QUERIES * D, *douts = tiles.douts + stage * QUERIES * D;
        Sums<QUERIES> p = {};
        multiply_transposed(p, keys, queries);
        if (!view.all(columns)) mask_scores(p, view, first_query);
        probabilities_of_columns(p, tiles.lse_log2 + stage * QUERIES, scale_log2);
        multiply<D>(dv, round_to_operand(p), douts, first_chunk);

        Sums<QUERIES> ds = {};
        multiply_transposed(ds, values, douts);
        score_gradients_of_columns(ds, p, tiles.delta + stage * QUERIES);
        multiply<D>(dk, round_to_operand(ds), queries, first_chunk);
    }
};

// Starts to load the queries of a step and what they need.
template <int D>
DEVICE void load_step(const KeyGradientTiles<D> &tiles, const BackwardData &data, const AttentionShape &shape,
                      const QuerySteps &steps, int step) {
    constexpr int QUERIES = KeyGradientConfig<D>::QUERIES, THREADS = KeyGradientConfig<D>::THREADS;
    const int head = steps.head(step), query = steps.query(step, QUERIES), at = (step & 1) * QUERIES * D;
    const int end = sequences_end(shape);
    load_tile<D, QUERIES, THREADS>(tiles.queries + at, query_rows(data.qkv, shape, head), query, end);
    load_tile<D, QUERIES, THREADS>(tiles.douts + at, output_rows(data.dout, shape, head), query, end);
    cp_async_commit();
}

// grid: (tiles of KEYS tokens, kv_heads)
template <int D>
static __global__ void __launch_bounds__(KeyGradientConfig<D>::THREADS)
    attention_key_gradients_kernel(BackwardData data, AttentionShape shape) {
    typedef KeyGradientConfig<D> Config;
    constexpr int QUERIES = Config::QUERIES, KEYS = Config::KEYS, THREADS = Config::THREADS;
    DYNAMIC_SHARED(Element, shared);
    const KeyGradientTiles<D> tiles(shared);
    const int kv_head = blockIdx.y, first_key = blockIdx.x * KEYS;
    const int warp_row = warp_id() / Config::PARTS * WARP_ROWS, lane_key = first_key + warp_row + lane_row();
    const int end = sequences_end(shape), last_key = min(first_key + KEYS, end) - 1;
    const int end_query = first_key < end ? visible_queries(shape, last_key).end : first_key;
    const QuerySteps steps(shape, kv_head, {first_key, end_query}, QUERIES);

    // The threads below QUERIES each have the numbers of one query of the next step under way.
    auto statistics = [&](int step) {
        return row_statistics(data, shape, steps.head(step), steps.query(step, QUERIES) + (int)threadIdx.x);
    };
    auto keep_statistics = [&](RowStatistics row, int stage) {
        tiles.lse_log2[stage * QUERIES + threadIdx.x] = row.lse_log2;
        tiles.delta[stage * QUERIES + threadIdx.x] = row.delta;
    };
    load_tile<D, KEYS, THREADS>(tiles.keys, key_rows(data.qkv, shape, kv_head), first_key, end);
    load_tile<D, KEYS, THREADS>(tiles.values, value_rows(data.qkv, shape, kv_head), first_key, end);
    cp_async_commit();
    if (steps.count > 0) load_step(tiles, data, shape, steps, 0);
    if (steps.count > 0 && threadIdx.x < QUERIES) keep_statistics(statistics(0), 0);
    cp_async_wait<0>();
    __syncthreads(); // keys, values and the first queries have arrived
    Element *warp_keys = tiles.keys + warp_row * D, *warp_values = tiles.values + warp_row * D;
    KeyGradientWarp<D> warp = {
        WarpView(visible_queries(shape, lane_key), visible_queries(shape, lane_key + 8)),
        RowOperand<D, Config::HELD>(warp_keys),
        RowOperand<D, Config::HELD>(warp_values),
        warp_id() % Config::PARTS * (Config::COLUMNS / CHUNK),
        shape.scale * LOG2_E,
        {},
        {},
    };
    for (int step = 0; step < steps.count; step++) {
        const bool next = step + 1 < steps.count, next_row = next && threadIdx.x < QUERIES;
        RowStatistics row = {};
        if (next) load_step(tiles, data, shape, steps, step + 1);
        if (next_row) row = statistics(step + 1);
        warp.add(tiles, step & 1, steps.query(step, QUERIES));
        if (next_row) keep_statistics(row, ~step & 1);
        cp_async_wait<0>();
        __syncthreads(); // the next tile has arrived, and no warp reads this one any more
    }

    const float dk_factor[2] = {shape.scale, shape.scale}, dv_factor[2] = {1, 1};
    const int warp_key = first_key + warp_row, tokens = (int)shape.tokens;
    store_rows<D>(key_rows(data.dqkv, shape, kv_head), warp_key, tokens, warp.dk, dk_factor, warp_keys,
                  warp.first_chunk);
    store_rows<D>(value_rows(data.dqkv, shape, kv_head), warp_key, tokens, warp.dv, dv_factor, warp_values,
                  warp.first_chunk);
}
