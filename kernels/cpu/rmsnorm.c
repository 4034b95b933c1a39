// rmsnorm.c - RMSNorm, its rebuild from a kept rstd, and its backward, which adds to the residual's gradient.
//
// Sums over a row are taken in double: it costs nothing beside the memory traffic and keeps rstd and the row's
// projection within one float rounding. One function scales a row, so that a rebuild equals the forward bit for bit.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector_math.h"

// The gain's gradient is summed per chunk of this many tokens, then over the chunks in ascending order.
#define GAIN_CHUNK 128

typedef struct NormWork {
    CpuBackend *cpu;
    float *out;           // [T, d]
    float *rstd;          // [T]
    const float *x;       // [T, d]
    const bf16 *gain;     // [d]
    float epsilon;        //
    const float *kept;    // [T] rstd of the forward, for rebuild and backward
    const float *dout;    // [T, d]
    float *dx;            // [T, d]
    double *partial;      // [chunks, d], the gain's gradient per chunk; NULL when it is not wanted
    float *gain_gradient; // [d]
    int64_t tokens, d;
} NormWork;

CPU_INLINE void norm_rstd_body(float *rstd, const float *x, float epsilon, int64_t d) {
    double squares = vector_dot_double(x, x, d);
    *rstd = (float)(1.0 / sqrt(squares / (double)d + (double)epsilon));
}

CPU_INLINE void norm_scale_body(float *restrict out, const float *restrict x, float rstd, const bf16 *restrict gain,
                                int64_t d) {
    for (int64_t j = 0; j < d; j++) out[j] = x[j] * rstd * bf16_to_float(gain[j]);
}

// With n = x rstd: dx += rstd (g - n mean(g n)), g = dout gain.
CPU_INLINE void norm_backward_body(float *restrict dx, const float *restrict dout, const float *restrict x, float rstd,
                                   const bf16 *restrict gain, int64_t d) {
    double lanes[LANES] = {0};
    int64_t j = 0;
    for (; j + LANES <= d; j += LANES) {
        for (int l = 0; l < LANES; l++) {
            lanes[l] += (double)(dout[j + l] * bf16_to_float(gain[j + l])) * (double)x[j + l];
        }
    }
    for (; j < d; j++) lanes[j % LANES] += (double)(dout[j] * bf16_to_float(gain[j])) * (double)x[j];
    double r = (double)rstd;
    float along = (float)(lanes_total_double(lanes) * r * r * r / (double)d);
    for (j = 0; j < d; j++) dx[j] += rstd * (dout[j] * bf16_to_float(gain[j])) - along * x[j];
}

CPU_INLINE void norm_gain_body(double *restrict partial, const float *restrict dout, const float *restrict x,
                               float rstd, int64_t d) {
    for (int64_t j = 0; j < d; j++) partial[j] += (double)dout[j] * (double)(x[j] * rstd);
}

CPU_KERNEL(norm_rstd, (float *rstd, const float *x, float epsilon, int64_t d), (rstd, x, epsilon, d))
CPU_KERNEL(norm_scale, (float *out, const float *x, float rstd, const bf16 *gain, int64_t d), (out, x, rstd, gain, d))
CPU_KERNEL(norm_backward, (float *dx, const float *dout, const float *x, float rstd, const bf16 *gain, int64_t d),
           (dx, dout, x, rstd, gain, d))
CPU_KERNEL(norm_gain, (double *partial, const float *dout, const float *x, float rstd, int64_t d),
           (partial, dout, x, rstd, d))

static void forward_rows(void *context, int64_t first, int64_t last, int worker) {
    (void)worker;
    const NormWork *w = context;
    const InstructionSet set = w->cpu->instructions;
    for (int64_t t = first; t < last; t++) {
        const float *x = w->x + t * w->d;
        norm_rstd(set)(w->rstd + t, x, w->epsilon, w->d);
        norm_scale(set)(w->out + t * w->d, x, w->rstd[t], w->gain, w->d);
        cpu_round(w->cpu, w->out + t * w->d, w->d);
    }
}

