// swiglu.c - silu(g) * u and its backward, which takes the place of what it was computed from.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector_math.h"

typedef struct SwigluWork {
    CpuBackend *cpu;
    const float *inputs; // [T, 2f]: gate, up
    float *gate_up;      // the same, for the backward to overwrite
    const float *dout;   // [T, f]
    float *out;          // [T, f] or NULL; may be dout
    int64_t f;
} SwigluWork;

CPU_INLINE void swiglu_body(float *restrict out, const float *restrict gate, const float *restrict up, int64_t f) {
    for (int64_t j = 0; j < f; j++) out[j] = gate[j] * vector_sigmoid(gate[j]) * up[j];
}

// One block of at most LANES elements, read whole before it is written, as out may be dout.
CPU_INLINE void backward_block(float *gate, float *up, float *out, const float *dout, int64_t count) {
    const size_t bytes = (size_t)count * sizeof(float);
    float g[LANES] = {0}, u[LANES] = {0}, d[LANES] = {0}, product[LANES];
    memcpy(g, gate, bytes);
    memcpy(u, up, bytes);
    memcpy(d, dout, bytes);
    for (int l = 0; l < LANES; l++) {
        float s = vector_sigmoid(g[l]), silu = g[l] * s;
        product[l] = silu * u[l];
        g[l] = d[l] * u[l] * (s * (1.0f + g[l] * (1.0f - s))); // silu'(g) = s (1 + g (1 - s)), s = sigmoid(g)
        u[l] = d[l] * silu;
    }
    memcpy(gate, g, bytes);
    memcpy(up, u, bytes);
    if (out) memcpy(out, product, bytes);
}

CPU_INLINE void swiglu_backward_body(float *gate, float *up, float *out, const float *dout, int64_t f) {
    int64_t j = 0;
    for (; j + LANES <= f; j += LANES) backward_block(gate + j, up + j, out ? out + j : NULL, dout + j, LANES);
    if (j < f) backward_block(gate + j, up + j, out ? out + j : NULL, dout + j, f - j);
}

CPU_KERNEL(swiglu, (float *out, const float *gate, const float *up, int64_t f), (out, gate, up, f))
CPU_KERNEL(swiglu_backward, (float *gate, float *up, float *out, const float *dout, int64_t f),
           (gate, up, out, dout, f))

static void forward_rows(void *context, int64_t first, int64_t last, int worker) {
    (void)worker;
    const SwigluWork *w = context;
    for (int64_t t = first; t < last; t++) {
        const float *gate = w->inputs + t * 2 * w->f;
        swiglu(w->cpu->instructions)(w->out + t * w->f, gate, gate + w->f, w->f);
    }
    cpu_round(w->cpu, w->out + first * w->f, (last - first) * w->f);
}

void cpu_swiglu_forward(Backend *b, Activation *out, const Activation *gate_up, int64_t tokens, int64_t f,
                        Stream *stream) {
    (void)stream;
    SwigluWork work = {.cpu = cpu_backend(b), .inputs = gate_up, .out = out, .f = f};
    cpu_for_rows(work.cpu, tokens, cpu_rows_per_task(2 * f), forward_rows, &work);
}

static void backward_rows(void *context, int64_t first, int64_t last, int worker) {
    (void)worker;
    const SwigluWork *w = context;
    for (int64_t t = first; t < last; t++) {
        float *gate = w->gate_up + t * 2 * w->f;
        swiglu_backward(w->cpu->instructions)(gate, gate + w->f, w->out ? w->out + t * w->f : NULL, w->dout + t * w->f,
                                              w->f);
    }
    cpu_round(w->cpu, w->gate_up + first * 2 * w->f, (last - first) * 2 * w->f);
    if (w->out) cpu_round(w->cpu, w->out + first * w->f, (last - first) * w->f);
}

void cpu_swiglu_backward(Backend *b, Activation *gate_up, Activation *out, const Activation *dout, int64_t tokens,
                         int64_t f, Stream *stream) {
    (void)stream;
    SwigluWork work = {.cpu = cpu_backend(b), .gate_up = gate_up, .out = out, .dout = dout, .f = f};
    cpu_for_rows(work.cpu, tokens, cpu_rows_per_task(3 * f), backward_rows, &work);
}
