// passes.c - see passes.h.
#include "train/passes.h"
#include "model/uses.h"
#include <stdlib.h>

LayerKeep pass_keep(const PassSizes *sizes, int layers, int l) {
    if (l >= layers - sizes->keep_all) return KEEP_ALL;
    return l >= layers - sizes->keep_all - sizes->keep_attention ? KEEP_ATTENTION : KEEP_INPUT;
}

void pass_keep_everywhere(PassSizes *sizes, int layers, LayerKeep keep) {
    sizes->keep_all = keep == KEEP_ALL ? layers : 0;
    sizes->keep_attention = keep == KEEP_ATTENTION ? layers : 0;
}

// ---- memory ----

static void take_micro_batch(Passes *p, Arena *arena, int64_t m) {
    int layers = p->config->layers;
    for (int l = 0; l < layers; l++)
        layer_activations_take(&p->kept[m * layers + l], arena, p->backend, p->config, p->sizes.tokens,
                               pass_keep(&p->sizes, layers, l));
}

// A layer's work buffers and the head's are never in use together, so they share one stretch of the arena.
static void take_work(Passes *p, Arena *arena) {
    bool backward = p->sizes.inputs != INPUTS_DROPPED;
    size_t mark = arena_mark(arena);
    arena->use = USE_WORK;
    LayerKeep least = pass_keep(&p->sizes, p->config->layers, 0); // the lowest layer keeps least
    layer_context_take(&p->layer, arena, p->backend, p->config, p->sizes.tokens, least, backward);
    size_t layer_end = arena_mark(arena);
    arena_reset(arena, mark);
    head_context_take(&p->head, arena, p->backend, p->config, p->sizes.tokens, p->sizes.chunk, backward);
    if (arena_mark(arena) < layer_end) arena_reset(arena, layer_end);
}

static bool take_all(Passes *p, Arena *device, Arena *pinned, Error *error) {
    const PassSizes *sizes = &p->sizes;
    const ModelConfig *config = p->config;
    device->use = pinned->use = USE_SMALL;
    p->loss = arena_take(device, 1, sizeof(double));
    p->cosine = arena_take(device, sizes->positions * config->head_dim / 2, sizeof(float));
    p->sine = arena_take(device, sizes->positions * config->head_dim / 2, sizeof(float));
    if (!upload_create(&p->upload, p->backend, sizes->tokens, sizes->sweep, device, pinned, error) ||
        !inputs_create(&p->inputs, p->backend, sizes->inputs, config->layers, sizes->sweep, sizes->tokens,
                       config->hidden, device, pinned, error))
        return false;
    for (int64_t m = 0; m < sizes->sweep && !device->overflow; m++) take_micro_batch(p, device, m);
    take_work(p, device);
    p->layer.cosine = p->cosine;
    p->layer.sine = p->sine;
    return (!device->overflow && !pinned->overflow) || error_set(error, "the activations do not fit their arena");
}

bool passes_create(Passes *p, Backend *backend, const ModelConfig *config, BlockStore *store, const PassSizes *sizes,
                   Arena *device, Arena *pinned, Error *error) {
    size_t count = (size_t)sizes->sweep * (size_t)config->layers;
    *p = (Passes){.backend = backend, .config = config, .store = store, .sizes = *sizes};
    p->kept = calloc(count, sizeof *p->kept);
    bool ok = p->kept ? take_all(p, device, pinned, error)
                      : error_memory(error, "the table of activations", count * sizeof *p->kept);
    if (!ok) passes_free(p);
    return ok;
}

void passes_free(Passes *p) {
    upload_free(&p->upload);
    inputs_free(&p->inputs);
    free(p->kept);
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
    return fill_tables(p, error) && upload_open(&p->upload, error) && inputs_open(&p->inputs, error);
}

// ---- one sweep ----

// The layer's context for this micro-batch's number of tokens.
static LayerContext context_for(const Passes *p, int64_t m) {
    LayerContext context = p->layer;
    context.tokens = p->batches[m].tokens;
    return context;
}

static void forward_layer(Passes *p, int64_t count, int l) {
    int block = block_of_layer(l);
    LayerWeights weights = layer_weights(&p->store->layout.layer, store_acquire(p->store, block));
    for (int64_t m = 0; m < count; m++) {
        LayerContext context = context_for(p, m);
        LayerActivations kept = p->kept[m * p->config->layers + l];
        Activation *out;
        inputs_forward(&p->inputs, l, m, &kept.input, &out);
        layer_forward(&context, &weights, l, &p->batches[m].layer, &kept, out);
        inputs_forward_done(&p->inputs, l, m);
    }
    store_release(p->store, block);
}

