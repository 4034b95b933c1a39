// offload.h - slots whose state is in host memory: gradients go down, the processor's cores update, weights come up.
//
// Nothing of it is done inside the step that made the gradients. They go down as each is complete, with the step's clip
// scale; when the next step begins, the host waits for them and updates in the order in which that step needs weights:
// E's rows of its batch, active layers upward, H, the other rows of E. All but the first run behind the forward pass;
// whoever acquires a block's weights comes by BlockStore.prepare, which waits for its update and brings what is new.
//
// A gradient that only waits in host memory for the norm of all gradients, because the layers share one buffer, comes
// back for AdamW on the device.
#pragma once
#include "train/active.h"
#include "train/host_updates.h"
#include "train/reports.h"

typedef struct Offload {
    // borrowed
    Backend *backend;
    const TrainSettings *settings;
    BlockStore *store;
    ActiveSet *active;
    BatchRows *rows;      // NULL: E is tied
    HostUpdates *updates; // NULL: no state is on the host
    // its own
    bool used;             // some slot's gradient goes to host memory
    Stream *down, *up;     // gradients and numbers to the host; weights and gradients to the device
    Event *complete;       // in the compute stream: the gradient that goes down
    Event *gone;           // in `down`: the last gradient has left the buffer
    bool leaving;          // the compute stream has not waited for `gone` yet
    Event *arrived;        // in `down`: all of the step, and its numbers
    Event *back;           // in `up`: weights, or a gradient, have come
    StepNumbers *numbers;  // pinned: the step's clip scale and skip
    bool pending;          // a step's gradients are on their way or there, their updates not queued yet
    double learning_rate;  // of that step
    const RowSet *touched; // the rows that it gave a gradient
    bool *stale;           // [blocks] the device's copy of a resident block is older than the host's
} Offload;

// Takes the pinned numbers; measuring arenas are fine. false without memory for the table. End with offload_free.
bool offload_create(Offload *offload, Backend *backend, const TrainSettings *settings, BlockStore *store,
                    ActiveSet *active, BatchRows *rows, HostUpdates *updates, Arena *pinned, Error *error);
// Makes streams and events where they are needed, and watches over the store's blocks; once, on real memory.
bool offload_open(Offload *offload, Error *error);
void offload_free(Offload *offload); // finishes what is under way; also of a zeroed one

// Before anything is added to the shared gradient buffer.
void offload_before_gradient(Offload *offload);
// What the compute stream has been given so far is done before anything that goes to the host from here on.
void offload_mark(Offload *offload);
// Queues the slot's gradient to the host, which was complete at the last mark.
void offload_gradient(Offload *offload, Slot *slot);
// The slot's gradient, which waits in host memory, comes back to its buffer on the device, ready on the compute stream.
void offload_gradient_back(Offload *offload, const Slot *slot);
// The step's gradients have all been queued; numbers: device memory with its clip scale and skip, since the last mark.
void offload_end_step(Offload *offload, double learning_rate, const StepNumbers *numbers);

// A step begins that needs the rows `next` of E (NULL when E is on the device): queues what the step before has left to
// do. On return these rows are up to date.
void offload_begin_step(Offload *offload, const RowSet *next);
// All that is left to do is done, and the device has all weights.
void offload_settle(Offload *offload);
