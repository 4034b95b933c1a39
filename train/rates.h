// rates.h - how fast a machine does each of the things that a training step is made of.
#pragma once
#include "model/config.h"

typedef struct Rates {
    const char *name; // of the card, or "measured"; constant text
    double flops;     // FLOP/s that large bf16 matrix products reach in a step
    double memory;    // bytes/s of device memory, read and written counted each
    double to_device; // bytes/s over the link to the device; both ways at once are as fast as one
    double to_host;   // bytes/s over the link from the device
    double disk;      // bytes/s read from the scratch file
    double host;      // bytes/s of host memory that the CPU's AdamW reaches, read and written counted each
} Rates;

// A typical card with this much memory, for planning without one: laptops up to 16 GB, desktop cards of 24 and 32 GB,
// beyond that the H200. Nominal figures, with 0.8 of the FLOP/s and 0.85 of the memory's rate reached.
Rates rates_assumed(uint64_t vram_bytes);

// Measures a live backend in well under two seconds: FLOP/s by the model's gate and up projection (as much of it as is
// quick), memory by a copy within the device, the link by copies of pinned memory (with unified memory it is as fast as
// memory), the host by AdamW on a CPU backend of as many threads. disk is an assumption. What it allocates is freed.
// false with a message when there is no memory for it, or on a fault.
bool rates_measure(Rates *rates, Backend *backend, const ModelConfig *config, Error *error);