static void forward(Passes *p, const MicroBatch *batches, int64_t count, bool training) {
    Backend *b = p->backend;
    phase_start(p->clock, PHASE_UPLOAD);
    const bf16 *table = p->table ? p->table : store_acquire(p->store, 0);
    p->batches = upload_begin(&p->upload, batches, count, p->config->pad, p->places, p->table != NULL);
    phase_start(p->clock, PHASE_FORWARD);
    inputs_begin(&p->inputs, count, training);
    for (int64_t m = 0; m < count; m++) {
        int64_t tokens = p->batches[m].tokens;
        b->embed_forward(b, inputs_embedded(&p->inputs, m, tokens), table, p->batches[m].ids, tokens, p->config->hidden,
                         NULL);
    }
    store_walk(p->store, WALK_UP);
    for (int l = 0; l < p->config->layers; l++) forward_layer(p, count, l);
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
    b->embed_backward(b, gradient, inputs_last(&p->inputs, m), d->rows, d->row_starts, d->row_tokens, d->pad_row,
                      columns, NULL);
    if (after < d->row_count)
        b->embed_backward(b, gradient, inputs_last(&p->inputs, m), d->rows + after, d->row_starts + after,
                          d->row_tokens, d->row_count - after, columns, NULL);
}

static void begin(const GradientSink *sink, int block) {
    if (sink->begin) sink->begin(sink->context, block);
}

static void complete(const GradientSink *sink, int block) {
    if (sink->complete) sink->complete(sink->context, block);
}

static void backward_head(Passes *p, int64_t count, float scale, const GradientSink *sink) {
    HeadWeights head = head_weights(p->config, p->store);
    HeadGradients gradients = head_gradients(p, sink->gradients);
    begin(sink, block_count(&p->store->layout) - 1);
    phase_start(p->clock, PHASE_HEAD);
    for (int64_t m = 0; m < count; m++) {
        const DeviceBatch *d = &p->batches[m];
        head_loss_backward(&p->head, &head, inputs_last(&p->inputs, m), d->tokens, d->target_rows, d->labels,
                           d->targets, scale, p->loss, &gradients);
    }
    complete(sink, block_count(&p->store->layout) - 1);
}

static void backward_layer(Passes *p, int64_t count, int l, const GradientSink *sink) {
    int block = block_of_layer(l);
    const LayerLayout *layout = &p->store->layout.layer;
    LayerWeights weights = layer_weights(layout, store_acquire(p->store, block));
    LayerGradients views;
    bool active = sink->gradients[block] != NULL;
    if (active) begin(sink, block);
    phase_start(p->clock, PHASE_BACKWARD);
    if (active) views = layer_gradients(layout, sink->gradients[block]);
    for (int64_t m = 0; m < count; m++) {
        LayerContext context = context_for(p, m);
        LayerActivations kept = p->kept[m * p->config->layers + l];
        kept.input = inputs_backward(&p->inputs, l, m);
        layer_backward(&context, &weights, l, &p->batches[m].layer, &kept, inputs_last(&p->inputs, m),
                       active ? &views : NULL);
        inputs_backward_done(&p->inputs, l, m);
    }
    if (active) complete(sink, block);
    store_release(p->store, block);
}

void passes_train(Passes *p, const MicroBatch *batches, int64_t count, float scale, const GradientSink *sink) {
    forward(p, batches, count, true);
    inputs_turn(&p->inputs);
    backward_head(p, count, scale, sink);
    store_walk(p->store, WALK_DOWN);
    for (int l = p->config->layers - 1; l >= 0; l--) backward_layer(p, count, l, sink);
    store_walk(p->store, WALK_NONE);
    phase_start(p->clock, PHASE_BACKWARD); // not the update of the lowest layer
    float *embedding = sink->embedding ? sink->embedding : sink->gradients[0];
    for (int64_t m = 0; m < count; m++) embedding_gradient(p, m, embedding);
    upload_end(&p->upload);
    complete(sink, 0);
}

void passes_evaluate(Passes *p, const MicroBatch *batches, int64_t count) {
    forward(p, batches, count, false);
    store_walk(p->store, WALK_NONE);
    HeadWeights head = head_weights(p->config, p->store);
    for (int64_t m = 0; m < count; m++) {
        const DeviceBatch *d = &p->batches[m];
        head_loss(&p->head, &head, inputs_last(&p->inputs, m), d->target_rows, d->labels, d->targets, p->loss);
    }
    upload_end(&p->upload);
}
