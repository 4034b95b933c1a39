// sample.h - choosing the next token from logits.
#pragma once
#include "base/error.h"
#include <stdint.h>

typedef struct Sampler {
    double temperature; // 0: the largest logit
    double top_p;       // in (0, 1]: the smallest set of tokens whose probabilities reach it
    uint64_t key;       // of the random numbers; the position is the counter
    int64_t *order;     // [vocabulary] work space; NULL when temperature is 0
    int64_t vocabulary;
} Sampler;

bool sampler_create(Sampler *sampler, int64_t vocabulary, double temperature, double top_p, uint64_t seed,
                    Error *error);
void sampler_free(Sampler *sampler);

// The id of the next token; logits [vocabulary] are overwritten. A function of (logits, seed, position).
// With temperature 0 the smallest of equally likely ids. -1 when no logit is a number.
int32_t sampler_next(const Sampler *sampler, float *logits, int64_t position);
