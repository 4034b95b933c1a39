// attention_decode.cu - attention of one new token to the keys and values kept of its sequence.
//
// The query heads of a key/value head are the rows of the products, up to 16 in a block, so that each key is read once
// for all of them. The keys are cut into splits, one block each, and within a tile of keys each warp takes 16 and keeps
// a softmax of its own. Parts are put together in a fixed order: first the warps of a block, then, in a second kernel,
// the splits.
#include "kernels/cuda/attention_intervals.cuh"
#include "kernels/cuda/attention_softmax.cuh"

constexpr int DECODE_BLOCKS = 256; // wanted at least, if there are keys enough: about two per processor of a large card
constexpr int COMBINE_THREADS = 128;

template <int D> struct DecodeConfig {
    static constexpr int WARPS = D > 128 ? 2 : 4;
    static constexpr int THREADS = 32 * WARPS;
    static constexpr int KEYS = WARP_ROWS * WARPS; // of a tile
    static constexpr int TILE_BYTES = (WARP_ROWS + 4 * KEYS) * D * (int)sizeof(Element);
    static constexpr int PART_BYTES = WARPS * WARP_ROWS * (D + 2) * (int)sizeof(float);
    static constexpr int SHARED_BYTES = TILE_BYTES > PART_BYTES ? TILE_BYTES : PART_BYTES;
};

// One token's work, cut into blocks
struct DecodeWork {
    Element *out;                 // [H, head_dim]
    const Element *q;             // [H, head_dim]
    const Element *keys, *values; // [.., kv_heads * head_dim]
    float *scratch;               // parts of the splits: row split * H + head
    int heads, kv_heads, head_dim;
    int first_key, end_key; // the keys that are seen
    int keys_per_split, splits;
    float scale;
};

// Parts of softmaxes, each relative to its own maximum. A row is a head within a warp, or within a split.
struct Parts {
    float *maximum; // [rows], of the unscaled scores; -infinity where no key was seen
    float *sum;     // [rows]
    float *out;     // [rows][width], not divided by the sum
    int width;

    __device__ __forceinline__ Parts(float *memory, int rows, int columns)
        : maximum(memory), sum(memory + rows), out(memory + 2 * rows), width(columns) {
    }
};

// One element of the output of several parts
struct Combined {
    float maximum, sum, out;
};

// Puts the parts row, row + step, .. together (count of them), for column x.
DEVICE Combined combine(const Parts &parts, int row, int step, int count, int x, float scale_log2) {
    Combined all = {-INFINITY, 0, 0};
    for (int p = 0; p < count; p++) all.maximum = fmaxf(all.maximum, parts.maximum[row + p * step]);
    const float reference = all.maximum == -INFINITY ? 0.0f : all.maximum * scale_log2;
    for (int p = 0; p < count; p++) {
        const int part = row + p * step;
        const float weight = exp2_approx(fmaf(parts.maximum[part], scale_log2, -reference));
        all.sum = fmaf(weight, parts.sum[part], all.sum);
        all.out = fmaf(weight, parts.out[part * parts.width + x], all.out);
    }
    return all;
}

DEVICE Element output_of(const Combined &all) {
    return __float2bfloat16(all.sum > 0 ? all.out / all.sum : 0.0f);
}

// Leaves a warp's softmax and sums in the parts' rows from first_row on.
template <int D>
DEVICE void store_part(const Parts &parts, int first_row, const OnlineSoftmax &softmax, const Sums<D> &sums) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = first_row + lane_row() + 8 * half;
        const float sum = sum_of_row(softmax.sum[half]);
        if (lane_column() == 0) {
            parts.maximum[row] = softmax.maximum[half];
            parts.sum[row] = sum;
        }
#pragma unroll
        for (int t = 0; t < sums.TILES; t++) {
            float *to = parts.out + row * parts.width + 8 * t + lane_column();
            to[0] = sums.tile[t][2 * half];
            to[1] = sums.tile[t][2 * half + 1];
        }
    }
}

// The warps of a block together: the output when there is one split, else this split's part.
template <int D> DEVICE void store_split(const DecodeWork &work, const Parts &warps, int first_head, int rows) {
    typedef DecodeConfig<D> Config;
    const Parts splits(work.scratch, work.splits * work.heads, D);
    for (int index = threadIdx.x; index < rows * work.head_dim; index += Config::THREADS) {
        const int row = index / work.head_dim, x = index % work.head_dim, head = first_head + row;
        const Combined all = combine(warps, row, WARP_ROWS, Config::WARPS, x, work.scale * LOG2_E);
        if (work.splits == 1) {
            work.out[head * work.head_dim + x] = output_of(all);
            continue;
        }
        const int part = blockIdx.x * work.heads + head;
        splits.out[part * D + x] = all.out;
        if (x > 0) continue;
        splits.maximum[part] = all.maximum;
        splits.sum[part] = all.sum;
    }
}

