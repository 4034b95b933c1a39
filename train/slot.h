// slot.h - the training state of one block: gradient, AdamW moments, low bits of the master weights, step count.
//
// Moments and low bits lie in the memory of the backend that updates the block: the run's, or a CPU backend of its own,
// beside which the block's weights then lie too. The gradient is made on the device in either case; it may go to pinned
// host memory, for an update there or until the norm of all gradients is known.
#pragma once
#include "kernels/arena.h"
#include "kernels/kernels.h"
#include "train/batch_rows.h"
#include "train/settings.h"
#include <stdint.h>

typedef struct Slot {
    int block;                 // the block it trains; -1: free
    int64_t elements;          // of that block
    int64_t decayed;           // elements [0, decayed) have weight decay
    int64_t steps;             // t: AdamW updates since the block entered
    bool on_host;              // the host updates it
    Backend *backend;          // that updates it; NULL while only measured
    float *gradient;           // [gradient_elements] device memory; slots may share one, see ActiveSet
    int64_t gradient_elements; // elements; for an untied E those of the rows of the optimizer batch
    float *host_gradient;      // [as many] pinned: the gradient outside the device; NULL: it never leaves
    void *m;                   // [elements] float, or bf16 with optim_bits 16
    void *v;                   // [elements] likewise
    size_t moment_size;        // bytes of an element of m and of v
    int16_t *low_bits;         // [elements]: (weight << 16) + low_bits is the fp32 master
    bf16 *own_weights;         // [elements] pinned, for blocks that have no home in host memory; NULL: not needed
    bf16 *weights;             // on_host: the block's, its home or own_weights
} Slot;

// Takes m, v and low bits of a block of `elements`; the slot is free until slot_enter.
void slot_take(Slot *slot, Arena *arena, int64_t elements, int64_t decayed, OptimBits bits);

// The block becomes active: m = v = 0, t = 0, low bits 0, so that the master is the bf16 weight.
void slot_enter(Slot *slot, int block);

// Counts one AdamW update and gives its numbers. clip_scale and skip: memory of the slot's backend. The key of moments'
// rounding is of (seed, block, t), so neither the backend nor an update in several parts changes a bit.
AdamWStep slot_step(Slot *slot, const TrainSettings *settings, double learning_rate, const float *clip_scale,
                    const int32_t *skip);
// Does it, on weights and gradient in memory of the slot's backend. places: [V], NULL for a gradient of all elements;
// else the gradient has only the rows that they tell of, and table rows `rows` [count] of `columns` elements are
// updated (NULL: 0 .. count - 1).
typedef struct SlotRows {
    const int32_t *places, *rows;
    int64_t count, columns;
} SlotRows;
void slot_update(Slot *slot, bf16 *weights, const float *gradient, const AdamWStep *step, const SlotRows *rows);

// The block leaves the active set: its weights (memory of the slot's backend) become the stochastic rounding of the
// master, whose expected value is the master; plain rounding would forget most of what a few small updates taught. key:
// of (seed, draw, block).
void slot_leave(Slot *slot, bf16 *weights, uint64_t key);
