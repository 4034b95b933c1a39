// ggml_quants.c - one reader per block layout. All multi-byte values are little-endian, as on every host we run on.
#include "base/ggml_quants.h"
#include "base/numbers.h"
#include <stdio.h>

static float half_at(const unsigned char *bytes) {
    fp16 half;
    memcpy(&half, bytes, sizeof half);
    return fp16_to_float(half);
}

static void read_f32(float *out, const unsigned char *bytes, int64_t blocks) {
    memcpy(out, bytes, (size_t)blocks * sizeof *out);
}

static void read_f16(float *out, const unsigned char *bytes, int64_t blocks) {
    for (int64_t i = 0; i < blocks; i++) out[i] = half_at(bytes + 2 * i);
}

static void read_bf16(float *out, const unsigned char *bytes, int64_t blocks) {
    for (int64_t i = 0; i < blocks; i++) {
        bf16 value;
        memcpy(&value, bytes + 2 * i, sizeof value);
        out[i] = bf16_to_float(value);
    }
}

// d fp16 | 32 x int8
static void read_q8_0(float *out, const unsigned char *bytes, int64_t blocks) {
    for (int64_t b = 0; b < blocks; b++, bytes += 34, out += 32) {
        float scale = half_at(bytes);
        for (int j = 0; j < 32; j++) out[j] = scale * (float)(int8_t)bytes[2 + j];
    }
}

// d fp16 | 16 bytes: elements 0 .. 15 in the low halves, 16 .. 31 in the high halves; 8 is zero
static void read_q4_0(float *out, const unsigned char *bytes, int64_t blocks) {
    for (int64_t b = 0; b < blocks; b++, bytes += 18, out += 32) {
        float scale = half_at(bytes);
        for (int j = 0; j < 16; j++) {
            out[j] = scale * (float)((bytes[2 + j] & 15) - 8);
            out[j + 16] = scale * (float)((bytes[2 + j] >> 4) - 8);
        }
    }
}

// d fp16 | m fp16 | 16 bytes as Q4_0; the value is d q + m
static void read_q4_1(float *out, const unsigned char *bytes, int64_t blocks) {
    for (int64_t b = 0; b < blocks; b++, bytes += 20, out += 32) {
        float scale = half_at(bytes), minimum = half_at(bytes + 2);
        for (int j = 0; j < 16; j++) {
            out[j] = scale * (float)(bytes[4 + j] & 15) + minimum;
            out[j + 16] = scale * (float)(bytes[4 + j] >> 4) + minimum;
        }
    }
}

// The 5-bit number of element j and of j + 16 from a byte of low bits and the word of fifth bits.
static int five_bits_low(unsigned char byte, uint32_t fifth, int j) {
    return (byte & 15) | (int)(((fifth >> j) & 1) << 4);
}

static int five_bits_high(unsigned char byte, uint32_t fifth, int j) {
    return (byte >> 4) | (int)(((fifth >> (j + 16)) & 1) << 4);
}

// d fp16 | 32 fifth bits | 16 bytes as Q4_0; 16 is zero
static void read_q5_0(float *out, const unsigned char *bytes, int64_t blocks) {
    for (int64_t b = 0; b < blocks; b++, bytes += 22, out += 32) {
        float scale = half_at(bytes);
        uint32_t fifth;
        memcpy(&fifth, bytes + 2, sizeof fifth);
        for (int j = 0; j < 16; j++) {
            out[j] = scale * (float)(five_bits_low(bytes[6 + j], fifth, j) - 16);
            out[j + 16] = scale * (float)(five_bits_high(bytes[6 + j], fifth, j) - 16);
        }
    }
}

// d fp16 | m fp16 | 32 fifth bits | 16 bytes as Q4_0; the value is d q + m
static void read_q5_1(float *out, const unsigned char *bytes, int64_t blocks) {
    for (int64_t b = 0; b < blocks; b++, bytes += 24, out += 32) {
        float scale = half_at(bytes), minimum = half_at(bytes + 2);
        uint32_t fifth;
        memcpy(&fifth, bytes + 4, sizeof fifth);
        for (int j = 0; j < 16; j++) {
            out[j] = scale * (float)five_bits_low(bytes[8 + j], fifth, j) + minimum;
            out[j + 16] = scale * (float)five_bits_high(bytes[8 + j], fifth, j) + minimum;
        }
    }
}

