// reports.h - what optimizer steps did, told to the host when the device has come to it.
//
// A step's numbers are copied into a small ring of pinned memory behind the step; nobody waits for them before the next
// step is queued.
#pragma once
#include "kernels/arena.h"

#define STEPS_IN_FLIGHT 2 // steps at most that are queued and not reported yet

// What one optimizer step did.
typedef struct StepReport {
    int64_t step; // counted from 0
    double learning_rate;
    double loss;      // mean over the target tokens of the optimizer batch
    double grad_norm; // over the active gradients, before clipping
    bool skipped;     // loss or norm was not finite: no weight and no moment has changed (with a fused update: of the
                      // blocks whose gradient was not complete yet)
    int64_t tokens;   // real tokens
    int64_t targets;
} StepReport;

// What the device makes of a step's gradients; in device memory.
typedef struct StepNumbers {
    float norm;       // their norm
    float clip_scale; // what gradients are multiplied by
    int32_t skip;     // 1: loss or norm was not finite, nothing was updated
} StepNumbers;

// What is copied to the host.
typedef struct ToldNumbers {
    double loss; // summed over target tokens
    StepNumbers numbers;
} ToldNumbers;

typedef struct ReportRing {
    Backend *backend;                  // borrowed
    ToldNumbers *told;                 // [STEPS_IN_FLIGHT] pinned
    StepReport known[STEPS_IN_FLIGHT]; // what the host knows by itself
    Event *arrived[STEPS_IN_FLIGHT];   // in the compute stream: told has the step's numbers
    int64_t queued;                    // steps so far; step n of them is at n % STEPS_IN_FLIGHT
    int64_t reported;
} ReportRing;

void reports_take(ReportRing *ring, Backend *backend, Arena *pinned); // the arena's overflow flag tells of failure
// Makes the events; once, on real memory. End with reports_free, also after a failure.
bool reports_open(ReportRing *ring, Error *error);
void reports_free(ReportRing *ring); // also of a zeroed ring

// Reports that are owed.
int64_t reports_owed(const ReportRing *ring);
// Behind a step's work: queues the copies of its numbers. known: the report but for loss, grad_norm and skipped. Fewer
// than STEPS_IN_FLIGHT reports may be owed.
void reports_queue(ReportRing *ring, const StepReport *known, const double *loss, const StepNumbers *numbers);
// The oldest report that is owed, of which there must be one; waits for it. false when the device has failed.
bool reports_next(ReportRing *ring, StepReport *report, Error *error);
