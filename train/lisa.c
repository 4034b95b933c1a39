// lisa.c - see lisa.h.
#include "train/lisa.h"
#include "base/random.h"
#include "model/config.h"
#include <stdlib.h>

Method method_of(const TrainSettings *settings, int layers) {
    bool full = settings->finetuning_type == METHOD_FULL;
    return (Method){
        .layers = layers,
        .activated = full ? layers : (int)settings->lisa_activated_layers,
        .interval = full ? INT64_MAX : settings->lisa_interval_steps,
        .sampling = settings->lisa_sampling,
        .seed = settings->seed,
    };
}

int64_t method_draw_index(const Method *method, int64_t step) {
    return step / method->interval;
}

int64_t method_draws(const Method *method, int64_t steps) {
    return steps <= 0 ? 0 : method_draw_index(method, steps - 1) + 1;
}

static int compare(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

void method_draw(const Method *method, int64_t draw, int *layers) {
    int64_t order[MODEL_LAYERS_MAX];
    int L = method->layers, gamma = method->activated;
    if (gamma == 0) return;
    int64_t per_round = (L + gamma - 1) / gamma; // draws of one permutation
    bool cycle = method->sampling == SAMPLING_CYCLE;
    uint64_t round = (uint64_t)(cycle ? draw / per_round : draw);
    int64_t first = cycle ? draw % per_round * gamma : 0;
    random_permutation(random_key(method->seed, RANDOM_DRAW, round, cycle), order, L);
    for (int i = 0; i < gamma; i++) layers[i] = (int)order[(first + i) % L];
    qsort(layers, (size_t)gamma, sizeof *layers, compare);
}