// grid: (splits, kv_heads, groups of 16 query heads of a key/value head)
template <int D>
static __global__ void __launch_bounds__(DecodeConfig<D>::THREADS) attention_decode_kernel(DecodeWork work) {
    typedef DecodeConfig<D> Config;
    constexpr int KEYS = Config::KEYS, THREADS = Config::THREADS;
    DYNAMIC_SHARED(Element, shared);
    Element *q_tile = shared;                    // [WARP_ROWS][D]
    Element *key_tiles = q_tile + WARP_ROWS * D; // [2][KEYS][D]
    Element *value_tiles = key_tiles + 2 * KEYS * D;
    const int kv_head = blockIdx.y, group = work.heads / work.kv_heads, first_row = blockIdx.z * WARP_ROWS;
    const int first_head = kv_head * group + first_row, rows = min(WARP_ROWS, group - first_row);
    const int first_key = work.first_key + blockIdx.x * work.keys_per_split;
    const int end_key = min(work.end_key, first_key + work.keys_per_split);
    const int64_t kv_stride = (int64_t)work.kv_heads * work.head_dim;
    const InputRows keys = {work.keys + kv_head * work.head_dim, kv_stride, work.head_dim};
    const InputRows values = {work.values + kv_head * work.head_dim, kv_stride, work.head_dim};
    const InputRows heads = {work.q + first_head * work.head_dim, work.head_dim, work.head_dim};

    auto load_keys = [&](int key, int stage) {
        load_tile<D, KEYS, THREADS>(key_tiles + stage * KEYS * D, keys, key, end_key);
        load_tile<D, KEYS, THREADS>(value_tiles + stage * KEYS * D, values, key, end_key);
        cp_async_commit();
    };
    load_tile<D, WARP_ROWS, THREADS>(q_tile, heads, 0, rows);
    load_keys(first_key, 0); // commits the queries too
    const RowOperand<D, false> queries(q_tile);
    const WarpView view({first_key, end_key}, {first_key, end_key});
    OnlineSoftmax softmax;
    Sums<D> sums = {};
    int stage = 0;
    for (int key = first_key; key < end_key; key += KEYS, stage ^= 1) {
        cp_async_wait<0>();
        __syncthreads(); // this tile has arrived, and no warp reads the one before any more
        if (key + KEYS < end_key) load_keys(key + KEYS, stage ^ 1);
        const int in_tile = warp_id() * WARP_ROWS, warp_key = key + in_tile;
        const Interval columns = {warp_key, warp_key + WARP_ROWS};
        if (!view.some(columns)) continue;
        Sums<WARP_ROWS> scores = {};
        multiply_transposed(scores, queries, key_tiles + (stage * KEYS + in_tile) * D);
        if (!view.all(columns)) mask_scores(scores, view, warp_key);
        update_softmax(softmax, scores, sums, work.scale * LOG2_E);
        multiply<D>(sums, round_to_operand(scores), value_tiles + (stage * KEYS + in_tile) * D);
    }
    __syncthreads(); // the tiles have been read; the parts of the warps take their place
    const Parts warps(reinterpret_cast<float *>(shared), Config::WARPS * WARP_ROWS, D);
    store_part<D>(warps, warp_id() * WARP_ROWS, softmax, sums);
    __syncthreads();
    store_split<D>(work, warps, first_head, rows);
}

// The splits together; a thread per element of the output. width: of the parts' rows.
static __global__ void __launch_bounds__(COMBINE_THREADS) attention_combine_kernel(DecodeWork work, int width) {
    const int index = blockIdx.x * COMBINE_THREADS + threadIdx.x;
    if (index >= work.heads * work.head_dim) return;
    const Parts splits(work.scratch, work.splits * work.heads, width);
    const int head = index / work.head_dim, x = index % work.head_dim;
    work.out[index] = output_of(combine(splits, head, work.heads, work.splits, x, work.scale * LOG2_E));
}

// As many splits as fill the card, as far as there are tiles of keys and scratch for their parts; by the shape alone.
template <int D> static void cut_into_splits(DecodeWork *work, int blocks_per_split) {
    constexpr int KEYS = DecodeConfig<D>::KEYS;
    const int tiles = (work->end_key - work->first_key + KEYS - 1) / KEYS;
    int splits = DECODE_SCRATCH_FLOATS / (work->heads * (D + 2));
    if (splits > DECODE_BLOCKS / blocks_per_split) splits = DECODE_BLOCKS / blocks_per_split;
    if (splits < 1) splits = 1;
    const int tiles_per_split = (tiles + splits - 1) / splits;
    work->keys_per_split = tiles_per_split * KEYS;
    work->splits = (tiles + tiles_per_split - 1) / tiles_per_split;
}

template <int D> static void launch_decode(DecodeWork work, cudaStream_t stream) {
    typedef DecodeConfig<D> Config;
    const int row_groups = (work.heads / work.kv_heads + WARP_ROWS - 1) / WARP_ROWS;
    cut_into_splits<D>(&work, work.kv_heads * row_groups);
    const dim3 grid((unsigned)work.splits, (unsigned)work.kv_heads, (unsigned)row_groups);
    allow_shared_bytes(attention_decode_kernel<D>, Config::SHARED_BYTES);
    LAUNCH((attention_decode_kernel<D>), grid, Config::THREADS, Config::SHARED_BYTES, stream, work);
    if (work.splits == 1) return;
    const unsigned blocks = cuda_blocks((int64_t)work.heads * work.head_dim, COMBINE_THREADS);
    LAUNCH(attention_combine_kernel, blocks, COMBINE_THREADS, 0, stream, work, D);
}

void cuda_attention_decode(Backend *b, Activation *out, const Activation *q, const Activation *keys,
                           const Activation *values, int64_t length, int heads, int kv_heads, int head_dim, int window,
                           float scale, Stream *stream) {
    DecodeWork work = {};
    work.out = static_cast<Element *>(out);
    work.q = static_cast<const Element *>(q);
    work.keys = static_cast<const Element *>(keys);
    work.values = static_cast<const Element *>(values);
    work.scratch = cuda_backend(b)->decode_scratch;
    work.heads = heads;
    work.kv_heads = kv_heads;
    work.head_dim = head_dim;
    work.first_key = window > 0 && length > window ? static_cast<int>(length) - window : 0;
    work.end_key = static_cast<int>(length);
    work.scale = scale;
    with_tile_width(b, "attention_decode", head_dim,
                    [&](auto width) { launch_decode<decltype(width)::WIDTH>(work, cuda_stream(b, stream)); });
    cuda_launched(b, "attention_decode");
}
