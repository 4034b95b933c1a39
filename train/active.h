// active.h - the active set: which blocks have a slot, and what happens to slots and weights at a draw.
#pragma once
#include "model/store.h"
#include "train/lisa.h"
#include "train/slot.h"

// Where the training state lies; chosen by the plan. All zeros: everything is on the device.
typedef struct StatePlaces {
    bool head_on_host;   // H's m, v and low bits are in host memory; not with tied embeddings
    bool layers_on_host; // those of the active layers
    // H and the layers share one gradient buffer (a tied E has one of its own): a gradient that is complete is applied
    // at once, or waits in host memory. Needs that one sweep holds any optimizer batch.
    bool shared_gradient;
} StatePlaces;

// What the state's size and place depend on.
typedef struct ActivePlan {
    const BlockLayout *layout;
    const StorePlaces *store;
    StatePlaces places;
    int64_t rows;  // of E that a batch can touch: capacity of the compact gradient; 0: tied, E's gradient is whole
    Backend *host; // of slots whose state is in host memory; NULL while only measured
} ActivePlan;

typedef struct ActiveSet {
    Method method;
    Slot *slots; // [gamma + 2]: E, H, then one per activated layer
    int slot_count;
    Slot **of_block;  // [blocks]: the block's slot, NULL when it is frozen
    int64_t draw;     // number of the draw that holds; -1 before the first
    int16_t **parked; // [blocks] host memory: low bits of frozen layers with lisa_keep_low_bits; NULL without
    int blocks;
} ActiveSet;

// Takes the slots from the arenas of the memories that they lie in and, with lisa_keep_low_bits, room to park low bits
// in host memory. Measuring arenas are fine. Fails on overflow or without memory for the tables; end with active_free.
bool active_create(ActiveSet *active, const Method *method, const TrainSettings *settings, const ActivePlan *plan,
                   Backend *backend, Arena *device, Arena *pinned, Arena *host, Error *error);
void active_free(ActiveSet *active);

// Whether the draw of optimizer step `step` is another one than holds.
bool active_changes(const ActiveSet *active, int64_t step);
// Before optimizer step `step`: when its draw is not the one that holds, layers that are not drawn again leave, new
// ones enter; a layer drawn again keeps everything. E and H enter at the first call. No update is under way.
void active_update(ActiveSet *active, BlockStore *store, int64_t step);

// The active layers (not blocks), ascending; returns how many (gamma).
int active_layers(const ActiveSet *active, int *layers);

// Whether the blocks with a slot are those that are active once `steps` optimizer steps are done, and the draw that
// holds is theirs.
bool active_is_after(const ActiveSet *active, int64_t steps);

// For resuming: gives a free slot of the right size to a block that was active when the checkpoint was written, its
// state to be filled in by the caller. NULL when no slot is free for it.
Slot *active_claim(ActiveSet *active, BlockStore *store, int block);
