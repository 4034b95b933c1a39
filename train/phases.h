// phases.h - where the time of an optimizer step goes: events on the compute stream between its phases.
//
// The passes and the trainer call phase_start where the kind of their work changes. That records an event and waits for
// nothing, so a measured step is the step; without a clock it does nothing at all. The times are read after the last
// step. A phase's time goes from its event to the next one, so the phases of a step add up to the step.
#pragma once
#include "kernels/kernels.h"

typedef enum {
    PHASE_OTHER,    // between two steps
    PHASE_UPLOAD,   // waiting for the indices of the micro-batches
    PHASE_FORWARD,  // embedding and layers
    PHASE_HEAD,     // head, loss, and their gradients
    PHASE_BACKWARD, // layers and embedding, what is computed again included
    PHASE_UPDATE,   // zeroing gradients, their norm, AdamW, and what a draw changes
    PHASE_COUNT
} Phase;

typedef struct PhaseMark {
    Event *event; // kept for the next use of the clock
    Phase phase;  // that begins here
    bool step;    // a step begins here
} PhaseMark;

typedef struct PhaseClock {
    Backend *backend; // borrowed
    PhaseMark *marks; // [room]
    int64_t count;    // marks so far
    int64_t room;
    int64_t steps; // that have begun
    bool failed;   // an event or memory could not be had; error says which
    Error error;
} PhaseClock;

// End with phase_clock_free.
void phase_clock_create(PhaseClock *clock, Backend *backend);
void phase_clock_free(PhaseClock *clock); // also of a zeroed clock
// Forgets all steps; the events are used again.
void phase_clock_clear(PhaseClock *clock);

// A step begins, in PHASE_OTHER, and the one before ends. After the last step it is called once more.
void phase_step(PhaseClock *clock);
// Work queued from here on belongs to `phase`. clock NULL: nothing happens.
void phase_start(PhaseClock *clock, Phase phase);

// Seconds by phase of step `step`, counted from 0; the one that the last phase_step began is none. Waits for its last
// event. false when marks are missing or the device has failed.
bool phase_clock_read(const PhaseClock *clock, int64_t step, double seconds[PHASE_COUNT], Error *error);
