// config_parts.h - what reading config.json and reading GGUF metadata share. Private to model/config*.c and rope.c.
#pragma once
#include "model/config.h"

// Sizes as a file gives them, before they are known to be sane. -1: missing.
typedef struct ConfigSizes {
    int64_t layers;
    int64_t heads;
    int64_t kv_heads;
    int64_t head_dim; // 0: hidden / heads
    int64_t hidden;
    int64_t intermediate;
    int64_t vocabulary;
    int64_t max_positions;
} ConfigSizes;

// Checks every size and how they fit together, and puts them into config. Names are config.json's.
bool config_set_sizes(ModelConfig *config, const ConfigSizes *sizes, const char *where, Error *error);
// Checks and puts in norm epsilon, rope_theta and the special tokens; a bos or pad outside the vocabulary is absent.
bool config_set_numbers(ModelConfig *config, double norm_epsilon, double rope_theta, int64_t bos, int64_t pad,
                        const char *where, Error *error);
// Appends an end token; one that is there already is left out.
bool config_add_eos(ModelConfig *config, int64_t id, const char *where, Error *error);

// rope_scaling or rope_parameters of config.json; needs max_positions.
bool config_read_rope(ModelConfig *config, const json_t *object, const char *where, Error *error);
// Checks the scaling's factors, wherever they come from.
bool config_check_rope(const ModelConfig *config, const char *where, Error *error);
// rope_freqs.weight of GGUF: divisors of the frequencies, [D / 2]. Finds the llama3 scaling that gives them.
bool config_rope_from_factors(ModelConfig *config, const float *factors, const char *where, Error *error);
