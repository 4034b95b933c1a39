// freeze.c - rounds a trained block's master weights to bf16, stochastically: rounding to nearest would lose most of
// what a short interval has learned.
#include "kernels/adamw.h"
#include "kernels/cpu/cpu.h"

typedef struct Freeze {
    CpuBackend *cpu;
    bf16 *weight;
    const int16_t *low_bits;
    uint64_t key;
} Freeze;

CPU_INLINE void round_masters_body(bf16 *restrict weight, const int16_t *restrict low_bits, uint64_t key, int64_t first,
                                   int64_t last) {
    for (int64_t i = first; i < last; i++)
        weight[i] = master_round(master_join(weight[i], low_bits[i]), random_bits(key, (uint64_t)i));
}
CPU_KERNEL(round_masters, (bf16 * weight, const int16_t *low_bits, uint64_t key, int64_t first, int64_t last),
           (weight, low_bits, key, first, last))

static void freeze_piece(void *context, int64_t first, int64_t last, int worker) {
    const Freeze *f = context;
    (void)worker;
    round_masters(f->cpu->instructions)(f->weight, f->low_bits, f->key, first, last);
}

void cpu_freeze(Backend *b, bf16 *weight, const int16_t *low_bits, int64_t count, uint64_t key, Stream *stream) {
    (void)stream;
    Freeze f = {cpu_backend(b), weight, low_bits, key};
    cpu_for_rows(f.cpu, count, cpu_rows_per_task(1), freeze_piece, &f);
}
