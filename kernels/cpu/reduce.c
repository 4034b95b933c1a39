// reduce.c - the sum of the losses, the gradient norm, and what follows from it for the step.
#include "kernels/cpu/vector_math.h"

#define PARTS 64 // the fixed number of partial sums of squares, added in order

void cpu_sum_losses(Backend *b, double *sum, const float *losses, int64_t count, Stream *stream) {
    (void)b, (void)stream;
    double total = 0;
    for (int64_t i = 0; i < count; i++) total += losses[i];
    *sum += total;
}

typedef struct Squares {
    CpuBackend *cpu;
    const float *values;
    int64_t count;
    int64_t part; // elements of a part
    double sums[PARTS];
} Squares;

CPU_INLINE void square_part_body(double *sum, const float *values, int64_t count) {
    DoubleLanes sums[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES) {
        for (int u = 0; u < 4; u++) {
            FloatLanes part;
            memcpy(&part, values + i + u * LANES, sizeof part);
            DoubleLanes wide = __builtin_convertvector(part, DoubleLanes);
            sums[u] += wide * wide;
        }
    }
    DoubleLanes all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    double total = 0;
    for (int j = 0; j < LANES; j++) total += all[j];
    for (; i < count; i++) total += (double)values[i] * values[i];
    *sum = total;
}
CPU_KERNEL(square_part, (double *sum, const float *values, int64_t count), (sum, values, count))

static void square_parts(void *context, int64_t first, int64_t last, int worker) {
    Squares *s = context;
    (void)worker;
    for (int64_t p = first; p < last; p++) {
        int64_t from = p * s->part, to = from + s->part < s->count ? from + s->part : s->count;
        if (from < to) square_part(s->cpu->instructions)(&s->sums[p], s->values + from, to - from);
    }
}

void cpu_sum_squares(Backend *b, double *sum, const float *values, int64_t count, Stream *stream) {
    (void)stream;
    Squares s = {
        .cpu = cpu_backend(b), .values = values, .count = count, .part = round_up((count + PARTS - 1) / PARTS, 1024)};
    cpu_for_rows(s.cpu, PARTS, count > cpu_rows_per_task(1) ? 1 : PARTS, square_parts, &s);
    double total = 0;
    for (int p = 0; p < PARTS; p++) total += s.sums[p];
    *sum += total;
}

void cpu_clip_finish(Backend *b, float *norm, float *clip_scale, int32_t *skip, const double *squares, int64_t count,
                     const double *loss, float max_norm, Stream *stream) {
    (void)b, (void)stream;
    double total = 0;
    for (int64_t i = 0; i < count; i++) total += squares[i];
    *norm = (float)sqrt(total);
    float scale = max_norm / (*norm + 1e-6f);
    *clip_scale = max_norm > 0 && scale < 1.0f ? scale : 1.0f;
    *skip = !isfinite(*norm) || !isfinite(*loss);
}
