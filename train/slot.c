// slot.c - see slot.h.
#include "train/slot.h"
#include <math.h>

void slot_take(Slot *slot, Arena *arena, int64_t elements, int64_t decayed) {
    *slot = (Slot){.block = -1, .elements = elements, .decayed = decayed};
    slot->m = arena_take(arena, elements, sizeof(float));
    slot->v = arena_take(arena, elements, sizeof(float));
    slot->low_bits = arena_take(arena, elements, sizeof(int16_t));
}

void slot_enter(Slot *slot, Backend *backend, int block) {
    size_t count = (size_t)slot->elements;
    slot->block = block;
    slot->steps = 0;
    backend->zero(backend, slot->m, count * sizeof(float), NULL);
    backend->zero(backend, slot->v, count * sizeof(float), NULL);
    backend->zero(backend, slot->low_bits, count * sizeof(int16_t), NULL);
}

void slot_update(Slot *slot, Backend *backend, bf16 *weights, const TrainSettings *settings, double learning_rate,
                 const float *clip_scale, const int32_t *skip) {
    double t = (double)++slot->steps;
    AdamWStep step = {
        .learning_rate = learning_rate,
        .beta1 = settings->adam_beta1,
        .beta2 = settings->adam_beta2,
        .epsilon = settings->adam_epsilon,
        .weight_decay = settings->weight_decay,
        .bias_correction1 = 1 - pow(settings->adam_beta1, t),
        .bias_correction2 = 1 - pow(settings->adam_beta2, t),
        .decayed = slot->decayed,
        .clip_scale = clip_scale,
        .skip = skip,
    };
    backend->adamw(backend, weights, slot->low_bits, slot->gradient, slot->m, slot->v, slot->elements, &step, NULL);
}

void slot_leave(Slot *slot, Backend *backend, bf16 *weights, uint64_t key) {
    backend->freeze(backend, weights, slot->low_bits, slot->elements, key, NULL);
    slot->block = -1;
}
