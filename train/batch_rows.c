// batch_rows.c - see batch_rows.h.
#include "train/batch_rows.h"
#include "model/uses.h"
#include <string.h>

#define ROWS_PER_TASK 64

void batch_rows_take(BatchRows *r, Backend *backend, const ModelConfig *config, int64_t capacity, bool on_host,
                     Arena *device, Arena *pinned, Arena *host) {
    int64_t vocabulary = config->vocabulary, elements;
    *r = (BatchRows){.backend = backend,
                     .vocabulary = vocabulary,
                     .columns = config->hidden,
                     .capacity = capacity,
                     .on_host = on_host,
                     .tied = config->tied};
    if (__builtin_mul_overflow(capacity, config->hidden, &elements)) elements = -1; // the arena reports it
    device->use = pinned->use = host->use = USE_ROWS;
    for (int i = 0; i < 2; i++) {
        r->sets[i].places = arena_take(pinned, vocabulary, sizeof(int32_t));
        r->sets[i].rows = arena_take(host, capacity, sizeof(int32_t));
    }
    if (on_host) {
        r->table = arena_take(device, elements, sizeof(bf16));
        r->gathered = arena_take(pinned, elements, sizeof(bf16));
        r->others = arena_take(host, vocabulary, sizeof(int32_t));
    } else {
        r->places = arena_take(device, vocabulary, sizeof(int32_t));
    }
    if (r->tied) r->gradient = arena_take(device, elements, sizeof(float));
}

bool batch_rows_open(BatchRows *r, Error *error) {
    if (!r->on_host) return true;
    r->sent = r->backend->event_create(r->backend, error);
    return r->sent != NULL;
}

void batch_rows_free(BatchRows *r) {
    if (r->sent) r->backend->event_free(r->backend, r->sent);
    *r = (BatchRows){0};
}

const RowSet *batch_rows_current(const BatchRows *r) {
    return &r->sets[r->current];
}

bool batch_rows_find(BatchRows *r, const MicroBatch *batches, int64_t count, Error *error) {
    RowSet *set = &r->sets[1 - r->current];
    memset(set->places, 0xff, (size_t)r->vocabulary * sizeof *set->places); // -1
    set->count = 0;
    for (int64_t m = 0; m < count; m++)
        for (int32_t i = 0; i < batches[m].row_count; i++) set->places[batches[m].rows[i]] = 0;
    for (int64_t row = 0; row < r->vocabulary; row++) {
        if (set->places[row] < 0) continue;
        if (set->count == r->capacity)
            return error_set(error, "the examples have more than the %lld distinct tokens that were planned for",
                             (long long)r->capacity);
        set->places[row] = (int32_t)set->count;
        set->rows[set->count++] = (int32_t)row;
    }
    r->current = 1 - r->current;
    return true;
}

void batch_rows_send_places(BatchRows *r) {
    const RowSet *set = batch_rows_current(r);
    r->backend->copy(r->backend, r->places, set->places, (size_t)r->vocabulary * sizeof *set->places, NULL);
}

typedef struct Gather {
    bf16 *to;
    const bf16 *from;
    const RowSet *set;
    int64_t columns;
} Gather;

static void gather_task(void *context, int64_t index, int worker) {
    const Gather *g = context;
    int64_t first = index * ROWS_PER_TASK, last = first + ROWS_PER_TASK;
    (void)worker;
    if (last > g->set->count) last = g->set->count;
    for (int64_t i = first; i < last; i++)
        memcpy(g->to + i * g->columns, g->from + g->set->rows[i] * g->columns, (size_t)g->columns * sizeof(bf16));
}

void batch_rows_send_weights(BatchRows *r, const bf16 *weights) {
    Backend *b = r->backend;
    const RowSet *set = batch_rows_current(r);
    Gather gather = {r->gathered, weights, set, r->columns};
    if (r->sent_once) b->event_synchronize(b, r->sent);
    thread_pool_run(b->threads, (set->count + ROWS_PER_TASK - 1) / ROWS_PER_TASK, gather_task, &gather);
    b->copy(b, r->table, r->gathered, (size_t)(set->count * r->columns) * sizeof(bf16), NULL);
    b->event_record(b, r->sent, NULL);
    r->sent_once = true;
}

void batch_rows_clear_gradient(BatchRows *r) {
    size_t elements = (size_t)(batch_rows_current(r)->count * r->columns);
    r->backend->zero(r->backend, r->gradient, elements * sizeof *r->gradient, NULL);
}

void batch_rows_add_gradient(BatchRows *r, float *gradient) {
    r->backend->add_rows(r->backend, gradient, r->gradient, r->places, r->vocabulary, r->columns, NULL);
}

int64_t batch_rows_others(BatchRows *r) {
    const RowSet *set = batch_rows_current(r);
    int64_t count = 0;
    for (int64_t row = 0; row < r->vocabulary; row++)
        if (set->places[row] < 0) r->others[count++] = (int32_t)row;
    return count;
}
