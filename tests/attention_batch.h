// attention_batch.h - batches for the tests of attention, and what attention is: one query at a time, in double.
#pragma once
#include "kernels/kernels.h"

#define ATTENTION_SEQUENCES 12

typedef struct AttentionCase {
    int heads, kv_heads, head_dim, window;
    int sequences, tail; // tokens of the tail
    int32_t lengths[ATTENTION_SEQUENCES];
} AttentionCase;

// Random inputs, bf16 numbers; those of the tail are NaN, as nobody may read them.
typedef struct AttentionBatch {
    AttentionShape shape;                    // its starts point to the array below
    int32_t starts[ATTENTION_SEQUENCES + 1]; // [sequences + 1]
    int64_t width, stride;                   // H D; (H + 2K) D
    float *qkv, *dout;                       // [T, stride], [T, width]
} AttentionBatch;

// q, k and v are drawn from [-magnitude, magnitude), dout from [-1, 1).
void attention_batch_create(AttentionBatch *batch, const AttentionCase *c, float magnitude);
void attention_batch_free(AttentionBatch *batch);

typedef struct AttentionReference {
    double *out, *lse, *dqkv; // [T, H D], [H, T], [T, (H + 2K) D]; 0 in the tail
} AttentionReference;
AttentionReference attention_reference(const AttentionBatch *batch);
void attention_reference_free(AttentionReference *reference);
