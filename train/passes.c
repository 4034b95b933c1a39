// passes.c - see passes.h.
#include "train/passes.h"
#include <stdlib.h>

// ---- memory ----

static void take_micro_batch(Passes *p, Arena *arena, int64_t m) {
    int layers = p->config->layers;
    for (int l = 0; l < layers; l++)
        layer_activations_take(&p->kept[m * layers + l], arena, p->backend, p->config, p->sizes.tokens, p->sizes.keep);
    p->last[m] = arena_take(arena, p->sizes.tokens * p->config->hidden, p->backend->activation_size);
}

// A layer's work buffers and the head's are never in use together, so they share one stretch of the arena.
static void take_work(Passes *p, Arena *arena) {
    size_t mark = arena_mark(arena);
    layer_context_take(&p->layer, arena, p->backend, p->config, p->sizes.tokens, true);
    size_t layer_end = arena_mark(arena);
    arena_reset(arena, mark);
    head_context_take(&p->head, arena, p->backend, p->config, p->sizes.tokens, p->sizes.chunk, true);
    if (arena_mark(arena) < layer_end) arena_reset(arena, layer_end);
}

bool passes_create(Passes *p, Backend *backend, const ModelConfig *config, BlockStore *store, const PassSizes *sizes,
                   Arena *device, Arena *pinned, Error *error) {
    size_t sweep = (size_t)sizes->sweep, layers = (size_t)config->layers;
    *p = (Passes){.backend = backend, .config = config, .store = store, .sizes = *sizes};
    p->kept = calloc(sweep * layers, sizeof *p->kept);
    p->last = calloc(sweep, sizeof *p->last);
    if (!p->kept || !p->last) {
        passes_free(p);
        return error_memory(error, "the tables of activations", sweep * layers * sizeof *p->kept);
    }
    p->loss = arena_take(device, 1, sizeof(double));
    p->cosine = arena_take(device, sizes->positions * config->head_dim / 2, sizeof(float));
    p->sine = arena_take(device, sizes->positions * config->head_dim / 2, sizeof(float));
    if (!upload_create(&p->upload, backend, sizes->tokens, sizes->sweep, device, pinned, error)) {
        passes_free(p);
        return false;
    }
    for (int64_t m = 0; m < sizes->sweep && !device->overflow; m++) take_micro_batch(p, device, m);
    take_work(p, device);
    p->layer.cosine = p->cosine;
    p->layer.sine = p->sine;
    if (!device->overflow && !pinned->overflow) return true;
    passes_free(p);
    return error_set(error, "the activations do not fit their arena");
}

void passes_free(Passes *p) {
    upload_free(&p->upload);
    free(p->kept);
    free(p->last);
    *p = (Passes){0};
}

static bool fill_tables(Passes *p, Error *error) {
    size_t bytes = (size_t)(p->sizes.positions * p->config->head_dim / 2) * sizeof(float);
    float *cosine = malloc(bytes), *sine = malloc(bytes);
    bool ok = cosine && sine;
    if (ok) {
        model_rope_tables(p->config, p->sizes.positions, cosine, sine);
        p->backend->copy(p->backend, p->cosine, cosine, bytes, NULL);
        p->backend->copy(p->backend, p->sine, sine, bytes, NULL);
        p->backend->synchronize(p->backend, NULL);
    } else {
        error_memory(error, "the rotary tables", bytes);
    }
    free(cosine);
    free(sine);
    return ok;
}

bool passes_prepare(Passes *p, Error *error) {
    return fill_tables(p, error) && upload_open(&p->upload, error);
}

// ---- one sweep ----

// The layer's context for this micro-batch's number of tokens.
static LayerContext context_for(const Passes *p, int64_t m) {
    LayerContext context = p->layer;
    context.tokens = p->batches[m].tokens;
    return context;
}

