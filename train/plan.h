// plan.h - every size and placement of a run, fixed before its first step.
//
// The plan is made by running the allocating code on arenas that only count, so what `lisa plan` prints is what the run
// takes, to the byte.
#pragma once
#include "model/config.h"
#include "train/passes.h"
#include "train/settings.h"

typedef struct PlanRequest {
    const ModelConfig *config;
    const TrainSettings *settings;
    Backend *backend;
    int64_t cutoff_len;    // tokens of the longest sequence
    uint64_t memory_limit; // bytes that the run may take (with a card: of the card's memory); 0: most of what is free
    bool evaluate_only;    // no slots, and nothing is kept for a backward pass
} PlanRequest;

#define PLAN_COMPONENTS_MAX 12

typedef struct PlanComponent {
    const char *name; // constant text
    uint64_t device_bytes;
    uint64_t host_bytes;
} PlanComponent;

typedef struct Plan {
    PassSizes sizes;
    bool evaluate_only;
    bool fused_update; // a block is updated as soon as its gradient is complete: no clipping, one sweep holds any step
    PlanComponent components[PLAN_COMPONENTS_MAX];
    int component_count;
    uint64_t device_bytes;    // of the device arena
    uint64_t host_bytes;      // of the host arena
    uint64_t workspace_bytes; // of the backend itself, beside the arenas
    uint64_t limit;           // bytes that device arenas can have; with unified memory all arenas together
    uint64_t host_limit;      // bytes that host arenas can have beside a card
} Plan;

// Chooses the sizes: a micro-batch holds the longest sequence, or as many as make 2048 tokens; gradient_checkpointing
// auto keeps as much as fits. An error names what is needed, what there is, and changes that would fit.
bool plan_make(Plan *plan, const PlanRequest *request, Error *error);
