// slot.c - see slot.h.
#include "train/slot.h"
#include "base/random.h"
#include "model/uses.h"
#include <math.h>

void slot_take(Slot *slot, Arena *arena, int64_t elements, int64_t decayed, OptimBits bits) {
    *slot = (Slot){.block = -1, .elements = elements, .decayed = decayed};
    slot->moment_size = bits == OPTIM_BITS_16 ? sizeof(bf16) : sizeof(float);
    arena->use = USE_MOMENTS;
    slot->m = arena_take(arena, elements, slot->moment_size);
    slot->v = arena_take(arena, elements, slot->moment_size);
    arena->use = USE_LOW_BITS;
    slot->low_bits = arena_take(arena, elements, sizeof(int16_t));
}

void slot_enter(Slot *slot, int block) {
    Backend *b = slot->backend;
    size_t count = (size_t)slot->elements;
    slot->block = block;
    slot->steps = 0;
    b->zero(b, slot->m, count * slot->moment_size, NULL);
    b->zero(b, slot->v, count * slot->moment_size, NULL);
    b->zero(b, slot->low_bits, count * sizeof(int16_t), NULL);
}

AdamWStep slot_step(Slot *slot, const TrainSettings *settings, double learning_rate, const float *clip_scale,
                    const int32_t *skip) {
    double t = (double)++slot->steps;
    return (AdamWStep){
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
        .bf16_moments = slot->moment_size == sizeof(bf16),
        .moment_key = random_key(settings->seed, RANDOM_MOMENTS, (uint64_t)slot->block, (uint64_t)slot->steps),
    };
}

void slot_update(Slot *slot, bf16 *weights, const float *gradient, const AdamWStep *step, const SlotRows *rows) {
    Backend *b = slot->backend;
    if (rows->places)
        b->adamw_rows(b, weights, slot->low_bits, gradient, rows->places, slot->m, slot->v, rows->rows, rows->count,
                      rows->columns, step, NULL);
    else
        b->adamw(b, weights, slot->low_bits, gradient, slot->m, slot->v, slot->elements, step, NULL);
}

void slot_leave(Slot *slot, bf16 *weights, uint64_t key) {
    slot->backend->freeze(slot->backend, weights, slot->low_bits, slot->elements, key, NULL);
    slot->block = -1;
}
