// order.h - which sequences form which optimizer batch: a pure function of the seed and the epoch.
//
// Every sequence is used once in an epoch and nothing is dropped: an epoch's last optimizer batch takes what is left,
// as the Hugging Face Trainer's does.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// Writes the order of one epoch (from 0) to order: [sequences] indices; as they come when shuffle is false.
void epoch_order(int64_t *order, int64_t sequences, uint64_t seed, int64_t epoch, bool shuffle);

// Optimizer steps of one epoch, when each takes batch_size sequences; both > 0.
int64_t steps_per_epoch(int64_t sequences, int64_t batch_size);

// The part of its epoch's order that an optimizer step (from 0, over all epochs) takes.
typedef struct StepPlace {
    int64_t epoch;
    int64_t first; // its sequences are order[first] .. order[first + count - 1]
    int64_t count; // batch_size, or what is left at the epoch's end
} StepPlace;

StepPlace step_place(int64_t step, int64_t sequences, int64_t batch_size);
