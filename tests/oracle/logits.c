// logits.c - what lisa computes, for the scripts beside it to compare: logits MODEL ID...
// Writes the logits after each of the tokens to stdout, as fp32 numbers [tokens, V].
#include "model/decode.h"
#include "model/source.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct Program {
    Backend *backend;
    ModelSource *source;
    Arena arena; // weights, cache and work buffers
    Arena host;  // through which ids and logits pass
    BlockStore store;
    Decoder decoder;
    float *logits; // [V]
} Program;

static bool take(Program *p, const BlockLayout *layout, int64_t capacity, Error *error) {
    return store_create(&p->store, p->backend, layout, NULL, &p->arena, NULL, NULL, error) &&
           decoder_create(&p->decoder, p->backend, model_source_config(p->source), &p->store, capacity, &p->arena,
                          &p->host, error);
}

static bool open_model(Program *p, const char *path, int64_t capacity, Error *error) {
    p->backend = backend_cpu_create(1, false, error);
    p->source = p->backend ? model_source_open(path, false, error) : NULL;
    if (!p->source) return false;
    const BlockLayout *layout = model_source_layout(p->source);
    arena_measure(&p->arena, MEMORY_DEVICE);
    arena_measure(&p->host, MEMORY_PINNED);
    if (!take(p, layout, capacity, error)) return false;
    size_t bytes = p->arena.peak, host = p->host.peak;
    store_free(&p->store);
    decoder_free(&p->decoder);
    p->logits = malloc((size_t)model_source_config(p->source)->vocabulary * sizeof *p->logits);
    return p->logits && arena_create(&p->arena, p->backend, MEMORY_DEVICE, bytes, "the model", error) &&
           arena_create(&p->host, p->backend, MEMORY_PINNED, host, "ids and logits", error) &&
           take(p, layout, capacity, error) &&
           model_source_load(p->source, &p->store, p->backend->threads, NULL, NULL, error) &&
           decoder_prepare(&p->decoder, error);
}

int main(int argc, char **argv) {
    Program p = {0};
    Error error = {0};
    if (argc < 3) return 2;
    bool ok = open_model(&p, argv[1], argc - 2, &error);
    for (int i = 2; ok && i < argc; i++) {
        int32_t id = atoi(argv[i]);
        size_t count = (size_t)model_source_config(p.source)->vocabulary;
        ok = decoder_feed(&p.decoder, &id, 1, p.logits, &error) &&
             fwrite(p.logits, sizeof *p.logits, count, stdout) == count;
    }
    if (!ok) fprintf(stderr, "logits: %s\n", error.text);
    decoder_free(&p.decoder);
    store_free(&p.store);
    arena_free(&p.arena);
    arena_free(&p.host);
    model_source_close(p.source);
    if (p.backend) p.backend->destroy(p.backend);
    free(p.logits);
    return ok ? 0 : 1;
}
