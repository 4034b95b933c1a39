// plan_show.h - what `lisa plan` prints: one plan in full, several side by side, or all of them as JSON.
#pragma once
#include "train/plan.h"

// The plan for one machine.
typedef struct ShownPlan {
    uint64_t vram; // bytes that were asked for; 0: what is free
    bool fits;     // else error says why not
    Error error;
    Rates rates;
    PlanRequest request;
    Plan plan;
} ShownPlan;

void plan_show(const ShownPlan *shown);
void plan_show_side_by_side(const ShownPlan *shown, int count);
bool plan_show_json(const ShownPlan *shown, int count, Error *error);
