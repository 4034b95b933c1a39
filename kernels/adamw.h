// adamw.h - the exact arithmetic of one AdamW update and of the split master weight, for the host and the device.
//
// The fp32 master weight is the bf16 weight `hi` plus a signed 16-bit `lo`: (hi << 16) + lo is its bit pattern, and
// hi = (bits + 0x8000) >> 16, to nearest with halves away from zero. (Half-to-even could not be undone: its two kinds
// of tie would need +0x8000 and -0x8000, one code too many.) Every operation is an explicit fused multiply-add, an IEEE
// square root or division, or a single multiplication, so host and device give equal bits.
// AdamW: Loshchilov & Hutter, arXiv 1711.05101, in the order of torch.optim.AdamW.
#pragma once
#include "base/numbers.h"
#include "base/random.h"
#include "kernels/kernels.h"
#include <math.h>

#define ADAMW_FUNCTION static inline HOST_DEVICE __attribute__((always_inline))

ADAMW_FUNCTION float master_join(bf16 high, int16_t low) {
    return float_from_bits(((uint32_t)high << 16) + (uint32_t)(int32_t)low);
}

ADAMW_FUNCTION bf16 master_high(float master) {
    return (bf16)((float_bits(master) + 0x8000u) >> 16);
}

ADAMW_FUNCTION int16_t master_low(float master, bf16 high) {
    return (int16_t)(float_bits(master) - ((uint32_t)high << 16));
}

// The master rounded to bf16 so that its expected value is kept: up with the probability of the 16 bits that are cut
// off. random: 64 uniform bits, of which the upper 16 are used. Never rounds a finite master to infinity.
ADAMW_FUNCTION bf16 master_round(float master, uint64_t random) {
    uint32_t bits = float_bits(master);
    bf16 up = (bf16)((bits + (uint32_t)(random >> 48)) >> 16);
    return (up & 0x7fffu) == 0x7f80u ? (bf16)(bits >> 16) : up;
}

// AdamW's moments in 16 bits: rounded like the master, with other bits of `random` for each of the two.
ADAMW_FUNCTION bf16 moment_round_m(float m, uint64_t random) {
    return master_round(m, random);
}

ADAMW_FUNCTION bf16 moment_round_v(float v, uint64_t random) {
    return master_round(v, random << 16);
}

// What all elements of a step share, rounded to float once, as PyTorch does with its Python scalars.
typedef struct AdamWFactors {
    float decay;             // 1 - learning rate * weight decay
    float m_rate, v_rate;    // 1 - beta1, 1 - beta2
    float v_keep;            // beta2
    float v_root_correction; // sqrt(1 - beta2^t)
    float epsilon;
    float step_size; // learning rate / (1 - beta1^t)
} AdamWFactors;

// Processors differ in which NaN an operation gives: all become this one. Its upper half is a NaN as well, where
// master_high would carry some others over into a zero.
ADAMW_FUNCTION float one_nan(float value) {
    return value == value ? value : float_from_bits(0x7fc00000u);
}

// On the host, once per call.
static inline AdamWFactors adamw_factors(const AdamWStep *step) {
    AdamWFactors f;
    f.decay = (float)(1 - step->learning_rate * step->weight_decay);
    f.m_rate = (float)(1 - step->beta1);
    f.v_rate = (float)(1 - step->beta2);
    f.v_keep = (float)step->beta2;
    f.v_root_correction = (float)sqrt(step->bias_correction2);
    f.epsilon = (float)step->epsilon;
    f.step_size = (float)(step->learning_rate / step->bias_correction1);
    return f;
}

// One element: the new master; m and v are updated. decay is 1 for elements without weight decay.
ADAMW_FUNCTION float adamw_update(float master, float gradient, float *m, float *v, float decay,
                                  const AdamWFactors *f) {
    master = master * decay;
    *m = one_nan(fmaf(f->m_rate, gradient - *m, *m));
    *v = one_nan(fmaf(f->v_rate * gradient, gradient, *v * f->v_keep));
    float denominator = sqrtf(*v) / f->v_root_correction + f->epsilon;
    return one_nan(fmaf(-f->step_size, *m / denominator, master));
}
