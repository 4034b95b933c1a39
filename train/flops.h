// flops.h - the floating-point operations of one optimizer step, for measuring against the processor.
//
// Needed are: every matrix once forward, its input's gradient once, its weight's gradient for active blocks alone, the
// head on the tokens that have a label, and attention on the pairs of tokens that see each other (two products forward,
// five backward). Executed is besides what gradient_checkpointing computes again, and the products that the backend's
// attention computes twice. Tails of micro-batches and of tiles are in neither.
#pragma once
#include "data/batch.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "train/passes.h"

// `count` multiplications of the same shape.
typedef struct GemmWork {
    GemmLayout layout;
    int64_t m, n, k;
    int64_t count;
} GemmWork;

#define GEMM_WORKS_MAX 24

// The multiplications of a step on one micro-batch with `active` active layers, the head in chunks of `chunk` rows.
int gemm_works(const ModelConfig *config, int active, const MicroBatch *batch, int64_t chunk,
               GemmWork works[GEMM_WORKS_MAX]);

// The multiplications that the backward pass computes again, as the layers keep what `sizes` says.
int gemm_works_again(const ModelConfig *config, const MicroBatch *batch, const PassSizes *sizes,
                     GemmWork works[GEMM_WORKS_MAX]);

double gemm_flops(const GemmWork *work);                                    // of all `count`
double attention_flops(const ModelConfig *config, const MicroBatch *batch); // of all layers
// Of one product over all pairs of tokens that see each other in a sequence of `tokens`, all heads of a layer.
double attention_product_flops(const ModelConfig *config, int layer, double tokens);
double attention_layer_flops(const ModelConfig *config, const MicroBatch *batch, int layer);
// With the forward pass that is computed again, and as the backend does it.
double attention_flops_executed(const ModelConfig *config, const MicroBatch *batch, const PassSizes *sizes,
                                const Backend *b);
