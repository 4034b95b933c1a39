// elementwise.c - the sum of two tensors, and activations as floats.
#include "kernels/cpu/cpu.h"

typedef struct Elements {
    CpuBackend *cpu;
    float *out;
    const float *x, *y;
} Elements;

CPU_INLINE void add_elements_body(float *out, const float *x, const float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) out[i] = x[i] + y[i];
}
CPU_KERNEL(add_elements, (float *out, const float *x, const float *y, int64_t count), (out, x, y, count))

static void add_piece(void *context, int64_t first, int64_t last, int worker) {
    const Elements *e = context;
    (void)worker;
    add_elements(e->cpu->instructions)(e->out + first, e->x + first, e->y + first, last - first);
    cpu_round(e->cpu, e->out + first, last - first);
}

void cpu_add(Backend *b, Activation *out, const Activation *x, const Activation *y, int64_t count, Stream *stream) {
    (void)stream;
    Elements e = {cpu_backend(b), out, x, y};
    cpu_for_rows(e.cpu, count, cpu_rows_per_task(1), add_piece, &e);
}

void cpu_to_float(Backend *b, float *out, const Activation *x, int64_t count, Stream *stream) {
    b->copy(b, out, x, (size_t)count * sizeof *out, stream);
}
