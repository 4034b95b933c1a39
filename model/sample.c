// sample.c - see sample.h.
#include "model/sample.h"
#include "base/random.h"
#include <math.h>
#include <stdlib.h>

bool sampler_create(Sampler *sampler, int64_t vocabulary, double temperature, double top_p, uint64_t seed,
                    Error *error) {
    *sampler = (Sampler){temperature, top_p, random_key(seed, RANDOM_SAMPLE, 0, 0), NULL, vocabulary};
    if (temperature == 0) return true;
    sampler->order = malloc((size_t)vocabulary * sizeof *sampler->order);
    return sampler->order || error_memory(error, "sampling", (size_t)vocabulary * sizeof *sampler->order);
}

void sampler_free(Sampler *sampler) {
    free(sampler->order);
    *sampler = (Sampler){0};
}

static int32_t largest(const float *logits, int64_t vocabulary) {
    int32_t best = -1;
    for (int64_t i = 0; i < vocabulary; i++)
        if (!isnan(logits[i]) && (best < 0 || logits[i] > logits[best])) best = (int32_t)i;
    return best;
}

// Larger first, then the smaller id, so that the order is the same everywhere.
static int compare(const void *a, const void *b, void *logits) {
    int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
    float x = ((const float *)logits)[i], y = ((const float *)logits)[j];
    if (x != y) return x > y ? -1 : 1;
    return i < j ? -1 : 1;
}

int32_t sampler_next(const Sampler *s, float *logits, int64_t position) {
    int32_t best = largest(logits, s->vocabulary);
    if (best < 0 || s->temperature == 0) return best;
    float top = logits[best];
    double total = 0;
    for (int64_t i = 0; i < s->vocabulary; i++) { // logits become probabilities, not yet divided by their sum
        double weight = isnan(logits[i]) ? 0 : exp(((double)logits[i] - (double)top) / s->temperature);
        logits[i] = (float)weight;
        total += (double)logits[i];
        s->order[i] = i;
    }
    qsort_r(s->order, (size_t)s->vocabulary, sizeof *s->order, compare, logits);
    double kept = 0;
    int64_t count = 0;
    while (count < s->vocabulary && kept < s->top_p * total) kept += (double)logits[s->order[count++]];
    double target = random_uniform(s->key, (uint64_t)position) * kept;
    for (int64_t i = 0; i < count; i++) {
        target -= (double)logits[s->order[i]];
        if (target < 0) return (int32_t)s->order[i];
    }
    return (int32_t)s->order[count - 1];
}
