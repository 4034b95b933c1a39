// sample.c - see sample.h. Nucleus sampling: Holtzman et al., arXiv 1904.09751.
#include "model/sample.h"
#include "base/random.h"
#include <math.h>
#include <stdlib.h>

bool sampler_create(Sampler *sampler, int64_t vocabulary, double temperature, double top_p, uint64_t seed,
                    Error *error) {
    *sampler = (Sampler){temperature, top_p, random_key(seed, RANDOM_SAMPLE, 0, 0), NULL, vocabulary};
    if (temperature == 0) return true;
    size_t bytes = (size_t)vocabulary * sizeof *sampler->candidates;
    sampler->candidates = malloc(bytes);
    return sampler->candidates || error_memory(error, "sampling", bytes);
}

void sampler_free(Sampler *sampler) {
    free(sampler->candidates);
    *sampler = (Sampler){0};
}

// -1 when one of them is not a number, or the largest not finite.
static int32_t largest(const float *logits, int64_t vocabulary) {
    int32_t best = 0;
    for (int64_t i = 0; i < vocabulary; i++) {
        if (isnan(logits[i])) return -1;
        if (logits[i] > logits[best]) best = (int32_t)i;
    }
    return isfinite(logits[best]) ? best : -1;
}

// Larger first, then the smaller id, so that the order is the same everywhere.
static int compare(const void *a, const void *b) {
    const SampleCandidate *x = a, *y = b;
    if (x->weight != y->weight) return x->weight > y->weight ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

// Fills candidates with the tokens that can belong to the nucleus, sorted, and returns how many; *total: the weight of
// all tokens.
static int64_t gather(const Sampler *s, const float *logits, float top, double *total) {
    int64_t count = 0, kept = 0;
    *total = 0;
    for (int64_t i = 0; i < s->vocabulary; i++) {
        float weight = (float)exp(((double)logits[i] - (double)top) / s->temperature);
        if (!(weight > 0)) continue; // also not a number
        s->candidates[count++] = (SampleCandidate){weight, (int32_t)i};
        *total += (double)weight;
    }
    // Tokens below this share together weigh less than 1 - top_p, so the nucleus is complete without them, and sorting
    // the few that are left is cheap.
    double least = (1 - s->top_p) / (double)s->vocabulary * *total;
    for (int64_t i = 0; i < count; i++)
        if ((double)s->candidates[i].weight >= least) s->candidates[kept++] = s->candidates[i];
    qsort(s->candidates, (size_t)kept, sizeof *s->candidates, compare);
    return kept;
}

int32_t sampler_next(const Sampler *s, const float *logits, int64_t position) {
    int32_t best = largest(logits, s->vocabulary);
    if (best < 0 || s->temperature == 0) return best;
    double total, nucleus = 0;
    int64_t count = gather(s, logits, logits[best], &total), size = 0;
    while (size < count && nucleus < s->top_p * total) nucleus += (double)s->candidates[size++].weight;
    double point = random_uniform(s->key, (uint64_t)position) * nucleus;
    for (int64_t i = 0; i + 1 < size; i++) {
        point -= (double)s->candidates[i].weight;
        if (point < 0) return s->candidates[i].id;
    }
    return s->candidates[size - 1].id;
}
