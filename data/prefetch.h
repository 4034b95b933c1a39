// prefetch.h - one thread that cuts the next optimizer batch into micro-batches while the current one computes.
//
// All memory is made at creation. The batches of a step are a function of the data, the order and the sizes alone.
#pragma once
#include "data/batch.h"

typedef struct Prefetch Prefetch;

typedef struct PrefetchPlan {
    const Dataset *dataset; // borrowed
    int64_t batch_size;     // sequences of an optimizer batch
    int64_t tokens;         // capacity of a micro-batch; holds the longest sequence
    uint64_t seed;          // of the order
    bool shuffle;
    int64_t first_step; // where to start, counted from 0
    int64_t steps;      // of the whole run
} PrefetchPlan;

// NULL when memory or the thread cannot be had.
Prefetch *prefetch_create(const PrefetchPlan *plan, Error *error);
void prefetch_free(Prefetch *prefetch); // NULL is allowed

// The micro-batches of the next step, valid until the next call. *count is 0 after the last step.
void prefetch_next(Prefetch *prefetch, const MicroBatch **batches, int64_t *count);
