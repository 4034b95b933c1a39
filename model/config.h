// config.h - the shape of a LLaMA-family model, read from config.json or from GGUF metadata, validated on reading.
#pragma once
#include "base/error.h"
#include "base/gguf.h"
#include "base/json.h"
#include "kernels/kernels.h"
#include <stdbool.h>
#include <stdint.h>

#define MODEL_LAYERS_MAX 512
#define MODEL_EOS_MAX    16

typedef enum { FAMILY_LLAMA, FAMILY_MISTRAL, FAMILY_QWEN2 } ModelFamily;
typedef enum { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3 } RopeScaling;

typedef struct ModelConfig {
    ModelFamily family;
    int layers;           // L
    int heads;            // H, query heads
    int kv_heads;         // K, divides H
    int head_dim;         // D, even
    int64_t hidden;       // d
    int64_t intermediate; // f
    int64_t vocabulary;   // V
    int64_t max_positions;
    float norm_epsilon;
    bool tied;        // the output matrix is the embedding
    bool qkv_bias;    // Qwen2, or attention_bias
    bool output_bias; // attention_bias of llama: the output projection has one too
    // rotary embedding
    double rope_theta;
    RopeScaling rope_scaling;
    double rope_factor;              // linear and llama3
    double rope_low_freq_factor;     // llama3
    double rope_high_freq_factor;    // llama3
    int64_t rope_original_positions; // llama3
    // sliding window: 0 when no layer has one
    int window;
    bool windowed[MODEL_LAYERS_MAX]; // which layers use it
    // special tokens; -1 when absent
    int32_t bos;
    int32_t pad;
    int32_t eos[MODEL_EOS_MAX];
    int eos_count;
} ModelConfig;

// Reads config.json's object. `where` names the source. Errors name the key; an architecture or a rope type that is
// not supported is named together with the list of those that are.
bool model_config_from_json(ModelConfig *config, const json_t *object, const char *where, Error *error);

const char *model_family_name(ModelFamily family);   // "llama", "mistral", "qwen2": config.json's model_type
int64_t model_parameters(const ModelConfig *config); // the number of weights, a tied matrix counted once

// Reads the metadata of a GGUF file of the architectures llama (Mistral too) and qwen2. A llama3 rope scaling, which is
// there only as the tensor rope_freqs.weight, is recovered from it; other such factors are refused.
bool model_config_from_gguf(ModelConfig *config, const GgufFile *file, Error *error);

// false when the backend cannot compute this model; the message names the backend.
bool model_config_fits(const ModelConfig *config, const Backend *backend, Error *error);

// Rotary tables for positions 0 .. positions-1: cosine and sine, each [positions, D / 2]. Frequencies and angles are
// fp32 as in transformers; the cosine and sine of an angle are correctly rounded.
void model_rope_tables(const ModelConfig *config, int64_t positions, float *cosine, float *sine);

// The divisors [D / 2] of the frequencies under a llama3 rope scaling, as GGUF's rope_freqs.weight has them.
void model_rope_factors(const ModelConfig *config, float *factors);
