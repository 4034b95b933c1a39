// layer.h - one decoder layer: forward, backward, and what is kept or computed again between the two.
//
//   h1 = RMSNorm(x)    q, k, v = RoPE(h1 Wqkv + b)    o = attention(q, k, v)    middle = x + o Wo + b
//   h2 = RMSNorm(middle)    g, u = h2 Wgu    s = silu(g) u    out = middle + s Wd
//
// The backward pass needs x, q k v, o, lse, middle, g and u; h1, h2 and s are rebuilt elementwise where a weight
// gradient wants them. The down projection and the last residual add are never computed twice.
#pragma once
#include "kernels/arena.h"
#include "kernels/kernels.h"
#include "model/block.h"

// Typed views of a layer's block; NULL where the model has no such tensor.
typedef struct LayerWeights {
    const bf16 *qkv;            // [(H + 2K) D, d]
    const bf16 *output;         // [d, H D]
    const bf16 *gate_up;        // [2f, d]
    const bf16 *down;           // [d, f]
    const bf16 *qkv_bias;       // [(H + 2K) D]
    const bf16 *output_bias;    // [d]
    const bf16 *attention_norm; // [d]
    const bf16 *mlp_norm;       // [d]
} LayerWeights;

// The same views of a slot's gradient, fp32.
typedef struct LayerGradients {
    float *qkv, *output, *gate_up, *down, *qkv_bias, *output_bias, *attention_norm, *mlp_norm;
} LayerGradients;

LayerWeights layer_weights(const LayerLayout *layout, const bf16 *block);
LayerGradients layer_gradients(const LayerLayout *layout, float *gradient);

// How much of a layer's forward pass is kept for its backward pass (gradient_checkpointing: true, mlp, false).
typedef enum { KEEP_INPUT, KEEP_ATTENTION, KEEP_ALL } LayerKeep;

// One micro-batch's activations of one layer. T tokens.
typedef struct LayerActivations {
    Activation *input;     // x: [T, d]
    float *attention_rstd; // [T]
    Activation *qkv;       // rotated: [T, (H + 2K) D]
    Activation *attention; // o: [T, H D]
    float *lse;            // [H, T]
    Activation *middle;    // [T, d]
    float *mlp_rstd;       // [T]
    Activation *gate_up;   // [T, 2f]
} LayerActivations;

// What every layer shares: shapes, tables, and the work buffers of one forward or backward.
typedef struct LayerContext {
    Backend *backend;
    const ModelConfig *config;
    int64_t tokens;      // T
    const float *cosine; // [positions, D / 2], device memory
    const float *sine;
    // work buffers, each used by one operation after the other
    LayerActivations spare;  // stands in for what a layer does not keep; its input is unused
    Activation *normed;      // h1, h2 or their gradients: [T, d]
    Activation *rebuilt;     // h1, h2 again, for weight gradients: [T, d]
    Activation *mlp;         // s, or its gradient: [T, f]
    Activation *d_attention; // gradient of o: [T, H D]
    Activation *d_qkv;       // [T, (H + 2K) D]
    void *attention_scratch;
    void *norm_scratch;
} LayerContext;

// One micro-batch's indices in device memory.
typedef struct LayerTokens {
    const int32_t *positions; // [T]
    const int32_t *starts;    // [sequences + 1]
    int sequences;
} LayerTokens;

// Takes what is kept of a layer for one micro-batch from the arena, all but its input, which comes from elsewhere.
void layer_activations_take(LayerActivations *kept, Arena *arena, const Backend *backend, const ModelConfig *config,
                            int64_t tokens, LayerKeep keep);
// Takes the work buffers; least: what every layer keeps at least, for which nothing need stand in. backward false: only
// those that a forward needs. The arena's overflow flag tells of failure.
void layer_context_take(LayerContext *context, Arena *arena, Backend *backend, const ModelConfig *config,
                        int64_t tokens, LayerKeep least, bool backward);

// out = layer(kept->input); leaves the rest of `kept` filled as far as its pointers are set. out: [T, d], not the
// input.
void layer_forward(const LayerContext *context, const LayerWeights *weights, int layer, const LayerTokens *tokens,
                   const LayerActivations *kept, Activation *out);

// dx: [T, d], the gradient at the output becomes the gradient at the input. Weight gradients are added to `gradients`;
// NULL when the layer is frozen: none is computed. What was not kept is computed again from the input, by the same
// operations as in the forward pass and therefore to the same bits. kept->gate_up is overwritten.
void layer_backward(const LayerContext *context, const LayerWeights *weights, int layer, const LayerTokens *tokens,
                    const LayerActivations *kept, Activation *dx, const LayerGradients *gradients);
