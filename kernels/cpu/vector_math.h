// vector_math.h - the arithmetic that the CPU kernels share: exp, bf16 widening, and sums with a fixed order.
//
// Everything here is inlined into kernels (CPU_KERNEL) and takes the instruction set of its caller. Element-wise
// functions are plain scalar code that the compiler vectorises in the caller's loop. Sums run in 8 lanes whatever the
// instruction set, and the lanes are added as a fixed tree: equal bits on every machine.
#pragma once
#include "kernels/cpu/cpu.h"
#include <math.h>

#define LANES 8 // of every sum, whatever the instruction set

typedef float FloatLanes __attribute__((vector_size(LANES * sizeof(float))));
typedef double DoubleLanes __attribute__((vector_size(LANES * sizeof(double))));
typedef int32_t IntLanes __attribute__((vector_size(LANES * sizeof(int32_t))));
typedef bf16 Bf16Lanes __attribute__((vector_size(LANES * sizeof(bf16))));

// e^x to about 1 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for e^r, and 2^n in two factors so that
// denormal results are right. Infinite above 88.73, 0 below -104, NaN stays NaN.
// Coefficients: Taylor's through r^7 (truncation 5e-9 relative). Range reduction after Cody and Waite.
CPU_INLINE float vector_exp(float x) {
    const float round_magic = 0x1.8p23f; // added, it leaves the nearest integer in the low bits
    x = x > 90.0f ? 90.0f : x;
    x = x < -105.0f ? -105.0f : x;
    float shifted = fmaf(x, 0x1.715476p0f, round_magic);
    float n = shifted - round_magic;
    float r = fmaf(n, -0x1.62e4p-1f, x);
    r = fmaf(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.a01a02p-13f; // 1/5040
    p = fmaf(p, r, 0x1.6c16c2p-10f);
    p = fmaf(p, r, 0x1.111112p-7f);
    p = fmaf(p, r, 0x1.555556p-5f);
    p = fmaf(p, r, 0x1.555556p-3f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p * r, r, r) + 1.0f;
    int32_t exponent = (int32_t)(float_bits(shifted) - float_bits(round_magic));
    int32_t half = exponent >> 1;
    float low = float_from_bits((uint32_t)(half + 127) << 23);
    float high = float_from_bits((uint32_t)(exponent - half + 127) << 23);
    return p * low * high;
}

// 1 / (1 + e^-x)
CPU_INLINE float vector_sigmoid(float x) {
    return 1.0f / (1.0f + vector_exp(-x));
}

// ---- over arrays; any count >= 0, no alignment needed --------------------------------------------------------------

CPU_INLINE void vector_widen(float *restrict out, const bf16 *restrict in, int64_t count) {
    for (int64_t i = 0; i < count; i++) out[i] = bf16_to_float(in[i]);
}

// The sum of the lanes as a fixed tree.
CPU_INLINE float lanes_total(float *lanes) {
    for (int half = LANES / 2; half; half /= 2) {
        for (int j = 0; j < half; j++) lanes[j] += lanes[j + half];
    }
    return lanes[0];
}

CPU_INLINE float vector_sum(const float *x, int64_t count) {
    FloatLanes sums[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES) {
        for (int u = 0; u < 4; u++) {
            FloatLanes part;
            memcpy(&part, x + i + u * LANES, sizeof part);
            sums[u] += part;
        }
    }
    float lanes[LANES];
    FloatLanes all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    memcpy(lanes, &all, sizeof lanes);
    for (; i < count; i++) lanes[i % LANES] += x[i];
    return lanes_total(lanes);
}

// x . y with y in bf16.
CPU_INLINE float vector_dot_bf16(const float *x, const bf16 *y, int64_t count) {
    FloatLanes sums[4] = {{0}};
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES) {
        for (int u = 0; u < 4; u++) {
            FloatLanes a;
            Bf16Lanes c;
            memcpy(&a, x + i + u * LANES, sizeof a);
            memcpy(&c, y + i + u * LANES, sizeof c);
            sums[u] += a * (FloatLanes)(__builtin_convertvector(c, IntLanes) << 16);
        }
    }
    float lanes[LANES];
    FloatLanes all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    memcpy(lanes, &all, sizeof lanes);
    for (; i < count; i++) lanes[i % LANES] += x[i] * bf16_to_float(y[i]);
    return lanes_total(lanes);
}

// The largest element, at least `least`; NaNs are passed over (a sum of exponentials over them is NaN anyway).
CPU_INLINE float vector_max(const float *x, int64_t count, float least) {
    FloatLanes tops[4], part;
    IntLanes larger;
    for (int u = 0; u < 4; u++) tops[u] = (FloatLanes){0} + least;
    int64_t i = 0;
    for (; i + 4 * LANES <= count; i += 4 * LANES) {
        for (int u = 0; u < 4; u++) {
            memcpy(&part, x + i + u * LANES, sizeof part);
            larger = part > tops[u];
            tops[u] = (FloatLanes)(((IntLanes)part & larger) | ((IntLanes)tops[u] & ~larger));
        }
    }
    for (int u = 1; u < 4; u++) {
        larger = tops[u] > tops[0];
        tops[0] = (FloatLanes)(((IntLanes)tops[u] & larger) | ((IntLanes)tops[0] & ~larger));
    }
    for (; i + LANES <= count; i += LANES) {
        memcpy(&part, x + i, sizeof part);
        larger = part > tops[0];
        tops[0] = (FloatLanes)(((IntLanes)part & larger) | ((IntLanes)tops[0] & ~larger));
    }
    float lanes[LANES];
    memcpy(lanes, &tops[0], sizeof lanes);
    for (int half = LANES / 2; half; half /= 2) {
        for (int j = 0; j < half; j++) lanes[j] = lanes[j + half] > lanes[j] ? lanes[j + half] : lanes[j];
    }
    float result = lanes[0];
    for (; i < count; i++) result = x[i] > result ? x[i] : result;
    return result;
}

// x . y in double, in 16 lanes as the sums above.
CPU_INLINE double lanes_total_double(double *lanes) {
    for (int half = LANES / 2; half; half /= 2) {
        for (int j = 0; j < half; j++) lanes[j] += lanes[j + half];
    }
    return lanes[0];
}

CPU_INLINE double vector_dot_double(const float *x, const float *y, int64_t count) {
    double lanes[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (int j = 0; j < LANES; j++) lanes[j] += (double)x[i + j] * (double)y[i + j];
    }
    for (; i < count; i++) lanes[i % LANES] += (double)x[i] * (double)y[i];
    return lanes_total_double(lanes);
}
