// decode.c - see decode.h.
#include "model/decode.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- memory ----

static int64_t kv_columns(const ModelConfig *config) {
    return (int64_t)config->kv_heads * config->head_dim;
}

static int64_t qkv_heads(const ModelConfig *config) {
    return config->heads + 2 * config->kv_heads;
}

bool decoder_create(Decoder *x, Backend *b, const ModelConfig *config, BlockStore *store, int64_t capacity,
                    Arena *device, Arena *pinned, Error *error) {
    size_t layers = (size_t)config->layers, size = b->activation_size;
    *x = (Decoder){.backend = b, .config = config, .store = store, .capacity = round_up(capacity, b->token_multiple)};
    int64_t tokens = x->capacity;
    x->keys = calloc(layers, sizeof *x->keys);
    x->values = calloc(layers, sizeof *x->values);
    if (!x->keys || !x->values) {
        decoder_free(x);
        return error_memory(error, "the table of the key/value cache", layers * sizeof *x->keys);
    }
    for (size_t l = 0; l < layers; l++) {
        x->keys[l] = arena_take(device, tokens * kv_columns(config), size);
        x->values[l] = arena_take(device, tokens * kv_columns(config), size);
    }
    x->cosine = arena_take(device, tokens * config->head_dim / 2, sizeof(float));
    x->sine = arena_take(device, tokens * config->head_dim / 2, sizeof(float));
    layer_context_take(&x->layer, device, b, config, tokens, KEEP_INPUT, false);
    head_context_take(&x->head, device, b, config, 1, 1, false);
    x->x = arena_take(device, tokens * config->hidden, size);
    x->out = arena_take(device, tokens * config->hidden, size);
    x->ids = arena_take(device, tokens, sizeof(int32_t));
    x->positions = arena_take(device, tokens, sizeof(int32_t));
    x->starts = arena_take(device, 2, sizeof(int32_t));
    x->key_rows = arena_take(device, tokens * config->kv_heads, sizeof(int32_t));
    x->value_rows = arena_take(device, tokens * config->kv_heads, sizeof(int32_t));
    x->logits = arena_take(device, config->vocabulary, sizeof(float));
    x->new_ids = arena_take(pinned, tokens, sizeof(int32_t));
    x->new_starts = arena_take(pinned, 2, sizeof(int32_t));
    x->told_logits = arena_take(pinned, config->vocabulary, sizeof(float));
    if (store->places.embedding_on_host) x->new_rows = arena_take(pinned, tokens * config->hidden, sizeof(bf16));
    x->layer.cosine = x->cosine;
    x->layer.sine = x->sine;
    if (!device->overflow && !pinned->overflow && tokens * qkv_heads(config) <= INT32_MAX) return true;
    decoder_free(x);
    return error_set(error, "the key/value cache does not fit its arenas");
}

void decoder_free(Decoder *x) {
    free(x->keys);
    free(x->values);
    *x = (Decoder){0};
}

static void fill_indices(const Decoder *x, int32_t *positions, int32_t *key_rows, int32_t *value_rows) {
    int32_t heads = x->config->heads, kv_heads = x->config->kv_heads, all = (int32_t)qkv_heads(x->config);
    for (int32_t t = 0; t < x->capacity; t++) {
        positions[t] = t;
        for (int32_t h = 0; h < kv_heads; h++) {
            key_rows[t * kv_heads + h] = t * all + heads + h;
            value_rows[t * kv_heads + h] = t * all + heads + kv_heads + h;
        }
    }
}

bool decoder_prepare(Decoder *x, Error *error) {
    Backend *b = x->backend;
    size_t tokens = (size_t)x->capacity, rows = tokens * (size_t)x->config->kv_heads;
    size_t table = tokens * (size_t)x->config->head_dim / 2;
    float *tables = malloc(2 * table * sizeof *tables);
    int32_t *indices = malloc((tokens + 2 * rows) * sizeof *indices);
    bool ok = tables && indices;
    if (ok) {
        model_rope_tables(x->config, x->capacity, tables, tables + table);
        fill_indices(x, indices, indices + tokens, indices + tokens + rows);
        b->copy(b, x->cosine, tables, table * sizeof *tables, NULL);
        b->copy(b, x->sine, tables + table, table * sizeof *tables, NULL);
        b->copy(b, x->positions, indices, tokens * sizeof *indices, NULL);
        b->copy(b, x->key_rows, indices + tokens, rows * sizeof *indices, NULL);
        b->copy(b, x->value_rows, indices + tokens + rows, rows * sizeof *indices, NULL);
        b->synchronize(b, NULL);
    } else {
        error_memory(error, "the rotary tables", 2 * table * sizeof *tables);
    }
    free(tables);
    free(indices);
    return ok;
}

