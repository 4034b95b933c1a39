// embedding.c - rows of the embedding table, the gradient of the rows that occurred, and compact rows added to a table.
#include "kernels/cpu/vector_math.h"

typedef struct Embedding {
    CpuBackend *cpu;
    float *out;         // [T, d]
    const bf16 *table;  // [vocabulary, d]
    const int32_t *ids; // [T]
    float *gradient;    // [vocabulary, d]
    const float *dout;  // [T, d]
    const int32_t *rows, *starts, *order;
    int64_t d;
} Embedding;

CPU_INLINE void copy_rows_body(const Embedding *e, int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) vector_widen(e->out + t * e->d, e->table + (int64_t)e->ids[t] * e->d, e->d);
}
CPU_KERNEL(copy_rows, (const Embedding *e, int64_t first, int64_t last), (e, first, last))

static void forward_rows(void *context, int64_t first, int64_t last, int worker) {
    const Embedding *e = context;
    (void)worker;
    copy_rows(e->cpu->instructions)(e, first, last);
}

void cpu_embed_forward(Backend *b, Activation *out, const bf16 *table, const int32_t *ids, int64_t tokens, int64_t d,
                       Stream *stream) {
    (void)stream;
    Embedding e = {.cpu = cpu_backend(b), .out = out, .table = table, .ids = ids, .d = d};
    cpu_for_rows(e.cpu, tokens, cpu_rows_per_task(d), forward_rows, &e);
}

CPU_INLINE void sum_tokens_body(const Embedding *e, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
        float *restrict gradient = e->gradient + (int64_t)e->rows[r] * e->d;
        for (int64_t i = e->starts[r]; i < e->starts[r + 1]; i++) {
            const float *restrict dout = e->dout + (int64_t)e->order[i] * e->d;
            for (int64_t j = 0; j < e->d; j++) gradient[j] += dout[j];
        }
    }
}
CPU_KERNEL(sum_tokens, (const Embedding *e, int64_t first, int64_t last), (e, first, last))

static void backward_rows(void *context, int64_t first, int64_t last, int worker) {
    const Embedding *e = context;
    (void)worker;
    sum_tokens(e->cpu->instructions)(e, first, last);
}

void cpu_embed_backward(Backend *b, float *gradient, const Activation *dout, const int32_t *rows, const int32_t *starts,
                        const int32_t *order, int64_t row_count, int64_t d, Stream *stream) {
    (void)stream;
    Embedding e = {.cpu = cpu_backend(b), .gradient = gradient, .dout = dout, .d = d};
    e.rows = rows, e.starts = starts, e.order = order;
    cpu_for_rows(e.cpu, row_count, cpu_rows_per_task(d), backward_rows, &e);
}

typedef struct RowAddition {
    CpuBackend *cpu;
    float *table;
    const float *rows;
    const int32_t *places;
    int64_t d;
} RowAddition;

CPU_INLINE void add_rows_body(const RowAddition *a, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
        if (a->places[r] < 0) continue;
        float *restrict to = a->table + r * a->d;
        const float *restrict row = a->rows + a->places[r] * a->d;
        for (int64_t j = 0; j < a->d; j++) to[j] += row[j];
    }
}
CPU_KERNEL(add_rows, (const RowAddition *a, int64_t first, int64_t last), (a, first, last))

static void add_some_rows(void *context, int64_t first, int64_t last, int worker) {
    const RowAddition *a = context;
    (void)worker;
    add_rows(a->cpu->instructions)(a, first, last);
}

void cpu_add_rows(Backend *b, float *table, const float *rows, const int32_t *places, int64_t count, int64_t d,
                  Stream *stream) {
    (void)stream;
    RowAddition a = {.cpu = cpu_backend(b), .table = table, .rows = rows, .places = places, .d = d};
    cpu_for_rows(a.cpu, count, cpu_rows_per_task(d), add_some_rows, &a);
}
