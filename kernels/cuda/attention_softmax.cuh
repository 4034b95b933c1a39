// attention_softmax.cuh - the online softmax of the forward pass and of decoding, in base 2 (Milakov and Gimelshein
// 2018).
#pragma once
#include "kernels/cuda/attention_tile.cuh"

// The two rows of a lane. The four lanes of a row agree on its maximum; each has its own part of the sum.
struct OnlineSoftmax {
    float maximum[2] = {-INFINITY, -INFINITY}; // of the unscaled scores
    float sum[2] = {0, 0};                     // of 2^((score - maximum) scale_log2)
};

DEVICE float max_of_row(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}

DEVICE float sum_of_row(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

// Takes a tile of scores in: they become probabilities relative to the new maxima of their rows, and what the rows have
// gathered so far, sums and outputs, shrinks to these.
template <int KEYS, int D>
DEVICE void update_softmax(OnlineSoftmax &softmax, Sums<KEYS> &scores, Sums<D> &out, float scale_log2) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float maximum = softmax.maximum[half];
#pragma unroll
        for (int t = 0; t < scores.TILES; t++)
            maximum = fmaxf(maximum, fmaxf(scores.tile[t][2 * half], scores.tile[t][2 * half + 1]));
        maximum = max_of_row(maximum);
        // A row that has seen no key yet keeps -infinity; with any finite number in its place all it has stays 0.
        const float reference = maximum == -INFINITY ? 0.0f : maximum * scale_log2;
        const float shrink = exp2_approx(fmaf(softmax.maximum[half], scale_log2, -reference));
        float sum = softmax.sum[half] * shrink;
#pragma unroll
        for (int t = 0; t < scores.TILES; t++) {
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                scores.tile[t][i] = exp2_approx(fmaf(scores.tile[t][i], scale_log2, -reference));
                sum += scores.tile[t][i];
            }
        }
        softmax.maximum[half] = maximum;
        softmax.sum[half] = sum;
#pragma unroll
        for (int t = 0; t < out.TILES; t++) {
            out.tile[t][2 * half] *= shrink;
            out.tile[t][2 * half + 1] *= shrink;
        }
    }
}
