// adamw.h - the exact arithmetic of one AdamW update and of the split master weight, for the host and the device.
//
// The fp32 master weight is the bf16 weight `hi` plus a signed 16-bit `lo`: (hi << 16) + lo is its bit pattern, and
// hi = (bits + 0x8000) >> 16, to nearest with halves away from zero. (Half-to-even could not be undone: its two kinds
// of tie would need +0x8000 and -0x8000, one code too many.) Every operation is an explicit fused multiply-add, an IEEE
// square root or division, so host and device give equal bits.
// AdamW: Loshchilov & Hutter, arXiv 1711.05101, in the order of torch.optim.AdamW.
#pragma once
#include "base/numbers.h"
#include "base/random.h"
#include <math.h>

static inline float master_join(bf16 high, int16_t low) {
    return float_from_bits(((uint32_t)high << 16) + (uint32_t)(int32_t)low);
}

static inline bf16 master_high(float master) {
    return (bf16)((float_bits(master) + 0x8000u) >> 16);
}

static inline int16_t master_low(float master, bf16 high) {
    return (int16_t)(float_bits(master) - ((uint32_t)high << 16));
}
