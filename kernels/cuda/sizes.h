// sizes.h - what the plan asks about the CUDA backend, without a card: a card's backend and its description
// (backend_cuda_describe) take it from here. Nothing of it depends on which card it is. Plain C, compiled in every
// build.
#pragma once
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// Room for what the blocks of attention_decode leave to be combined: 63 blocks a head for 32 heads of 128 columns.
#define DECODE_SCRATCH_FLOATS (256 * 1024)

// The most partial sums of squares of a call: several waves of blocks on any card.
#define SQUARES_PARTS 4096

// Work space of cuBLASLt: what NVIDIA recommends for Hopper; older cards get the same and use less of it.
#define GEMM_WORKSPACE_BYTES ((size_t)32 << 20)

// Tokens whose share of the RMSNorm gain's gradient one thread sums.
#define GAIN_ROWS 32

// Shares of the gain's gradient that the backward pass of an RMSNorm leaves in its scratch.
static inline int64_t gain_groups(int64_t tokens) {
    return (tokens + GAIN_ROWS - 1) / GAIN_ROWS;
}

// Fills in the numbers and the functions that compute sizes, all but workspace_bytes; touches nothing else.
void cuda_describe(Backend *b);

#ifdef __cplusplus
}
#endif
