// head.c - see head.h.
#include "model/head.h"

#define LOGITS_COLUMNS 64 // the stride's multiple: whole cache lines and tensor-core tiles

HeadWeights head_weights(const ModelConfig *config, BlockStore *store) {
    const BlockLayout *layout = &store->layout;
    const bf16 *head = store_acquire(store, block_count(layout) - 1);
    const bf16 *matrix = config->tied ? store_acquire(store, 0) + layout->embedding.offset : head + layout->head.offset;
    return (HeadWeights){matrix, head + layout->final_norm.offset};
}

void head_context_take(HeadContext *h, Arena *arena, Backend *backend, const ModelConfig *config, int64_t rows,
                       int64_t chunk, bool backward) {
    size_t size = backend->activation_size;
    int64_t d = config->hidden;
    *h = (HeadContext){.backend = backend, .config = config, .rows = rows, .chunk = chunk};
    h->stride = round_up(config->vocabulary, LOGITS_COLUMNS);
    h->input = arena_take(arena, rows * d, size);
    h->normed = arena_take(arena, rows * d, size);
    h->rstd = arena_take(arena, rows, sizeof(float));
    h->losses = arena_take(arena, rows, sizeof(float));
    h->logits = arena_take(arena, chunk * h->stride, size);
    if (!backward) return;
    h->d_normed = arena_take(arena, rows * d, size);
    h->d_input = arena_take(arena, rows * d, size);
    h->norm_scratch = arena_take(arena, (int64_t)backend->rmsnorm_scratch(backend, rows, d), 1);
}

static void gather_and_norm(const HeadContext *h, const HeadWeights *w, const Activation *x, const int32_t *rows,
                            int64_t count) {
    Backend *b = h->backend;
    int64_t d = h->config->hidden;
    b->gather_rows(b, h->input, x, rows, count, d, NULL);
    b->rmsnorm_forward(b, h->normed, h->rstd, h->input, w->norm, h->config->norm_epsilon, count, d, NULL);
}

// Row `row` of a matrix of activations with d columns.
static Activation *row_of(const Backend *b, Activation *matrix, int64_t row, int64_t d) {
    return (unsigned char *)matrix + (size_t)(row * d) * b->activation_size;
}

// The logits of `count` normed rows from `first` on.
static void chunk_logits(const HeadContext *h, const HeadWeights *w, int64_t first, int64_t count) {
    Backend *b = h->backend;
    const ModelConfig *config = h->config;
    b->linear_forward(b, h->logits, row_of(b, h->normed, first, config->hidden), w->matrix, NULL, NULL, count,
                      config->vocabulary, config->hidden, h->stride, NULL);
}

void head_loss(const HeadContext *h, const HeadWeights *w, const Activation *x, const int32_t *target_rows,
               const int32_t *labels, int64_t count, double *loss) {
    Backend *b = h->backend;
    gather_and_norm(h, w, x, target_rows, count);
    for (int64_t first = 0; first < count; first += h->chunk) {
        int64_t rows = count - first < h->chunk ? count - first : h->chunk;
        chunk_logits(h, w, first, rows);
        b->cross_entropy(b, h->logits, h->losses + first, labels + first, 1, false, rows, h->config->vocabulary,
                         h->stride, NULL);
    }
    b->sum_losses(b, loss, h->losses, count, NULL);
}

void head_loss_backward(const HeadContext *h, const HeadWeights *w, Activation *x, int64_t tokens,
                        const int32_t *target_rows, const int32_t *labels, int64_t count, float scale, double *loss,
                        const HeadGradients *gradients) {
    Backend *b = h->backend;
    int64_t d = h->config->hidden, vocabulary = h->config->vocabulary;
    gather_and_norm(h, w, x, target_rows, count);
    for (int64_t first = 0; first < count; first += h->chunk) {
        int64_t rows = count - first < h->chunk ? count - first : h->chunk;
        chunk_logits(h, w, first, rows);
        b->cross_entropy(b, h->logits, h->losses + first, labels + first, scale, true, rows, vocabulary, h->stride,
                         NULL);
        b->linear_backward_input(b, row_of(b, h->d_normed, first, d), h->logits, w->matrix, rows, vocabulary, d,
                                 h->stride, NULL);
        if (gradients)
            b->linear_backward_weight(b, gradients->matrix, NULL, h->logits, row_of(b, h->normed, first, d), rows,
                                      vocabulary, d, h->stride, NULL);
    }
    b->sum_losses(b, loss, h->losses, count, NULL);
    size_t row_bytes = (size_t)d * b->activation_size;
    b->zero(b, h->d_input, (size_t)count * row_bytes, NULL);
    b->rmsnorm_backward(b, h->d_input, gradients ? gradients->norm : NULL, h->d_normed, h->input, h->rstd, w->norm,
                        h->norm_scratch, count, d, NULL);
    b->zero(b, x, (size_t)tokens * row_bytes, NULL);
    b->scatter_rows(b, x, h->d_input, target_rows, count, d, NULL);
}

void head_logits(const HeadContext *h, const HeadWeights *w, const Activation *x, const int32_t *rows, int64_t count) {
    gather_and_norm(h, w, x, rows, count);
    chunk_logits(h, w, 0, count);
}
