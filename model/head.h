// head.h - the head block: final norm, output matrix and loss, on the tokens that have a label.
//
// Only those rows are gathered: a masked prompt costs no logits. The logits exist for one chunk of rows at a time, and
// the chunk's dlogits take their place.
#pragma once
#include "kernels/arena.h"
#include "kernels/kernels.h"
#include "model/store.h"

typedef struct HeadWeights {
    const bf16 *matrix; // [V, d]: H's own, or E's when the model is tied
    const bf16 *norm;   // [d]
} HeadWeights;

// The weights of the head, wherever the output matrix is.
HeadWeights head_weights(const ModelConfig *config, BlockStore *store);

typedef struct HeadGradients {
    float *matrix; // [V, d] in the slot of H, or of E when tied
    float *norm;   // [d]
} HeadGradients;

// Work buffers for up to `rows` gathered rows.
typedef struct HeadContext {
    Backend *backend;
    const ModelConfig *config;
    int64_t rows;         // the most rows that are gathered at once: T
    int64_t chunk;        // rows of logits that exist at a time
    int64_t stride;       // columns of a row of logits, V rounded up to 64
    Activation *input;    // gathered x: [rows, d]
    Activation *normed;   // [rows, d]
    float *rstd;          // [rows]
    float *losses;        // [rows]
    Activation *logits;   // [chunk, stride]
    Activation *d_normed; // [rows, d]; NULL without backward
    Activation *d_input;  // [rows, d]
    void *norm_scratch;
} HeadContext;

void head_context_take(HeadContext *context, Arena *arena, Backend *backend, const ModelConfig *config, int64_t rows,
                       int64_t chunk, bool backward);

// Adds the summed loss of the labelled rows of x [T, d] to *loss (device memory).
// target_rows: [count] tokens; labels: [count] ids.
void head_loss(const HeadContext *context, const HeadWeights *weights, const Activation *x, const int32_t *target_rows,
               const int32_t *labels, int64_t count, double *loss);

// The same, then the gradient: x [T, d] is replaced by the gradient of scale * (summed loss) with respect to it, and
// weight gradients are added to `gradients` (NULL: none).
void head_loss_backward(const HeadContext *context, const HeadWeights *weights, Activation *x, int64_t tokens,
                        const int32_t *target_rows, const int32_t *labels, int64_t count, float scale, double *loss,
                        const HeadGradients *gradients);

// logits [count, stride] of the gathered rows, count <= chunk; they stay in context->logits until the next call.
void head_logits(const HeadContext *context, const HeadWeights *weights, const Activation *x, const int32_t *rows,
                 int64_t count);