static void forward(Passes *p, const MicroBatch *batches, int64_t count) {
    Backend *b = p->backend;
    int layers = p->config->layers;
    const bf16 *embedding = store_acquire(p->store, 0);
    phase_start(p->clock, PHASE_UPLOAD);
    p->batches = upload_begin(&p->upload, batches, count, p->config->pad);
    phase_start(p->clock, PHASE_FORWARD);
    for (int64_t m = 0; m < count; m++)
        b->embed_forward(b, p->kept[m * layers].input, embedding, p->batches[m].ids, p->batches[m].tokens,
                         p->config->hidden, NULL);
    for (int l = 0; l < layers; l++) {
        LayerWeights weights = layer_weights(&p->store->layout.layer, store_acquire(p->store, block_of_layer(l)));
        for (int64_t m = 0; m < count; m++) {
            LayerContext context = context_for(p, m);
            LayerActivations *kept = &p->kept[m * layers + l];
            Activation *out = l + 1 < layers ? kept[1].input : p->last[m];
            layer_forward(&context, &weights, l, &p->batches[m].layer, kept, out);
        }
    }
}

static HeadGradients head_gradients(const Passes *p, float *const *gradients) {
    const BlockLayout *layout = &p->store->layout;
    float *head = gradients[block_count(layout) - 1];
    float *matrix = p->config->tied ? gradients[0] + layout->embedding.offset : head + layout->head.offset;
    return (HeadGradients){matrix, head + layout->final_norm.offset};
}

void passes_begin(Passes *p) {
    p->backend->zero(p->backend, p->loss, sizeof(double), NULL);
}

// The embedding rows that occurred get their gradient, but for the padding token's: transformers gives its nn.Embedding
// a padding_idx, so that row learns nothing from the input even where the same token also ends a turn.
static void embedding_gradient(Passes *p, int64_t m, float *gradient) {
    Backend *b = p->backend;
    const DeviceBatch *d = &p->batches[m];
    int64_t columns = p->config->hidden, after = d->pad_row + 1;
    b->embed_backward(b, gradient, p->last[m], d->rows, d->row_starts, d->row_tokens, d->pad_row, columns, NULL);
    if (after < d->row_count)
        b->embed_backward(b, gradient, p->last[m], d->rows + after, d->row_starts + after, d->row_tokens,
                          d->row_count - after, columns, NULL);
}

static void complete(const GradientSink *sink, int block) {
    if (sink->complete) sink->complete(sink->context, block);
}

static void backward_head(Passes *p, int64_t count, float scale, const GradientSink *sink) {
    HeadWeights head = head_weights(p->config, p->store);
    HeadGradients gradients = head_gradients(p, sink->gradients);
    phase_start(p->clock, PHASE_HEAD);
    for (int64_t m = 0; m < count; m++) {
        const DeviceBatch *d = &p->batches[m];
        head_loss_backward(&p->head, &head, p->last[m], d->tokens, d->target_rows, d->labels, d->targets, scale,
                           p->loss, &gradients);
    }
    complete(sink, block_count(&p->store->layout) - 1);
}

static void backward_layer(Passes *p, int64_t count, int l, const GradientSink *sink) {
    int block = block_of_layer(l);
    const LayerLayout *layout = &p->store->layout.layer;
    LayerWeights weights = layer_weights(layout, store_acquire(p->store, block));
    LayerGradients views;
    bool active = sink->gradients[block] != NULL;
    phase_start(p->clock, PHASE_BACKWARD);
    if (active) views = layer_gradients(layout, sink->gradients[block]);
    for (int64_t m = 0; m < count; m++) {
        LayerContext context = context_for(p, m);
        layer_backward(&context, &weights, l, &p->batches[m].layer, &p->kept[m * p->config->layers + l], p->last[m],
                       active ? &views : NULL);
    }
    if (active) complete(sink, block);
}

void passes_train(Passes *p, const MicroBatch *batches, int64_t count, float scale, const GradientSink *sink) {
    forward(p, batches, count);
    backward_head(p, count, scale, sink);
    for (int l = p->config->layers - 1; l >= 0; l--) backward_layer(p, count, l, sink);
    phase_start(p->clock, PHASE_BACKWARD); // not the update of the lowest layer
    for (int64_t m = 0; m < count; m++) embedding_gradient(p, m, sink->gradients[0]);
    upload_end(&p->upload);
    complete(sink, 0);
}

void passes_evaluate(Passes *p, const MicroBatch *batches, int64_t count) {
    forward(p, batches, count);
    HeadWeights head = head_weights(p->config, p->store);
    for (int64_t m = 0; m < count; m++) {
        const DeviceBatch *d = &p->batches[m];
        head_loss(&p->head, &head, p->last[m], d->target_rows, d->labels, d->targets, p->loss);
    }
    upload_end(&p->upload);
}
