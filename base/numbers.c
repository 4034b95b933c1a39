// numbers.c - see numbers.h.
#include "base/numbers.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

float fp16_to_float(fp16 value) {
    uint32_t sign = (uint32_t)(value & 0x8000u) << 16;
    uint32_t exponent = (value >> 10) & 0x1fu, fraction = value & 0x3ffu;
    if (exponent == 0x1f) return float_from_bits(sign | 0x7f800000u | (fraction << 13));
    if (exponent) return float_from_bits(sign | ((exponent + 112) << 23) | (fraction << 13));
    float magnitude = (float)fraction * 0x1p-24f; // subnormal or zero
    return float_from_bits(sign | float_bits(magnitude));
}

fp16 fp16_from_float(float value) {
    uint32_t bits = float_bits(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (fp16)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (fp16)(sign | 0x7c00u); // half a step above the largest number, and beyond
    if (magnitude >= 0x38800000u)                                // normal: the exponent's bias shrinks by 112
        return (fp16)(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
    // subnormal: adding 0.5 leaves steps of 2^-24 in the fraction, rounded as the addition rounds
    return (fp16)(sign | (float_bits(float_from_bits(magnitude) + 0.5f) - 0x3f000000u));
}

const char *format_bytes(char text[16], uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    while (value >= 1024 && unit < 4) value /= 1024, unit++;
    snprintf(text, 16, unit == 0 || value >= 999.95 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

bool parse_bytes(const char *text, uint64_t *bytes) {
    char *end;
    if ((*text < '0' || *text > '9') && *text != '.') return false;
    double value = strtod(text, &end);
    while (*end == ' ') end++;
    static const char letters[] = "kmgt";
    double scale = 1;
    if (*end && !strcasecmp(end, "b")) end++;
    for (int i = 0; *end && letters[i]; i++) {
        if ((*end | 0x20) != letters[i]) continue;
        scale = ldexp(1, 10 * (i + 1));
        end++;
        if (*end == 'i' || *end == 'I') end++;
        if (*end == 'b' || *end == 'B') end++;
        break;
    }
    value *= scale;
    if (*end || !(value >= 0) || value >= 0x1p63) return false;
    *bytes = (uint64_t)value;
    return true;
}
