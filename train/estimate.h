// estimate.h - the seconds that one optimizer step of a plan will take, without running it.
//
// Steps are played through on the machine's resources: the device, the link in each direction, the disk and the host's
// processor. Each does its share in the order in which the step wants it done; a piece begins when its resource is free
// and what it needs is there. Once two steps take equally long, that is the estimate. Every order is fixed, so a faster
// resource never makes a step slower. What a layer waits for at once (its input, new weights) goes over the link before
// the weights that are streamed ahead. Gradients move in the step's last sweep, when they are complete.
//
// The streamed layers have two buffers. Forward goes up the layers, backward down; the last two streamed layers stay at
// the turn, the first two at the end of a sweep: 2 * streamed - 4 loads per sweep. A load begins when the layer before
// the one before it has been used.
#pragma once
#include "train/rates.h"

// What the estimate needs to know of a plan. Layers are counted from the bottom. Which layers are active is a draw:
// gamma evenly spaced ones stand for it, each streamed with probability streamed / L.
typedef struct StepPlan {
    const ModelConfig *config;
    int activated;           // gamma
    bool training;           // false: forward and loss alone
    int64_t sequence_tokens; // length of a sequence
    int64_t tokens;          // of a micro-batch, all of them targets
    int64_t sweep;           // micro-batches per sweep
    int64_t batches;         // micro-batches of an optimizer batch; the last sweep may be smaller
    // How many layers keep everything, and all but the MLP's intermediates: the uppermost everything, those below them
    // the latter; the rest keep their input only.
    int keep_attention, keep_all;
    bool inputs_on_host;     // layer inputs go to pinned memory and come back for the backward pass; two on the device
    int streamed;            // decoder layers with streamed weights, evenly spaced: floor((i + 0.5) * L / streamed)
    bool streamed_from_file; // from the scratch file, through host memory
    // E's weights and state: rows of the batch go up, their gradient comes down, dense AdamW by the CPU: the rows that
    // the next batch needs first, the rest behind the next forward. Tied: all rows are needed.
    bool embedding_on_host;
    // AdamW state of H, of the active layers: the fp32 gradient goes down when complete, the CPU updates, 2 bytes a
    // weight come up (those of a streamed layer with its next load).
    bool head_on_host, layers_on_host;
    // Gradients of H and layers go down as soon as complete and, for state on the device, come back up for AdamW when
    // the norm is known.
    bool gradients_parked;
    bool fused_update; // no clipping: a block is updated as soon as its gradient is complete
    int moment_bytes;  // of one of AdamW's moments: 4, or 2; 0 counts as 4
} StepPlan;

typedef struct Estimate {
    double seconds;            // of a step in the run's midst
    double compute;            // seconds of it that the device computes
    double to_device, to_host; // seconds that each direction of the link is busy
    double disk;               // seconds that the disk reads or writes
    double host;               // seconds that the CPU updates
    double tokens_per_second;
    int64_t tokens_to_hide_link; // tokens per sweep from which on streaming costs nothing; 0 when nothing is streamed,
                                 // INT64_MAX when no number is enough
} Estimate;

// Sizes are at least 1, numbers of layers 0 to L, rates greater than 0. Allocates nothing; takes some 10 microseconds.
void estimate_step(const StepPlan *plan, const Rates *rates, Estimate *estimate);
