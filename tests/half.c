// half.c - see half.h.
#include "tests/half.h"
#include <math.h>

fp16 fp16_from_float(float value) {
    uint32_t bits = float_bits(value), sign = (bits >> 16) & 0x8000u;
    float magnitude = float_from_bits(bits & 0x7fffffffu);
    if (isnan(value)) return (fp16)(sign | 0x7e00u);
    if (magnitude >= 65520.0f) return (fp16)(sign | 0x7c00u);
    // below the smallest normal number the grid is 2^-24; rintf rounds to even
    if (magnitude < 0x1p-14f) return (fp16)(sign | (uint32_t)rintf(magnitude * 0x1p24f));
    uint32_t rounded = float_bits(magnitude) + 0xfffu + ((float_bits(magnitude) >> 13) & 1u);
    return (fp16)(sign | ((rounded >> 13) - (112u << 10)));
}