void decoder_reset(Decoder *x) {
    x->length = 0;
}

// ---- embedding ----

// x->x: [padded, d] = the rows of E for the ids; behind the first `count` those of id 0. Every feeding ends with a
// wait, so the pinned memory is free. Where E is on the host, the rows themselves come to the device, into memory that
// the first layer is the first to use, and their numbers there are 0, 1, 2, ...
static void embed(Decoder *x, const int32_t *ids, int64_t count, int64_t padded) {
    Backend *b = x->backend;
    int64_t d = x->config->hidden;
    memcpy(x->new_ids, ids, (size_t)count * sizeof *ids);
    memset(x->new_ids + count, 0, (size_t)(padded - count) * sizeof *ids);
    if (!x->new_rows) {
        b->copy(b, x->ids, x->new_ids, (size_t)padded * sizeof *ids, NULL);
        b->embed_forward(b, x->x, store_acquire(x->store, 0), x->ids, padded, d, NULL);
        store_release(x->store, 0);
        return;
    }
    const bf16 *embedding = store_home(x->store, 0);
    size_t row_bytes = (size_t)d * sizeof *embedding;
    for (int64_t i = 0; i < padded; i++) memcpy(x->new_rows + i * d, embedding + x->new_ids[i] * d, row_bytes);
    b->copy(b, x->out, x->new_rows, (size_t)padded * row_bytes, NULL);
    b->embed_forward(b, x->x, x->out, x->positions, padded, d, NULL);
}

// ---- the prompt ----

// All tokens of x->x through all layers; keys and values are gathered out of each layer's qkv into the cache.
static void feed_prompt(Decoder *x, int64_t count) {
    Backend *b = x->backend;
    const ModelConfig *config = x->config;
    int64_t D = config->head_dim, kv_rows = count * config->kv_heads;
    LayerContext context = x->layer;
    context.tokens = round_up(count, b->token_multiple);
    LayerTokens tokens = {x->positions, x->starts, 1};
    LayerActivations kept = {.input = x->x};
    for (int l = 0; l < config->layers; l++) {
        int block = block_of_layer(l);
        LayerWeights weights = layer_weights(&x->store->layout.layer, store_acquire(x->store, block));
        layer_forward(&context, &weights, l, &tokens, &kept, x->out);
        store_release(x->store, block);
        b->gather_rows(b, x->keys[l], context.spare.qkv, x->key_rows, kv_rows, D, NULL);
        b->gather_rows(b, x->values[l], context.spare.qkv, x->value_rows, kv_rows, D, NULL);
        Activation *swap = x->x;
        x->x = x->out;
        x->out = swap;
        kept.input = x->x;
    }
}

// ---- further tokens ----

// Element `index` of an array of activations.
static Activation *element(const Backend *b, Activation *array, int64_t index) {
    return (unsigned char *)array + (size_t)index * b->activation_size;
}

