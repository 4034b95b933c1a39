// numbers.h - bf16 and fp16 as bit patterns, sizes that cannot overflow, and sizes a person can read.
#pragma once
#include "base/host_device.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef uint16_t bf16; // the upper half of an IEEE fp32 bit pattern
typedef uint16_t fp16; // IEEE half precision

// The element types of model files that we read; block-quantised types are base/ggml_quants.h's.
typedef enum { TYPE_F32, TYPE_F16, TYPE_BF16 } ElementType;

static inline size_t element_size(ElementType type) {
    return type == TYPE_F32 ? 4 : 2;
}

static inline HOST_DEVICE uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline HOST_DEVICE float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline HOST_DEVICE float bf16_to_float(bf16 value) {
    return float_from_bits((uint32_t)value << 16);
}

// To nearest, ties to even, as PyTorch and the GPU convert activations; NaN stays NaN.
// (Master weights are rounded half away from zero instead, see kernels/adamw.h.)
static inline HOST_DEVICE bf16 bf16_from_float(float value) {
    uint32_t bits = float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bf16)((bits >> 16) | 0x40u);
    return (bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float fp16_to_float(fp16 value);
fp16 fp16_from_float(float value); // to nearest, ties to even; beyond 65519.996 infinity; NaN stays NaN

// false when the result does not fit; *result is then undefined
static inline bool size_multiply(size_t a, size_t b, size_t *result) {
    return !__builtin_mul_overflow(a, b, result);
}

static inline bool size_add(size_t a, size_t b, size_t *result) {
    return !__builtin_add_overflow(a, b, result);
}

// The smallest multiple of `step` that is >= value; step > 0.
static inline int64_t round_up(int64_t value, int64_t step) {
    return (value + step - 1) / step * step;
}

// "512 B", "1.5 MiB", "22.7 GiB": at most 15 characters into text, which is also returned.
const char *format_bytes(char text[16], uint64_t bytes);
// "8GiB", "8G", "512MiB", "1.5G", "1000000": units are binary, case is ignored, a missing unit is bytes.
// false when it is not such a size or does not fit.
bool parse_bytes(const char *text, uint64_t *bytes);

#ifdef __cplusplus
}
#endif
