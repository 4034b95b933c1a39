// rows.c - picks rows out of a matrix and puts them back: the tokens that have a label.
#include "kernels/cpu/cpu.h"

typedef struct RowCopy {
    float *out;
    const float *in;
    const int32_t *index;
    int64_t d;
} RowCopy;

static void gather(void *context, int64_t first, int64_t last, int worker) {
    const RowCopy *c = context;
    (void)worker;
    for (int64_t i = first; i < last; i++)
        memcpy(c->out + i * c->d, c->in + c->index[i] * c->d, (size_t)c->d * sizeof *c->out);
}

static void scatter(void *context, int64_t first, int64_t last, int worker) {
    const RowCopy *c = context;
    (void)worker;
    for (int64_t i = first; i < last; i++)
        memcpy(c->out + c->index[i] * c->d, c->in + i * c->d, (size_t)c->d * sizeof *c->out);
}

void cpu_gather_rows(Backend *b, Activation *out, const Activation *x, const int32_t *index, int64_t count, int64_t d,
                     Stream *stream) {
    (void)stream;
    RowCopy c = {out, x, index, d};
    cpu_for_rows(cpu_backend(b), count, cpu_rows_per_task(d), gather, &c);
}

void cpu_scatter_rows(Backend *b, Activation *out, const Activation *x, const int32_t *index, int64_t count, int64_t d,
                      Stream *stream) {
    (void)stream;
    RowCopy c = {out, x, index, d};
    cpu_for_rows(cpu_backend(b), count, cpu_rows_per_task(d), scatter, &c);
}
