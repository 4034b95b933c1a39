// bench_rates.c - what a step is measured against: the processor's own matrix multiplication on the step's shapes and
// on a large one, a copy, and attention by itself.
#include "base/clock.h"
#include "base/random.h"
#include "cli/bench.h"
#include "train/flops.h"
#include <math.h>
#include <stdlib.h>

#define GEMM_REPEATS  5
#define LARGE_FIRST   256
#define LARGE_MOST    16384
#define LARGE_SECONDS 0.05 // no larger one is tried that would take longer
#define COPY_FIRST    ((size_t)1 << 20)
#define COPY_MOST     ((size_t)256 << 20) // more than any cache
#define COPY_SECONDS  0.005               // no larger copy is tried that would take longer
#define REPEATS       5
#define RUNS          4 // of an operation between two events, so that starting it costs little

// ---- matrix multiplications ----

// Adds to the list, once per shape.
static void add_works(GemmWork *list, int64_t *length, const GemmWork *works, int count) {
    for (int i = 0; i < count; i++) {
        int64_t at = 0;
        const GemmWork *w = &works[i];
        while (at < *length &&
               (list[at].layout != w->layout || list[at].m != w->m || list[at].n != w->n || list[at].k != w->k))
            at++;
        if (at == *length) list[(*length)++] = (GemmWork){w->layout, w->m, w->n, w->k, 0};
        list[at].count += w->count;
    }
}

// The step's operations, and the library's seconds for its multiplications.
static bool time_library(Bench *bench, Error *error) {
    Backend *b = bench->backend;
    BenchRates *r = &bench->rates;
    const PassSizes *sizes = &bench->plan.sizes;
    Method method = method_of(&bench->options.train, bench->config.layers);
    GemmWork works[GEMM_WORKS_MAX];
    size_t room = (size_t)bench->count * GEMM_WORKS_MAX;
    GemmWork *list = calloc(room, sizeof *list);
    if (!list) return error_memory(error, "the list of multiplications", room * sizeof *list);
    int64_t length = 0;
    bool good = true;
    for (int64_t m = 0; m < bench->count; m++) {
        const MicroBatch *batch = &bench->batches[m];
        add_works(list, &length, works, gemm_works(&bench->config, method.activated, batch, sizes->chunk, works));
        int again = gemm_works_again(&bench->config, batch, sizes, works);
        for (int i = 0; i < again; i++) r->executed += gemm_flops(&works[i]);
        r->needed += attention_flops(&bench->config, batch);
        r->executed += attention_flops_executed(&bench->config, batch, sizes, b);
    }
    for (int64_t i = 0; good && i < length; i++) {
        double once = 0;
        good = b->gemm_seconds(b, list[i].layout, list[i].m, list[i].n, list[i].k, GEMM_REPEATS, &once, error);
        r->library_seconds += once * (double)list[i].count;
        r->gemm_needed += gemm_flops(&list[i]);
    }
    r->needed += r->gemm_needed;
    r->executed += r->gemm_needed;
    free(list);
    return good;
}

// The best rate of ever larger square multiplications.
static bool time_large(Bench *bench, Error *error) {
    Backend *b = bench->backend;
    double seconds = 0;
    for (int64_t n = LARGE_FIRST; n <= LARGE_MOST && 8 * seconds < LARGE_SECONDS; n *= 2) {
        GemmWork work = {GEMM_FORWARD, n, n, n, 1};
        if (!b->gemm_seconds(b, work.layout, n, n, n, GEMM_REPEATS, &seconds, error)) return false;
        double rate = gemm_flops(&work) / seconds;
        if (rate < bench->rates.large_flops) continue;
        bench->rates.large_flops = rate;
        bench->rates.large_size = (double)n;
    }
    return true;
}

// ---- operations by themselves ----

typedef void Operation(Backend *b, void *context);

// Median seconds of a run by events, after some to warm up.
static bool time_operation(Backend *b, Operation *operation, void *context, double *seconds, Error *error) {
    double times[REPEATS];
    Event *start = b->event_create(b, error), *stop = start ? b->event_create(b, error) : NULL;
    for (int i = -1; stop && i < REPEATS; i++) {
        b->event_record(b, start, NULL);
        for (int run = 0; run < RUNS; run++) operation(b, context);
        b->event_record(b, stop, NULL);
        double once = b->event_seconds(b, start, stop) / RUNS;
        if (i >= 0) times[i] = once;
    }
    if (stop) *seconds = clock_median(times, REPEATS);
    bool good = stop && b->check(b, error);
    if (start) b->event_free(b, start);
    if (stop) b->event_free(b, stop);
    return good;
}

typedef struct Copy {
    void *to, *from;
    size_t bytes;
} Copy;

static void run_copy(Backend *b, void *context) {
    const Copy *copy = context;
    b->copy(b, copy->to, copy->from, copy->bytes, NULL);
}