void cpu_rmsnorm_forward(Backend *b, Activation *out, float *rstd, const Activation *x, const bf16 *gain, float epsilon,
                         int64_t tokens, int64_t d, Stream *stream) {
    (void)stream;
    NormWork work = {.cpu = cpu_backend(b), .out = out, .rstd = rstd, .x = x, .gain = gain, .epsilon = epsilon, .d = d};
    cpu_for_rows(work.cpu, tokens, cpu_rows_per_task(d), forward_rows, &work);
}

static void rebuild_rows(void *context, int64_t first, int64_t last, int worker) {
    (void)worker;
    const NormWork *w = context;
    for (int64_t t = first; t < last; t++) {
        norm_scale(w->cpu->instructions)(w->out + t * w->d, w->x + t * w->d, w->kept[t], w->gain, w->d);
        cpu_round(w->cpu, w->out + t * w->d, w->d);
    }
}

void cpu_rmsnorm_rebuild(Backend *b, Activation *out, const Activation *x, const float *rstd, const bf16 *gain,
                         int64_t tokens, int64_t d, Stream *stream) {
    (void)stream;
    NormWork work = {.cpu = cpu_backend(b), .out = out, .x = x, .kept = rstd, .gain = gain, .d = d};
    cpu_for_rows(work.cpu, tokens, cpu_rows_per_task(d), rebuild_rows, &work);
}

static int64_t gain_chunks(int64_t tokens) {
    return (tokens + GAIN_CHUNK - 1) / GAIN_CHUNK;
}

// A piece is one chunk of tokens: its partial gain gradient has one owner.
static void backward_rows(void *context, int64_t first, int64_t last, int worker) {
    (void)worker;
    const NormWork *w = context;
    const InstructionSet set = w->cpu->instructions;
    double *partial = w->partial ? w->partial + first / GAIN_CHUNK * w->d : NULL;
    if (partial) memset(partial, 0, (size_t)w->d * sizeof *partial);
    for (int64_t t = first; t < last; t++) {
        const float *dout = w->dout + t * w->d, *x = w->x + t * w->d;
        if (partial) norm_gain(set)(partial, dout, x, w->kept[t], w->d);
        norm_backward(set)(w->dx + t * w->d, dout, x, w->kept[t], w->gain, w->d);
        cpu_round(w->cpu, w->dx + t * w->d, w->d);
    }
}

static void gain_columns(void *context, int64_t first, int64_t last, int worker) {
    (void)worker;
    const NormWork *w = context;
    for (int64_t j = first; j < last; j++) {
        double sum = 0;
        for (int64_t chunk = 0; chunk < gain_chunks(w->tokens); chunk++) sum += w->partial[chunk * w->d + j];
        w->gain_gradient[j] += (float)sum;
    }
}

void cpu_rmsnorm_backward(Backend *b, Activation *dx, float *gain_gradient, const Activation *dout, const Activation *x,
                          const float *rstd, const bf16 *gain, void *scratch, int64_t tokens, int64_t d,
                          Stream *stream) {
    (void)stream;
    NormWork work = {.cpu = cpu_backend(b),
                     .dx = dx,
                     .dout = dout,
                     .x = x,
                     .kept = rstd,
                     .gain = gain,
                     .partial = gain_gradient ? scratch : NULL,
                     .gain_gradient = gain_gradient,
                     .tokens = tokens,
                     .d = d};
    cpu_for_rows(work.cpu, tokens, GAIN_CHUNK, backward_rows, &work);
    if (gain_gradient) cpu_for_rows(work.cpu, d, 256, gain_columns, &work);
}

size_t cpu_rmsnorm_scratch(const Backend *b, int64_t tokens, int64_t d) {
    (void)b;
    return (size_t)gain_chunks(tokens) * (size_t)d * sizeof(double);
}
