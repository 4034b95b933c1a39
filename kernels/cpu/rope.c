// rope.c - rotary position embedding of the query and key heads, in place.
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector_math.h"

typedef struct RopeWork {
    CpuBackend *cpu;
    float *qkv;                 // [T, stride]
    const int32_t *positions;   // [T]
    const float *cosine, *sine; // [any, D / 2]
    int64_t stride;             // (H + 2K) D
    int heads;                  // H + K: query heads, then key heads
    int head_dim;               // D
    float direction;            // 1, or -1 to rotate back
} RopeWork;

CPU_INLINE void rotate_body(float *restrict low, float *restrict high, const float *restrict cosine,
                            const float *restrict sine, float direction, int64_t half) {
    for (int64_t j = 0; j < half; j++) {
        float c = cosine[j], s = direction * sine[j], a = low[j], z = high[j];
        low[j] = a * c - z * s;
        high[j] = z * c + a * s;
    }
}

CPU_KERNEL(rotate, (float *low, float *high, const float *cosine, const float *sine, float direction, int64_t half),
           (low, high, cosine, sine, direction, half))

static void rope_rows(void *context, int64_t first, int64_t last, int worker) {
    (void)worker;
    const RopeWork *w = context;
    const int64_t half = w->head_dim / 2;
    for (int64_t t = first; t < last; t++) {
        float *row = w->qkv + t * w->stride;
        const int64_t angle = w->positions[t] * half;
        for (int head = 0; head < w->heads; head++) {
            float *low = row + (int64_t)head * w->head_dim;
            rotate(w->cpu->instructions)(low, low + half, w->cosine + angle, w->sine + angle, w->direction, half);
        }
        cpu_round(w->cpu, row, (int64_t)w->heads * w->head_dim);
    }
}

void cpu_rope(Backend *b, Activation *qkv, const int32_t *positions, const float *cosine, const float *sine,
              int64_t tokens, int heads, int kv_heads, int head_dim, bool inverse, Stream *stream) {
    (void)stream;
    RopeWork work = {.cpu = cpu_backend(b),
                     .qkv = qkv,
                     .positions = positions,
                     .cosine = cosine,
                     .sine = sine,
                     .stride = ((int64_t)heads + 2 * (int64_t)kv_heads) * head_dim,
                     .heads = heads + kv_heads,
                     .head_dim = head_dim,
                     .direction = inverse ? -1.0f : 1.0f};
    cpu_for_rows(work.cpu, tokens, cpu_rows_per_task(work.stride), rope_rows, &work);
}
