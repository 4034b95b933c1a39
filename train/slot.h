// slot.h - the training state of one block: gradient, AdamW moments, low bits of the master weights, step count.
#pragma once
#include "kernels/arena.h"
#include "kernels/kernels.h"
#include "train/settings.h"
#include <stdint.h>

typedef struct Slot {
    int block;         // the block it trains; -1: free
    int64_t elements;  // of that block
    int64_t decayed;   // elements [0, decayed) have weight decay
    int64_t steps;     // t: AdamW updates since the block entered
    float *gradient;   // [elements] device memory, as all below; slots may share one, see ActiveSet
    float *m;          // [elements]
    float *v;          // [elements]
    int16_t *low_bits; // [elements]: (weight << 16) + low_bits is the fp32 master
} Slot;

// Takes the state of a block of `elements`, all but the gradient; the slot is free until slot_enter.
void slot_take(Slot *slot, Arena *arena, int64_t elements, int64_t decayed);

// The block becomes active: m = v = 0, t = 0, low bits 0, so that the master is the bf16 weight.
void slot_enter(Slot *slot, Backend *backend, int block);

// One AdamW update of the block's weights from the slot's gradient. clip_scale and skip: device memory.
void slot_update(Slot *slot, Backend *backend, bf16 *weights, const TrainSettings *settings, double learning_rate,
                 const float *clip_scale, const int32_t *skip);

// The block leaves the active set: its weights become the stochastic rounding of the master, whose expected value is
// the master; plain rounding would forget most of what a few small updates taught. key: of (seed, draw, block).
void slot_leave(Slot *slot, Backend *backend, bf16 *weights, uint64_t key);