// Q4_K and Q5_K: the 6-bit scale and minimum of sub-block j, eight of each packed into 12 bytes.
static void scale_and_minimum(const unsigned char packed[12], int j, int *scale, int *minimum) {
    if (j < 4) {
        *scale = packed[j] & 63;
        *minimum = packed[j + 4] & 63;
    } else {
        *scale = (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4);
        *minimum = (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4);
    }
}

// d fp16 | dmin fp16 | 12 bytes of scales | 128 bytes: 8 sub-blocks of 32, two share 32 bytes (low, high halves).
// fifth: NULL, or the 32 bytes of Q5_K whose bit j belongs to sub-block j.
static void read_k_block(float *out, const unsigned char *head, const unsigned char *fifth,
                         const unsigned char *nibbles) {
    float d = half_at(head), dmin = half_at(head + 2);
    for (int j = 0; j < 8; j++) {
        int sub_scale, sub_minimum;
        scale_and_minimum(head + 4, j, &sub_scale, &sub_minimum);
        float scale = d * (float)sub_scale, minimum = dmin * (float)sub_minimum;
        const unsigned char *low = nibbles + (size_t)(j / 2) * 32;
        for (int i = 0; i < 32; i++) {
            int q = j % 2 ? low[i] >> 4 : low[i] & 15;
            if (fifth) q |= ((fifth[i] >> j) & 1) << 4;
            out[32 * j + i] = scale * (float)q - minimum;
        }
    }
}

static void read_q4_k(float *out, const unsigned char *bytes, int64_t blocks) {
    for (int64_t b = 0; b < blocks; b++, bytes += 144, out += 256) read_k_block(out, bytes, NULL, bytes + 16);
}

static void read_q5_k(float *out, const unsigned char *bytes, int64_t blocks) {
    for (int64_t b = 0; b < blocks; b++, bytes += 176, out += 256) read_k_block(out, bytes, bytes + 16, bytes + 48);
}

// 128 bytes of low 4 bits | 64 bytes of high 2 bits | 16 x int8 scales | d fp16; 32 is zero.
// Each half of 128 elements takes 64 + 32 bytes; element 32 k + i of a half has its low bits in byte i + 32 (k % 2)
// (high half of the byte for k >= 2) and its high bits at 2 k of byte i.
static void read_q6_k(float *out, const unsigned char *bytes, int64_t blocks) {
    for (int64_t b = 0; b < blocks; b++, bytes += 210, out += 256) {
        float d = half_at(bytes + 208);
        for (int e = 0; e < 256; e++) {
            int half = e / 128, k = e % 128 / 32, i = e % 32;
            int low = bytes[64 * half + 32 * (k % 2) + i];
            low = k >= 2 ? low >> 4 : low & 15;
            int high = (bytes[128 + 32 * half + i] >> (2 * k)) & 3;
            float scale = d * (float)(int8_t)bytes[192 + e / 16];
            out[e] = scale * (float)((low | high << 4) - 32);
        }
    }
}

static const GgmlTypeInfo TYPES[] = {
    {GGML_F32, "F32", 1, 4, read_f32},        {GGML_F16, "F16", 1, 2, read_f16},
    {GGML_BF16, "BF16", 1, 2, read_bf16},     {GGML_Q8_0, "Q8_0", 32, 34, read_q8_0},
    {GGML_Q4_0, "Q4_0", 32, 18, read_q4_0},   {GGML_Q4_1, "Q4_1", 32, 20, read_q4_1},
    {GGML_Q5_0, "Q5_0", 32, 22, read_q5_0},   {GGML_Q5_1, "Q5_1", 32, 24, read_q5_1},
    {GGML_Q4_K, "Q4_K", 256, 144, read_q4_k}, {GGML_Q5_K, "Q5_K", 256, 176, read_q5_k},
    {GGML_Q6_K, "Q6_K", 256, 210, read_q6_k},
};

const GgmlTypeInfo *ggml_type_info(uint32_t type) {
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if ((uint32_t)TYPES[i].type == type) return &TYPES[i];
    return NULL;
}

const char *ggml_type_name(uint32_t type, char text[24]) {
    static const struct {
        uint32_t type;
        const char *name;
    } OTHERS[] = {{9, "Q8_1"},     {10, "Q2_K"},  {11, "Q3_K"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"},
                  {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"},
                  {24, "I8"},      {25, "I16"},   {26, "I32"},    {27, "I64"},   {28, "F64"},     {29, "IQ1_M"},
                  {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"},  {40, "NVFP4"}};
    const GgmlTypeInfo *info = ggml_type_info(type);
    if (info) return info->name;
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++)
        if (OTHERS[i].type == type) return OTHERS[i].name;
    snprintf(text, 24, "type %u", type);
    return text;
}
