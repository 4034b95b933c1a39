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
} AdamW;

CPU_INLINE void update_body(bf16 *restrict weight, int16_t *restrict low_bits, const float *restrict gradient,
                            float *restrict m, float *restrict v, int64_t count, float clip_scale, float decay,
                            AdamWFactors factors) {
    for (int64_t i = 0; i < count; i++) {
        float master = master_join(weight[i], low_bits[i]);
        master = adamw_update(master, gradient[i] * clip_scale, &m[i], &v[i], decay, &factors);
        weight[i] = master_high(master);
        low_bits[i] = master_low(master, weight[i]);
    }
}
CPU_KERNEL(update,
           (bf16 * weight, int16_t *low_bits, const float *gradient, float *m, float *v, int64_t count,
            float clip_scale, float decay, AdamWFactors factors),
           (weight, low_bits, gradient, m, v, count, clip_scale, decay, factors))

static void update_range(const AdamW *a, int64_t first, int64_t last, float decay) {
    if (first >= last) return;
    update(a->cpu->instructions)(a->weight + first, a->low_bits + first, a->gradient + first, a->m + first,
                                 a->v + first, last - first, a->clip_scale, decay, a->factors);
}

static void update_piece(void *context, int64_t first, int64_t last, int worker) {
    const AdamW *a = context;
    (void)worker;
    int64_t middle = a->decayed < first ? first : a->decayed > last ? last : a->decayed;
    update_range(a, first, middle, a->factors.decay);
    update_range(a, middle, last, 1.0f);
}

void cpu_adamw(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, float *m, float *v, int64_t count,
               const AdamWStep *step, Stream *stream) {
    (void)stream;
    if (*step->skip) return;
    AdamW a = {.cpu = cpu_backend(b), .weight = weight, .low_bits = low_bits, .gradient = gradient, .m = m, .v = v};
    a.factors = adamw_factors(step);
    a.clip_scale = *step->clip_scale;
    a.decayed = step->decayed;
    cpu_for_rows(a.cpu, count, cpu_rows_per_task(1), update_piece, &a);
}
