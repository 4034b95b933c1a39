// layer.c - see layer.h.
#include "model/layer.h"
#include <math.h>

LayerWeights layer_weights(const LayerLayout *l, const bf16 *block) {
    return (LayerWeights){
        .qkv = block + l->qkv.offset,
        .output = block + l->output.offset,
        .gate_up = block + l->gate_up.offset,
        .down = block + l->down.offset,
        .qkv_bias = l->qkv_bias.rows ? block + l->qkv_bias.offset : NULL,
        .output_bias = l->output_bias.rows ? block + l->output_bias.offset : NULL,
        .attention_norm = block + l->attention_norm.offset,
        .mlp_norm = block + l->mlp_norm.offset,
    };
}

LayerGradients layer_gradients(const LayerLayout *l, float *gradient) {
    return (LayerGradients){
        .qkv = gradient + l->qkv.offset,
        .output = gradient + l->output.offset,
        .gate_up = gradient + l->gate_up.offset,
        .down = gradient + l->down.offset,
        .qkv_bias = l->qkv_bias.rows ? gradient + l->qkv_bias.offset : NULL,
        .output_bias = l->output_bias.rows ? gradient + l->output_bias.offset : NULL,
        .attention_norm = gradient + l->attention_norm.offset,
        .mlp_norm = gradient + l->mlp_norm.offset,
    };
}

// ---- sizes ----

static int64_t query_columns(const ModelConfig *config) {
    return (int64_t)config->heads * config->head_dim;
}

static int64_t qkv_columns(const ModelConfig *config) {
    return (int64_t)(config->heads + 2 * config->kv_heads) * config->head_dim;
}

static Activation *take(Arena *arena, const Backend *backend, int64_t rows, int64_t columns) {
    int64_t count;
    if (__builtin_mul_overflow(rows, columns, &count)) count = -1; // the arena reports it
    return arena_take(arena, count, backend->activation_size);
}

static void take_attention_part(LayerActivations *kept, Arena *arena, const Backend *backend, const ModelConfig *config,
                                int64_t tokens) {
    kept->attention_rstd = arena_take(arena, tokens, sizeof(float));
    kept->qkv = take(arena, backend, tokens, qkv_columns(config));
    kept->attention = take(arena, backend, tokens, query_columns(config));
    kept->lse = arena_take(arena, tokens * config->heads, sizeof(float));
    kept->middle = take(arena, backend, tokens, config->hidden);
    kept->mlp_rstd = arena_take(arena, tokens, sizeof(float));
}

void layer_activations_take(LayerActivations *kept, Arena *arena, const Backend *backend, const ModelConfig *config,
                            int64_t tokens, LayerKeep keep) {
    *kept = (LayerActivations){0};
    if (keep != KEEP_INPUT) take_attention_part(kept, arena, backend, config, tokens);
    if (keep == KEEP_ALL) kept->gate_up = take(arena, backend, tokens, 2 * config->intermediate);
}

void layer_context_take(LayerContext *context, Arena *arena, Backend *backend, const ModelConfig *config,
                        int64_t tokens, LayerKeep least, bool backward) {
    context->backend = backend;
    context->config = config;
    context->tokens = tokens;
    context->spare = (LayerActivations){0};
    if (least == KEEP_INPUT) take_attention_part(&context->spare, arena, backend, config, tokens);
    if (least != KEEP_ALL) context->spare.gate_up = take(arena, backend, tokens, 2 * config->intermediate);
    context->normed = take(arena, backend, tokens, config->hidden);
    context->mlp = take(arena, backend, tokens, config->intermediate);
    if (!backward) return;
    context->rebuilt = take(arena, backend, tokens, config->hidden);
    context->d_attention = take(arena, backend, tokens, query_columns(config));
    context->d_qkv = take(arena, backend, tokens, qkv_columns(config));
    size_t attention = backend->attention_scratch(backend, tokens, config->heads);
    size_t norm = backend->rmsnorm_scratch(backend, tokens, config->hidden);
    context->attention_scratch = arena_take(arena, (int64_t)attention, 1);
    context->norm_scratch = arena_take(arena, (int64_t)norm, 1);
}

// ---- forward ----

static AttentionShape attention_shape(const LayerContext *context, int layer, const LayerTokens *tokens) {
    const ModelConfig *config = context->config;
    return (AttentionShape){
        .tokens = context->tokens,
        .heads = config->heads,
        .kv_heads = config->kv_heads,
        .head_dim = config->head_dim,
        .window = config->windowed[layer] ? config->window : 0,
        .scale = (float)(1 / sqrt(config->head_dim)),
        .sequences = tokens->sequences,
        .starts = tokens->starts,
    };
}

// What is kept where there is room for it, the spare buffers elsewhere.
static LayerActivations places(const LayerContext *context, const LayerActivations *kept) {
    LayerActivations all = context->spare;
    all.input = kept->input;
    if (kept->qkv) {
        all.attention_rstd = kept->attention_rstd;
        all.qkv = kept->qkv;
        all.attention = kept->attention;
        all.lse = kept->lse;
        all.middle = kept->middle;
        all.mlp_rstd = kept->mlp_rstd;
    }
    if (kept->gate_up) all.gate_up = kept->gate_up;
    return all;
}

