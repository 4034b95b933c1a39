// attention_gradients.cuh - what the two gradient kernels of attention share.
#pragma once
#include "kernels/cuda/attention_intervals.cuh"

struct BackwardData {
    Element *dqkv;       // [T, (H + 2K) D]
    const Element *dout; // [T, H D]
    const Element *qkv;  // [T, (H + 2K) D]
    const float *lse;    // [H, T]
    const float *delta;  // [H, T], row sums of dout * out
};

// What the gradient of a row of scores needs of its softmax
struct RowStatistics {
    float lse_log2; // log-sum-exp in base 2
    float delta;
};

// Zeros for the tail and beyond: P of such a row is 0 because its scores are masked.
DEVICE RowStatistics row_statistics(const BackwardData &data, const AttentionShape &shape, int head, int query) {
    if (query >= sequences_end(shape)) return {0, 0};
    const int64_t at = head * shape.tokens + query;
    return {data.lse[at] * LOG2_E, data.delta[at]};
}