// in: [d], the token's row of x->x; leaves a->middle.
static void decode_attention(Decoder *x, const LayerWeights *w, int layer, const Activation *in, int64_t position) {
    Backend *b = x->backend;
    const ModelConfig *c = x->config;
    const LayerActivations *a = &x->layer.spare;
    int64_t d = c->hidden, D = c->head_dim, q = c->heads * D, kv = kv_columns(c);
    b->rmsnorm_forward(b, x->layer.normed, a->attention_rstd, in, w->attention_norm, c->norm_epsilon, 1, d, NULL);
    b->linear_forward(b, a->qkv, x->layer.normed, w->qkv, w->qkv_bias, NULL, 1, q + 2 * kv, d, q + 2 * kv, NULL);
    b->rope(b, a->qkv, x->positions + position, x->cosine, x->sine, 1, c->heads, c->kv_heads, c->head_dim, false, NULL);
    size_t bytes = (size_t)kv * b->activation_size;
    b->copy(b, element(b, x->keys[layer], position * kv), element(b, a->qkv, q), bytes, NULL);
    b->copy(b, element(b, x->values[layer], position * kv), element(b, a->qkv, q + kv), bytes, NULL);
    b->attention_decode(b, a->attention, a->qkv, x->keys[layer], x->values[layer], position + 1, c->heads, c->kv_heads,
                        c->head_dim, c->windowed[layer] ? c->window : 0, (float)(1 / sqrt(c->head_dim)), NULL);
    b->linear_forward(b, a->middle, a->attention, w->output, w->output_bias, in, 1, d, q, d, NULL);
}

// The token's row of x->x through one layer.
static void decode_layer(Decoder *x, const LayerWeights *w, int layer, int64_t row) {
    Backend *b = x->backend;
    const ModelConfig *c = x->config;
    const LayerActivations *a = &x->layer.spare;
    int64_t d = c->hidden, f = c->intermediate;
    Activation *token = element(b, x->x, row * d);
    decode_attention(x, w, layer, token, x->length + row);
    b->rmsnorm_forward(b, x->layer.normed, a->mlp_rstd, a->middle, w->mlp_norm, c->norm_epsilon, 1, d, NULL);
    b->linear_forward(b, a->gate_up, x->layer.normed, w->gate_up, NULL, NULL, 1, 2 * f, d, 2 * f, NULL);
    b->swiglu_forward(b, x->layer.mlp, a->gate_up, 1, f, NULL);
    b->linear_forward(b, token, x->layer.mlp, w->down, NULL, a->middle, 1, d, f, d, NULL);
}

// The tokens of x->x, one after the other through each layer: its weights are wanted once.
static void feed_tokens(Decoder *x, int64_t count) {
    for (int l = 0; l < x->config->layers; l++) {
        int block = block_of_layer(l);
        LayerWeights weights = layer_weights(&x->store->layout.layer, store_acquire(x->store, block));
        for (int64_t row = 0; row < count; row++) decode_layer(x, &weights, l, row);
        store_release(x->store, block);
    }
}

// ---- feeding ----

// The logits after row `row` of the last layer's output.
static bool read_logits(Decoder *x, int64_t row, float *logits, Error *error) {
    Backend *b = x->backend;
    HeadWeights weights = head_weights(x->config, x->store);
    size_t bytes = (size_t)x->config->vocabulary * sizeof *logits;
    head_logits(&x->head, &weights, x->x, x->positions + row, 1);
    if (x->config->tied) store_release(x->store, 0);
    store_release(x->store, block_count(&x->store->layout) - 1);
    b->to_float(b, x->logits, x->head.logits, x->config->vocabulary, NULL);
    b->copy(b, x->told_logits, x->logits, bytes, NULL);
    b->synchronize(b, NULL);
    memcpy(logits, x->told_logits, bytes);
    return b->check(b, error) && store_check(x->store, error);
}

bool decoder_feed(Decoder *x, const int32_t *ids, int64_t count, float *logits, Error *error) {
    Backend *b = x->backend;
    bool prompt = x->length == 0;
    if (count > x->capacity - x->length) {
        error_set(error, "the text is longer than the %lld tokens that there is room for", (long long)x->capacity);
        return error_hint(error, "shorten the prompt, lower max_new_tokens (-n) or raise cutoff_len (-c)");
    }
    embed(x, ids, count, prompt ? round_up(count, b->token_multiple) : count);
    store_walk(x->store, WALK_UP);
    if (prompt) {
        x->new_starts[0] = 0;
        x->new_starts[1] = (int32_t)count;
        b->copy(b, x->starts, x->new_starts, 2 * sizeof *x->starts, NULL);
        feed_prompt(x, count);
    } else {
        feed_tokens(x, count);
    }
    store_walk(x->store, WALK_NONE);
    x->length += count;
    return read_logits(x, count - 1, logits, error);
}
