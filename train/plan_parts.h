// plan_parts.h - what the files of the planner share.
#pragma once
#include "train/plan.h"

// What a request's plans have in common.
typedef struct PlanFrame {
    const PlanRequest *request;
    Rates rates;
    Plan common; // limits, fixed_bytes, evaluate_only
} PlanFrame;

// What a search found.
typedef struct PlanSearch {
    bool found;
    Plan best;             // when found
    uint64_t least_device; // limited bytes of the plan that takes least of them, host memory and disk permitting
    uint64_t least_host;   // pinned and host bytes of the one that takes least of them, the device permitting
    uint64_t least_disk;   // of those that lacked nothing but disk
    int64_t plans;         // looked at
} PlanSearch;

// ---- plan.c

// Limits and rates of a request. Fails when a limit is more than there is.
bool plan_frame(PlanFrame *frame, const PlanRequest *request, Error *error);
bool plan_fits(const Plan *plan, const Backend *backend);
// Tokens of an optimizer batch, were each sequence as long as the longest; INT64_MAX when that overflows.
int64_t plan_largest_batch(const PlanRequest *request);
// Measures and estimates a plan whose choices have been made.
bool plan_complete(Plan *plan, const PlanFrame *frame, Error *error);

// ---- plan_search.c

// Looks at all plans of the request. any: the first that fits is enough. false on an error other than that none fits.
bool plan_search(PlanSearch *search, const PlanFrame *frame, bool any, Error *error);

// ---- plan_advice.c

// No plan fits: says what is too small, and the changes of which each alone would do.
bool plan_refuse(const PlanFrame *frame, const PlanSearch *search, Error *error);
