// ggml_quantise.c - floats to blocks, one writer per layout; ggml_quants.c describes the layouts.
//
// The products and sums are fp32 and each is rounded: a fused multiply-add would move values that lie between two
// steps.
#include "base/ggml_quants.h"
#include "base/numbers.h"
#include <math.h>

static void put_half(unsigned char *bytes, float value) {
    fp16 half = fp16_from_float(value);
    memcpy(bytes, &half, sizeof half);
}

static float inverse(float scale) {
    return scale == 0 ? 0 : 1.0f / scale;
}

static void write_f16(unsigned char *bytes, const float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) put_half(bytes + 2 * i, values[i]);
}

static void write_bf16(unsigned char *bytes, const float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        bf16 value = bf16_from_float(values[i]);
        memcpy(bytes + 2 * i, &value, sizeof value);
    }
}

static void write_q8_0(unsigned char *bytes, const float *values, int64_t blocks) {
    for (int64_t b = 0; b < blocks; b++, bytes += 34, values += 32) {
        float largest = 0;
        for (int j = 0; j < 32; j++) largest = fmaxf(largest, fabsf(values[j]));
        float scale = largest / 127, by = inverse(scale);
        put_half(bytes, scale);
        for (int j = 0; j < 32; j++) bytes[2 + j] = (unsigned char)(int8_t)roundf(values[j] * by);
    }
}

// The value of largest magnitude, the first of several.
static float extreme(const float *values) {
    float found = 0;
    for (int j = 0; j < 32; j++)
        if (fabsf(values[j]) > fabsf(found)) found = values[j];
    return found;
}

static float smallest(const float *values) {
    float found = values[0];
    for (int j = 1; j < 32; j++) found = values[j] < found ? values[j] : found;
    return found;
}

static float greatest(const float *values) {
    float found = values[0];
    for (int j = 1; j < 32; j++) found = values[j] > found ? values[j] : found;
    return found;
}

// The step that value * by + offset lies in, at most `most`.
static unsigned step(float value, float by, float offset, int most) {
    int found = (int)(value * by + offset);
    return (unsigned)(found > most ? most : found);
}

// 16 bytes of the low four bits of 32 numbers, and of the fifth bits a word.
static uint32_t put_nibbles(unsigned char *bytes, const unsigned numbers[32]) {
    uint32_t fifth = 0;
    for (int j = 0; j < 16; j++) bytes[j] = (unsigned char)((numbers[j] & 15) | (numbers[j + 16] & 15) << 4);
    for (int j = 0; j < 32; j++) fifth |= (uint32_t)(numbers[j] >> 4) << j;
    return fifth;
}

// Q4_0 and Q5_0: the extreme value becomes the lowest of `steps` steps, zero the middle one.
static void write_symmetric(unsigned char *bytes, const float *values, int64_t blocks, int steps) {
    size_t head = steps == 32 ? 6 : 2;
    for (int64_t b = 0; b < blocks; b++, bytes += head + 16, values += 32) {
        unsigned numbers[32];
        float middle = (float)steps / 2, scale = extreme(values) / -middle, by = inverse(scale);
        for (int j = 0; j < 32; j++) numbers[j] = step(values[j], by, middle + 0.5f, steps - 1);
        put_half(bytes, scale);
        uint32_t fifth = put_nibbles(bytes + head, numbers);
        if (steps == 32) memcpy(bytes + 2, &fifth, sizeof fifth);
    }
}

// Q4_1 and Q5_1: `steps` steps from the smallest to the greatest value.
static void write_with_minimum(unsigned char *bytes, const float *values, int64_t blocks, int steps) {
    size_t head = steps == 32 ? 8 : 4;
    for (int64_t b = 0; b < blocks; b++, bytes += head + 16, values += 32) {
        unsigned numbers[32];
        float minimum = smallest(values), scale = (greatest(values) - minimum) / (float)(steps - 1);
        float by = inverse(scale);
        for (int j = 0; j < 32; j++) numbers[j] = step(values[j] - minimum, by, 0.5f, steps - 1);
        put_half(bytes, scale);
        put_half(bytes + 2, minimum);
        uint32_t fifth = put_nibbles(bytes + head, numbers);
        if (steps == 32) memcpy(bytes + 4, &fifth, sizeof fifth);
    }
}

bool ggml_can_quantise(GgmlType type) {
    return type != GGML_Q4_K && type != GGML_Q5_K && type != GGML_Q6_K;
}

void ggml_quantise(GgmlType type, unsigned char *bytes, const float *values, int64_t blocks) {
    switch (type) {
    case GGML_F32:
        memcpy(bytes, values, (size_t)blocks * sizeof *values);
        return;
    case GGML_F16:
        write_f16(bytes, values, blocks);
        return;
    case GGML_BF16:
        write_bf16(bytes, values, blocks);
        return;
    case GGML_Q8_0:
        write_q8_0(bytes, values, blocks);
        return;
    case GGML_Q4_0:
        write_symmetric(bytes, values, blocks, 16);
        return;
    case GGML_Q5_0:
        write_symmetric(bytes, values, blocks, 32);
        return;
    case GGML_Q4_1:
        write_with_minimum(bytes, values, blocks, 16);
        return;
    case GGML_Q5_1:
        write_with_minimum(bytes, values, blocks, 32);
        return;
    case GGML_Q4_K:
    case GGML_Q5_K:
    case GGML_Q6_K:
        return; // ggml_can_quantise says no
    }
}
