// adamw.c - the optimizer's pass over one slot: clip, AdamW, and the split of the master weight.
#include "kernels/adamw.h"
#include "kernels/cpu/cpu.h"

typedef struct AdamW {
    CpuBackend *cpu;
    bf16 *weight;
    int16_t *low_bits;
    const float *gradient;
    float *m, *v;
    AdamWFactors factors;
    float clip_scale;
    int64_t decayed;
    const int32_t *places, *rows; // of adamw_rows
    int64_t d;
} AdamW;

CPU_INLINE void update_elements(bf16 *restrict weight, int16_t *restrict low_bits, const float *restrict gradient,
                                float *restrict m, float *restrict v, int64_t count, float clip_scale, float decay,
                                AdamWFactors factors) {
    for (int64_t i = 0; i < count; i++) {
        float master = master_join(weight[i], low_bits[i]);
        master = adamw_update(master, (gradient ? gradient[i] : 0.0f) * clip_scale, &m[i], &v[i], decay, &factors);
        weight[i] = master_high(master);
        low_bits[i] = master_low(master, weight[i]);
    }
}

CPU_INLINE void update_body(bf16 *weight, int16_t *low_bits, const float *gradient, float *m, float *v, int64_t count,
                            float clip_scale, float decay, AdamWFactors factors) {
    if (gradient)
        update_elements(weight, low_bits, gradient, m, v, count, clip_scale, decay, factors);
    else
        update_elements(weight, low_bits, NULL, m, v, count, clip_scale, decay, factors);
}
CPU_KERNEL(update,
           (bf16 * weight, int16_t *low_bits, const float *gradient, float *m, float *v, int64_t count,
            float clip_scale, float decay, AdamWFactors factors),
           (weight, low_bits, gradient, m, v, count, clip_scale, decay, factors))

static void update_range(const AdamW *a, int64_t first, int64_t last, const float *gradient, float decay) {
    if (first >= last) return;
    update(a->cpu->instructions)(a->weight + first, a->low_bits + first, gradient, a->m + first, a->v + first,
                                 last - first, a->clip_scale, decay, a->factors);
}

// Elements first .. last - 1 of the slot. gradient: that of element `first`; NULL: all are 0.
static void update_span(const AdamW *a, int64_t first, int64_t last, const float *gradient) {
    int64_t middle = a->decayed < first ? first : a->decayed > last ? last : a->decayed;
    update_range(a, first, middle, gradient, a->factors.decay);
    update_range(a, middle, last, gradient ? gradient + (middle - first) : NULL, 1.0f);
}

static void update_piece(void *context, int64_t first, int64_t last, int worker) {
    const AdamW *a = context;
    (void)worker;
    update_span(a, first, last, a->gradient + first);
}

static void update_rows(void *context, int64_t first, int64_t last, int worker) {
    const AdamW *a = context;
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        int64_t row = a->rows ? a->rows[i] : i, place = a->places[row];
        update_span(a, row * a->d, (row + 1) * a->d, place < 0 ? NULL : a->gradient + place * a->d);
    }
}

static AdamW start_update(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, float *m, float *v,
                          const AdamWStep *step) {
    AdamW a = {.cpu = cpu_backend(b), .weight = weight, .low_bits = low_bits, .gradient = gradient, .m = m, .v = v};
    a.factors = adamw_factors(step);
    a.clip_scale = *step->clip_scale;
    a.decayed = step->decayed;
    return a;
}

void cpu_adamw(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, float *m, float *v, int64_t count,
               const AdamWStep *step, Stream *stream) {
    (void)stream;
    if (*step->skip) return;
    AdamW a = start_update(b, weight, low_bits, gradient, m, v, step);
    cpu_for_rows(a.cpu, count, cpu_rows_per_task(1), update_piece, &a);
}

void cpu_adamw_rows(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, const int32_t *places, float *m,
                    float *v, const int32_t *rows, int64_t count, int64_t d, const AdamWStep *step, Stream *stream) {
    (void)stream;
    if (*step->skip) return;
    AdamW a = start_update(b, weight, low_bits, gradient, m, v, step);
    a.places = places, a.rows = rows, a.d = d;
    cpu_for_rows(a.cpu, count, cpu_rows_per_task(d), update_rows, &a);
}
