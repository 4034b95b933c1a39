// plan.h - every size and placement of a run, fixed before its first step.
//
// All plans that are legal are looked at: which layers' weights stay on the device and which are streamed, where the
// state of E, H and the active layers, the layers' inputs and complete gradients lie, how many micro-batches go through
// a block together, what each layer keeps. Their memory is measured by running the allocating code on arenas that only
// count, so what `lisa plan` prints is what the run takes, to the byte; their time is estimated (train/estimate.h). The
// fastest one that fits is taken; of equally fast ones the plainest. Precision is never lowered.
#pragma once
#include "model/config.h"
#include "model/uses.h"
#include "train/active.h"
#include "train/estimate.h"
#include "train/passes.h"
#include "train/settings.h"

typedef struct PlanRequest {
    const ModelConfig *config;
    const TrainSettings *settings; // what is given there is kept to
    Backend *backend;              // or one that only describes a card
    int64_t cutoff_len;            // tokens of the longest sequence, which memory is planned for
    int64_t usual_len;             // of a usual one, which time is estimated for; 0: cutoff_len
    uint64_t memory_limit;         // bytes that the run may take (with a card: of the card's memory); 0: what is free
    uint64_t host_limit;           // with a card: bytes of host memory that it may take; 0: what is free
    uint64_t pinned_limit;         // with a card: bytes of it that can be pinned, when less than that; 0: not known
    const char *scratch_dir;       // folder for a scratch file; NULL: none may be made
    const Rates *rates;            // NULL: those of a typical card with so much memory
    bool evaluate_only;            // no slots, and nothing is kept for a backward pass
} PlanRequest;

// Bytes that a purpose takes of each memory.
typedef struct PlanUse {
    uint64_t device_bytes;
    uint64_t pinned_bytes; // host memory that the device reaches
    uint64_t host_bytes;   // other host memory
} PlanUse;

typedef struct Plan {
    PassSizes sizes;
    StorePlaces store; // scratch_dir is borrowed
    StatePlaces state;
    bool evaluate_only;
    bool fused_update; // a gradient is applied as soon as it is complete: shared_gradient, no clipping
    int64_t batches;   // micro-batches of an optimizer batch, were each sequence as long as the longest
    PlanUse uses[USE_COUNT];
    uint64_t device_bytes; // of the device arena
    uint64_t pinned_bytes; // of the pinned arena
    uint64_t host_bytes;   // of the host arena
    uint64_t disk_bytes;   // of the scratch file
    uint64_t fixed_bytes;  // of a card beside the arena: the backend's work space, the driver's context, code
    uint64_t limit;        // bytes that device arena and fixed_bytes can take; with unified memory all arenas together
    uint64_t host_limit;   // bytes that pinned and host arenas can take beside a card
    uint64_t pinned_limit; // of them in pinned memory
    uint64_t disk_limit;   // bytes that the scratch file can take
    Estimate estimate;     // of an optimizer step
} Plan;

// Bytes that the plan takes of the memory that `limit` is about.
uint64_t plan_limited_bytes(const Plan *plan, const Backend *backend);

// Bytes of host memory that the plan leaves free of what it may take.
uint64_t plan_spare_bytes(const Plan *plan, const Backend *backend);

// Chooses. An error names what is needed, what there is, and changes that would fit.
bool plan_make(Plan *plan, const PlanRequest *request, Error *error);

// One choice made otherwise, all others as the plan has them.
typedef struct PlanNeighbour {
    char change[64]; // as options: "layers_resident=20"
    bool fits;
    Plan plan;
} PlanNeighbour;

#define PLAN_NEIGHBOURS_MAX 16
// The plans beside a chosen one; returns how many. Those that cannot be are left out.
int plan_neighbours(const Plan *plan, const PlanRequest *request, PlanNeighbour neighbours[PLAN_NEIGHBOURS_MAX]);

#define PLAN_CHECKPOINTING_SIZE 64
// What layers keep, in the words of the option gradient_checkpointing: "true", "mlp", "false", or, where layers differ,
// "false for 10 layers, mlp for 8, true for 14". Returns text.
const char *plan_checkpointing(const Plan *plan, int layers, char text[PLAN_CHECKPOINTING_SIZE]);
