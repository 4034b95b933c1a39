// fill_normal.c - random weights, for benchmarks and tests without a model file.
#include "base/random.h"
#include "kernels/cpu/cpu.h"
#include <math.h>

typedef struct Fill {
    CpuBackend *cpu;
    bf16 *out;
    float mean, deviation;
    uint64_t key;
} Fill;

CPU_INLINE void fill_body(const Fill *f, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++)
        f->out[i] = bf16_from_float(fmaf(f->deviation, random_normal(f->key, (uint64_t)i), f->mean));
}
CPU_KERNEL(fill, (const Fill *f, int64_t first, int64_t last), (f, first, last))

static void fill_piece(void *context, int64_t first, int64_t last, int worker) {
    const Fill *f = context;
    (void)worker;
    fill(f->cpu->instructions)(f, first, last);
}

void cpu_fill_normal(Backend *b, bf16 *out, int64_t count, float mean, float deviation, uint64_t key, Stream *stream) {
    (void)stream;
    Fill f = {cpu_backend(b), out, mean, deviation, key};
    cpu_for_rows(f.cpu, count, cpu_rows_per_task(1), fill_piece, &f);
}
