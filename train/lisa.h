// lisa.h - which decoder layers LISA trains: the draws, a pure function of the seed and the draw's number.
//
// LISA (arXiv 2403.17919): E and H are always trained; gamma distinct decoder layers are drawn at optimizer steps
// 0, K, 2K, ... and stay active for K steps. Full fine-tuning is the same machine with gamma = L and a single draw.
#pragma once
#include "train/settings.h"
#include <stdint.h>

typedef struct Method {
    int layers;       // L
    int activated;    // gamma, 0 .. L
    int64_t interval; // K, in optimizer steps; INT64_MAX: one draw for the whole run
    LisaSampling sampling;
    uint64_t seed;
} Method;

Method method_of(const TrainSettings *settings, int layers);

// The number of the draw that holds at an optimizer step (counted from 0).
int64_t method_draw_index(const Method *method, int64_t step);
// How many draws a run of `steps` optimizer steps makes.
int64_t method_draws(const Method *method, int64_t steps);

// Writes the gamma layers of a draw, ascending. uniform: without replacement within the draw, draws independent.
// cycle: random permutations dealt out gamma at a time, ceil(L / gamma) draws each, so that every layer is visited in
// each round; where gamma does not divide L the round's last draw is filled up from the start of its permutation.
void method_draw(const Method *method, int64_t draw, int *layers);
