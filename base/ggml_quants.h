// ggml_quants.h - the tensor types of GGUF files, how their blocks become floats and floats become blocks.
//
// A quantised tensor is a run of blocks: 32 (or 256, the "K" types) consecutive elements of a row share a scale, some
// also a minimum. The layouts are ggml's (ggml-common.h); the arithmetic is fp32 in the order of gguf-py's
// dequantize, so the results are equal bit for bit.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    GGML_F32 = 0,
    GGML_F16 = 1,
    GGML_Q4_0 = 2,
    GGML_Q4_1 = 3,
    GGML_Q5_0 = 6,
    GGML_Q5_1 = 7,
    GGML_Q8_0 = 8,
    GGML_Q4_K = 12,
    GGML_Q5_K = 13,
    GGML_Q6_K = 14,
    GGML_BF16 = 30
} GgmlType; // the numbers are those in the files

typedef struct GgmlTypeInfo {
    GgmlType type;
    const char *name;   // "Q4_K"
    int64_t block;      // elements of a block; 1 for the plain types
    size_t block_bytes; // bytes of a block
    void (*read)(float *out, const unsigned char *bytes, int64_t blocks);
} GgmlTypeInfo;

#define GGML_TYPES_READ "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K" // for messages

// What is known of a type number in a file; NULL when it is not one of those above.
const GgmlTypeInfo *ggml_type_info(uint32_t type);

// "Q2_K" and the like for types that exist but are not read, "type 99" written into text for numbers unknown to us.
const char *ggml_type_name(uint32_t type, char text[24]);

// ---- ggml_quantise.c ----

// Whether floats can be brought to this type: the plain ones, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1.
bool ggml_can_quantise(GgmlType type);
// Brings floats to `blocks` blocks of such a type, rounded as ggml's reference (quantize_row_*_ref of ggml-quants.c,
// without fused multiply-add) and gguf-py do it, byte for byte. Values are finite; |value| <= 65504 unless the type is
// F32 or BF16.
void ggml_quantise(GgmlType type, unsigned char *bytes, const float *values, int64_t blocks);
