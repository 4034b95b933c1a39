// adamw.c - the optimizer's pass over one slot: clip, AdamW, and the split of the master weight.
#include "kernels/adamw.h"
#include "kernels/cpu/cpu.h"

#define CHUNK 256 // elements whose moments are widened at once

typedef struct AdamW {
    CpuBackend *cpu;
    bf16 *weight;
    int16_t *low_bits;
    const float *gradient;
    void *m, *v; // float or bf16
    AdamWFactors factors;
    float clip_scale;
    int64_t decayed;
    bool bf16_moments;
    uint64_t moment_key;
    const int32_t *places, *rows; // of adamw_rows
    int64_t d;
} AdamW;

// Elements that are updated alike.
typedef struct Span {
    bf16 *weight;
    int16_t *low_bits;
    const float *gradient; // NULL: all are 0
    void *m, *v;
    int64_t first; // the first one's number in the slot
    int64_t count;
    float clip_scale, decay;
    AdamWFactors factors;
    uint64_t moment_key;
} Span;

// ---- moments in float ----------------------------------------------------------------------------------------------

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

CPU_INLINE void update_body(const Span *s) {
    if (s->gradient)
        update_elements(s->weight, s->low_bits, s->gradient, s->m, s->v, s->count, s->clip_scale, s->decay, s->factors);
    else
        update_elements(s->weight, s->low_bits, NULL, s->m, s->v, s->count, s->clip_scale, s->decay, s->factors);
}
CPU_KERNEL(update, (const Span *s), (s))

// ---- moments in bf16 -----------------------------------------------------------------------------------------------

// A chunk at a time is widened, updated like any other, and rounded.
CPU_INLINE void update_rounding_body(const Span *s) {
    float wide_m[CHUNK], wide_v[CHUNK];
    bf16 *m = s->m, *v = s->v;
    for (int64_t start = 0; start < s->count; start += CHUNK) {
        int64_t count = s->count - start < CHUNK ? s->count - start : CHUNK;
        for (int64_t i = 0; i < count; i++) {
            wide_m[i] = bf16_to_float(m[start + i]);
            wide_v[i] = bf16_to_float(v[start + i]);
        }
        Span chunk = *s;
        chunk.weight += start, chunk.low_bits += start, chunk.count = count;
        if (s->gradient) chunk.gradient += start;
        chunk.m = wide_m, chunk.v = wide_v;
        update_body(&chunk);
        for (int64_t i = 0; i < count; i++) {
            uint64_t random = random_bits(s->moment_key, (uint64_t)(s->first + start + i));
            m[start + i] = moment_round_m(wide_m[i], random);
            v[start + i] = moment_round_v(wide_v[i], random);
        }
    }
}
CPU_KERNEL(update_rounding, (const Span *s), (s))

// ---- both --------------------------------------------------------------------------------------------------------

static void *moments_from(const AdamW *a, void *moments, int64_t first) {
    return a->bf16_moments ? (void *)((bf16 *)moments + first) : (void *)((float *)moments + first);
}

static void update_range(const AdamW *a, int64_t first, int64_t last, const float *gradient, float decay) {
    if (first >= last) return;
    Span s = {.weight = a->weight + first,
              .low_bits = a->low_bits + first,
              .gradient = gradient,
              .m = moments_from(a, a->m, first),
              .v = moments_from(a, a->v, first),
              .first = first,
              .count = last - first,
              .clip_scale = a->clip_scale,
              .decay = decay,
              .factors = a->factors,
              .moment_key = a->moment_key};
    (a->bf16_moments ? update_rounding : update)(a->cpu->instructions)(&s);
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

static AdamW start_update(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, void *m, void *v,
                          const AdamWStep *step) {
    AdamW a = {.cpu = cpu_backend(b), .weight = weight, .low_bits = low_bits, .gradient = gradient, .m = m, .v = v};
    a.factors = adamw_factors(step);
    a.clip_scale = *step->clip_scale;
    a.decayed = step->decayed;
    a.bf16_moments = step->bf16_moments, a.moment_key = step->moment_key;
    return a;
}

void cpu_adamw(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, void *m, void *v, int64_t count,
               const AdamWStep *step, Stream *stream) {
    (void)stream;
    if (*step->skip) return;
    AdamW a = start_update(b, weight, low_bits, gradient, m, v, step);
    cpu_for_rows(a.cpu, count, cpu_rows_per_task(1), update_piece, &a);
}

void cpu_adamw_rows(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, const int32_t *places, void *m,
                    void *v, const int32_t *rows, int64_t count, int64_t d, const AdamWStep *step, Stream *stream) {
    (void)stream;
    if (*step->skip) return;
    AdamW a = start_update(b, weight, low_bits, gradient, m, v, step);
    a.places = places, a.rows = rows, a.d = d;
    cpu_for_rows(a.cpu, count, cpu_rows_per_task(d), update_rows, &a);
}