// x -> q, k, v, o, lse, middle
static void forward_attention(const LayerContext *c, const LayerWeights *w, int layer, const LayerTokens *tokens,
                              const LayerActivations *a) {
    Backend *b = c->backend;
    const ModelConfig *config = c->config;
    int64_t T = c->tokens, d = config->hidden, q = query_columns(config);
    b->rmsnorm_forward(b, c->normed, a->attention_rstd, a->input, w->attention_norm, config->norm_epsilon, T, d, NULL);
    b->linear_forward(b, a->qkv, c->normed, w->qkv, w->qkv_bias, NULL, T, qkv_columns(config), d, qkv_columns(config),
                      NULL);
    b->rope(b, a->qkv, tokens->positions, c->cosine, c->sine, T, config->heads, config->kv_heads, config->head_dim,
            false, NULL);
    AttentionShape shape = attention_shape(c, layer, tokens);
    b->attention_forward(b, a->attention, a->lse, a->qkv, &shape, NULL);
    b->linear_forward(b, a->middle, a->attention, w->output, w->output_bias, a->input, T, d, q, d, NULL);
}

// middle -> g, u
static void forward_gate_up(const LayerContext *c, const LayerWeights *w, const LayerActivations *a) {
    Backend *b = c->backend;
    int64_t T = c->tokens, d = c->config->hidden, f = c->config->intermediate;
    b->rmsnorm_forward(b, c->normed, a->mlp_rstd, a->middle, w->mlp_norm, c->config->norm_epsilon, T, d, NULL);
    b->linear_forward(b, a->gate_up, c->normed, w->gate_up, NULL, NULL, T, 2 * f, d, 2 * f, NULL);
}

void layer_forward(const LayerContext *c, const LayerWeights *w, int layer, const LayerTokens *tokens,
                   const LayerActivations *kept, Activation *out) {
    Backend *b = c->backend;
    int64_t T = c->tokens, d = c->config->hidden, f = c->config->intermediate;
    LayerActivations a = places(c, kept);
    forward_attention(c, w, layer, tokens, &a);
    forward_gate_up(c, w, &a);
    b->swiglu_forward(b, c->mlp, a.gate_up, T, f, NULL);
    b->linear_forward(b, out, c->mlp, w->down, NULL, a.middle, T, d, f, d, NULL);
}

// ---- backward ----

static void backward_mlp(const LayerContext *c, const LayerWeights *w, const LayerActivations *a, Activation *dx,
                         const LayerGradients *g) {
    Backend *b = c->backend;
    int64_t T = c->tokens, d = c->config->hidden, f = c->config->intermediate;
    b->linear_backward_input(b, c->mlp, dx, w->down, T, d, f, d, NULL);
    b->swiglu_backward(b, a->gate_up, g ? c->mlp : NULL, c->mlp, T, f, NULL);
    b->linear_backward_input(b, c->normed, a->gate_up, w->gate_up, T, 2 * f, d, 2 * f, NULL);
    if (g) {
        b->linear_backward_weight(b, g->down, NULL, dx, c->mlp, T, d, f, d, NULL);
        b->rmsnorm_rebuild(b, c->rebuilt, a->middle, a->mlp_rstd, w->mlp_norm, T, d, NULL);
        b->linear_backward_weight(b, g->gate_up, NULL, a->gate_up, c->rebuilt, T, 2 * f, d, 2 * f, NULL);
    }
    b->rmsnorm_backward(b, dx, g ? g->mlp_norm : NULL, c->normed, a->middle, a->mlp_rstd, w->mlp_norm, c->norm_scratch,
                        T, d, NULL);
}

static void backward_attention(const LayerContext *c, const LayerWeights *w, int layer, const LayerTokens *tokens,
                               const LayerActivations *a, Activation *dx, const LayerGradients *g) {
    Backend *b = c->backend;
    const ModelConfig *config = c->config;
    int64_t T = c->tokens, d = config->hidden, q = query_columns(config), qkv = qkv_columns(config);
    b->linear_backward_input(b, c->d_attention, dx, w->output, T, d, q, d, NULL);
    if (g) b->linear_backward_weight(b, g->output, g->output_bias, dx, a->attention, T, d, q, d, NULL);
    AttentionShape shape = attention_shape(c, layer, tokens);
    b->attention_backward(b, c->d_qkv, c->d_attention, a->qkv, a->attention, a->lse, c->attention_scratch, &shape,
                          NULL);
    b->rope(b, c->d_qkv, tokens->positions, c->cosine, c->sine, T, config->heads, config->kv_heads, config->head_dim,
            true, NULL);
    b->linear_backward_input(b, c->normed, c->d_qkv, w->qkv, T, qkv, d, qkv, NULL);
    if (g) {
        b->rmsnorm_rebuild(b, c->rebuilt, a->input, a->attention_rstd, w->attention_norm, T, d, NULL);
        b->linear_backward_weight(b, g->qkv, g->qkv_bias, c->d_qkv, c->rebuilt, T, qkv, d, qkv, NULL);
    }
    b->rmsnorm_backward(b, dx, g ? g->attention_norm : NULL, c->normed, a->input, a->attention_rstd, w->attention_norm,
                        c->norm_scratch, T, d, NULL);
}

void layer_backward(const LayerContext *c, const LayerWeights *w, int layer, const LayerTokens *tokens,
                    const LayerActivations *kept, Activation *dx, const LayerGradients *gradients) {
    LayerActivations a = places(c, kept);
    if (!kept->qkv) forward_attention(c, w, layer, tokens, &a);
    if (!kept->gate_up) forward_gate_up(c, w, &a);
    backward_mlp(c, w, &a, dx, gradients);
    backward_attention(c, w, layer, tokens, &a, dx, gradients);
}
