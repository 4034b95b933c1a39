// sample.h - choosing the next token from logits.
#pragma once
#include "base/error.h"
#include <stdint.h>

// A token that may be drawn.
typedef struct SampleCandidate {
    float weight; // exp((logit - largest logit) / temperature)
    int32_t id;
} SampleCandidate;

typedef struct Sampler {
    double temperature;          // 0: the largest logit
    double top_p;                // in (0, 1]: the smallest set of tokens whose probabilities reach it
    uint64_t key;                // of the random numbers; the position is the counter
    SampleCandidate *candidates; // [vocabulary] work space; NULL when temperature is 0
    int64_t vocabulary;
} Sampler;

// false without memory. End with sampler_free.
bool sampler_create(Sampler *sampler, int64_t vocabulary, double temperature, double top_p, uint64_t seed,
                    Error *error);
void sampler_free(Sampler *sampler);

// The id of the next token; logits: [vocabulary]. A function of (logits, seed, position). With temperature 0 the
// smallest of equally likely ids. -1 when a logit is not a number or the largest is not finite: damaged weights.
int32_t sampler_next(const Sampler *sampler, const float *logits, int64_t position);
