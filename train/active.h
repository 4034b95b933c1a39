// active.h - the active set: which blocks have a slot, and what happens to slots and weights at a draw.
#pragma once
#include "model/store.h"
#include "train/lisa.h"
#include "train/slot.h"

typedef struct ActiveSet {
    Method method;
    Slot *slots; // [gamma + 2]: E, H, then one per activated layer
    int slot_count;
    Slot **of_block;  // [blocks]: the block's slot, NULL when it is frozen
    int64_t draw;     // number of the draw that holds; -1 before the first
    int16_t **parked; // [blocks] host memory: low bits of frozen layers with lisa_keep_low_bits; NULL without
    int blocks;
} ActiveSet;

// Takes the slots from the device arena and, with lisa_keep_low_bits, room to park low bits from the host arena. With
// one_gradient all slots share a gradient buffer (but for a tied E's, whose gradient begins with the head's): for runs
// that update a block as soon as its gradient is complete.
// Measuring arenas are fine. Fails on overflow or without memory for the tables; end with active_free.
bool active_create(ActiveSet *active, const Method *method, const TrainSettings *settings, const BlockLayout *layout,
                   bool one_gradient, Arena *device, Arena *host, Error *error);
void active_free(ActiveSet *active);

// Before optimizer step `step`: when its draw is not the one that holds, layers that are not drawn again leave, new
// ones enter; a layer drawn again keeps everything. E and H enter at the first call.
void active_update(ActiveSet *active, BlockStore *store, int64_t step);

// The active layers (not blocks), ascending; returns how many (gamma).
int active_layers(const ActiveSet *active, int *layers);

// Whether the blocks with a slot are those that are active once `steps` optimizer steps are done, and the draw that
// holds is theirs.
bool active_is_after(const ActiveSet *active, int64_t steps);

// For resuming: gives a free slot of the right size to a block that was active when the checkpoint was written, its
// state to be filled in by the caller. NULL when no slot is free for it.
Slot *active_claim(ActiveSet *active, int block);