static bool time_copy_of(Backend *b, size_t bytes, double *seconds, Error *error) {
    Copy copy = {NULL, NULL, bytes};
    bool good = b->allocate(b, MEMORY_DEVICE, bytes, &copy.from, error) &&
                b->allocate(b, MEMORY_DEVICE, bytes, &copy.to, error);
    if (good) {
        b->zero(b, copy.from, bytes, NULL);
        good = time_operation(b, run_copy, &copy, seconds, error);
    }
    b->release(b, MEMORY_DEVICE, copy.to);
    b->release(b, MEMORY_DEVICE, copy.from);
    return good;
}

// The rate of the largest copy: one that no cache holds, where that does not take too long.
static bool time_copy(Bench *bench, Error *error) {
    double seconds = 0;
    for (size_t bytes = COPY_FIRST; bytes <= COPY_MOST && 4 * seconds < COPY_SECONDS; bytes *= 4) {
        if (!time_copy_of(bench->backend, bytes, &seconds, error)) return false;
        bench->rates.copied = 2 * (double)bytes / seconds;
    }
    return true;
}

// ---- attention ----

typedef struct Attention {
    Arena arena;
    AttentionShape shape;
    int32_t *starts;
    Activation *qkv, *out, *dout, *dqkv;
    float *lse;
    void *scratch;
} Attention;

static void take_attention(Attention *a, const Backend *b, Arena *arena) {
    int64_t tokens = a->shape.tokens, width = (int64_t)a->shape.heads * a->shape.head_dim;
    int64_t row = width + 2 * (int64_t)a->shape.kv_heads * a->shape.head_dim;
    a->starts = arena_take(arena, a->shape.sequences + 1, sizeof(int32_t));
    a->qkv = arena_take(arena, tokens * row, b->activation_size);
    a->dqkv = arena_take(arena, tokens * row, b->activation_size);
    a->out = arena_take(arena, tokens * width, b->activation_size);
    a->dout = arena_take(arena, tokens * width, b->activation_size);
    a->lse = arena_take(arena, tokens * a->shape.heads, sizeof(float));
    a->scratch = arena_take(arena, (int64_t)b->attention_scratch(b, tokens, a->shape.heads), 1);
}

// Uniform in [-1, 1), through host memory.
static bool fill_random(Backend *b, Activation *to, int64_t count, Error *error) {
    size_t bytes = (size_t)count * b->activation_size;
    void *host = malloc(bytes);
    if (!host) return error_memory(error, "random numbers", bytes);
    for (int64_t i = 0; i < count; i++) {
        float value = (float)(2 * random_uniform(1, (uint64_t)i) - 1);
        if (b->activation == TYPE_F32)
            ((float *)host)[i] = value;
        else
            ((bf16 *)host)[i] = bf16_from_float(value);
    }
    b->copy(b, to, host, bytes, NULL);
    b->synchronize(b, NULL);
    free(host);
    return true;
}

static void run_forward(Backend *b, void *context) {
    Attention *a = context;
    b->attention_forward(b, a->out, a->lse, a->qkv, &a->shape, NULL);
}

static void run_backward(Backend *b, void *context) {
    Attention *a = context;
    b->attention_backward(b, a->dqkv, a->dout, a->qkv, a->out, a->lse, a->scratch, &a->shape, NULL);
}

static bool time_attention(Bench *bench, Error *error) {
    Backend *b = bench->backend;
    const ModelConfig *c = &bench->config;
    const MicroBatch *batch = &bench->batches[0];
    int64_t tokens = round_up(batch->used, b->token_multiple), width = (int64_t)c->heads * c->head_dim;
    Attention a = {.shape = {tokens, c->heads, c->kv_heads, c->head_dim, c->windowed[0] ? c->window : 0,
                             1 / sqrtf((float)c->head_dim), batch->sequences, NULL}};
    Arena measured;
    arena_measure(&measured, MEMORY_DEVICE);
    take_attention(&a, b, &measured);
    bool good = arena_create(&a.arena, b, MEMORY_DEVICE, measured.peak, "attention by itself", error);
    if (good) {
        take_attention(&a, b, &a.arena);
        a.shape.starts = a.starts;
        b->copy(b, a.starts, batch->starts, (size_t)(batch->sequences + 1) * sizeof(int32_t), NULL);
        good = fill_random(b, a.qkv, tokens * (width + 2 * (int64_t)c->kv_heads * c->head_dim), error) &&
               fill_random(b, a.dout, tokens * width, error) &&
               time_operation(b, run_forward, &a, &bench->rates.attention_forward, error) &&
               time_operation(b, run_backward, &a, &bench->rates.attention_backward, error);
    }
    bench->rates.attention_needed = attention_layer_flops(c, batch, 0);
    arena_free(&a.arena);
    return good;
}

bool bench_rates(Bench *bench, Error *error) {
    return time_library(bench, error) && time_large(bench, error) && time_copy(bench, error) &&
           time_attention(bench, error);
}
