// attention_intervals.cuh - who sees whom.
//
// All sequences of a batch lie on one axis of tokens. Sequence limits, causality and the sliding window together give
// every query one interval of keys on that axis, and every key one interval of queries; a token of the tail has an
// empty one, at the end of the sequences. Neither end of these intervals ever decreases from a row to the next, so the
// first and the last row of a warp tell whether a tile of columns is seen by none, by some or by all of its rows.
#pragma once
#include "kernels/cuda/attention_tile.cuh"

struct Interval {
    int begin, end; // [begin, end)
};

// Tokens of sequences; from here on there is only tail.
DEVICE int sequences_end(const AttentionShape &shape) {
    return shape.sequences > 0 ? shape.starts[shape.sequences] : 0;
}

// The tokens of the sequence in which a token before sequences_end lies
DEVICE Interval sequence_of(const AttentionShape &shape, int token) {
    int low = 0, high = shape.sequences; // starts[low] <= token < starts[high]
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (shape.starts[middle] <= token)
            low = middle;
        else
            high = middle;
    }
    return {shape.starts[low], shape.starts[high]};
}

DEVICE Interval visible_keys(const AttentionShape &shape, int query) {
    const int end = sequences_end(shape);
    if (query >= end) return {end, end};
    const int begin = sequence_of(shape, query).begin;
    const bool narrow = shape.window > 0 && query - begin >= shape.window;
    return {narrow ? query - shape.window + 1 : begin, query + 1};
}

DEVICE Interval visible_queries(const AttentionShape &shape, int key) {
    const int sequences = sequences_end(shape);
    if (key >= sequences) return {sequences, sequences};
    const int end = sequence_of(shape, key).end;
    const bool narrow = shape.window > 0 && end - key > shape.window;
    return {key, narrow ? key + shape.window : end};
}

// What the 16 rows of a warp see
struct WarpView {
    Interval row[2];      // the two rows of this lane
    Interval first, last; // the first and the last row of the warp

    __device__ __forceinline__ WarpView(Interval upper, Interval lower)
        : row{upper, lower}, first{__shfl_sync(ALL_LANES, upper.begin, 0), __shfl_sync(ALL_LANES, upper.end, 0)},
          last{__shfl_sync(ALL_LANES, lower.begin, 31), __shfl_sync(ALL_LANES, lower.end, 31)} {
    }

    // Does some row see one of these columns?
    __device__ __forceinline__ bool some(Interval columns) const {
        return columns.begin < last.end && columns.end > first.begin;
    }
    // Does every row see all of them?
    __device__ __forceinline__ bool all(Interval columns) const {
        return columns.begin >= last.begin && columns.end <= first.end;
    }
};

// Scores of columns that a row does not see become -infinity; the first column of the scores is first_column.
template <int COLUMNS> DEVICE void mask_scores(Sums<COLUMNS> &scores, const WarpView &view, int first_column) {
#pragma unroll
    for (int t = 0; t < scores.TILES; t++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int column = first_column + 8 * t + lane_column() + (i & 1);
            const Interval seen = view.row[i >> 1];
            if (column < seen.begin || column >= seen.end) scores.tile[t][i] = -INFINITY;
        }
    }
}

// ---- the heads of a batch ------------------------------------------------------------------------------------------

// qkv has per token H query heads, K key heads, K value heads; out has H heads.
DEVICE int64_t qkv_stride(const AttentionShape &shape) {
    return (int64_t)(shape.heads + 2 * shape.kv_heads) * shape.head_dim;
}

// Head number `head` of a matrix whose rows are `stride` elements apart
template <class T> DEVICE Rows<T> head_rows(T *matrix, const AttentionShape &shape, int64_t stride, int head) {
    return {matrix + (int64_t)head * shape.head_dim, stride, shape.head_dim};
}

template <class T> DEVICE Rows<T> query_rows(T *qkv, const AttentionShape &shape, int head) {
    return head_rows(qkv, shape, qkv_stride(shape), head);
}

template <class T> DEVICE Rows<T> key_rows(T *qkv, const AttentionShape &shape, int kv_head) {
    return head_rows(qkv, shape, qkv_stride(shape), shape.heads + kv_head);
}

template <class T> DEVICE Rows<T> value_rows(T *qkv, const AttentionShape &shape, int kv_head) {
    return head_rows(qkv, shape, qkv_stride(shape), shape.heads + shape.kv_heads + kv_head);
}

template <class T> DEVICE Rows<T> output_rows(T *out, const AttentionShape &shape, int head) {
    return head_rows(out, shape, (int64_t)shape.heads * shape.head_dim, head);
}
