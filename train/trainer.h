// trainer.h - a model in training: weights, active set, passes, and one optimizer step.
#pragma once
#include "model/source.h"
#include "train/active.h"
#include "train/passes.h"
#include "train/plan.h"

typedef struct Trainer {
    Backend *backend;              // borrowed
    const ModelConfig *config;     // borrowed
    const TrainSettings *settings; // borrowed
    Plan plan;
    Arena device;
    Arena host;
    BlockStore store;
    ActiveSet active;
    Passes passes;
    double learning_rate; // of the step that is being taken
    float **gradients;    // [blocks] of the active slots, NULL when frozen; refilled each step
    // device memory, one element each
    double *squares;   // sum of squares of the active gradients
    float *norm;       // their norm
    float *clip_scale; // what gradients are multiplied by
    int32_t *skip;     // 1: loss or norm was not finite, nothing was updated
} Trainer;

// What one optimizer step did.
typedef struct StepReport {
    double loss;      // mean over the target tokens of the optimizer batch
    double grad_norm; // over the active gradients, before clipping
    bool skipped;     // loss or norm was not finite: no weight and no moment has changed (with a fused update: of the
                      // blocks whose gradient was not complete yet)
    int64_t tokens;   // real tokens
    int64_t targets;
} StepReport;

// Allocates everything that `plan` counted; a trainer with a plan that is evaluate_only can take no step. backend,
// config and settings must outlive the trainer. The weights are undefined until they are loaded into trainer->store.
// End with trainer_free, also after a failure.
bool trainer_create(Trainer *trainer, Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                    const Plan *plan, Error *error);
void trainer_free(Trainer *trainer);

// The same allocations, counted: what trainer_create would take with these sizes. Fills components and byte counts.
bool trainer_measure(Plan *plan, Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                     Error *error);

// Optimizer step `step`, counted from 0, on the micro-batches of one optimizer batch: draw if due, all sweeps,
// clipping, AdamW. The batches must hold at least one target. Returns when the numbers of the report are known.
bool trainer_step(Trainer *trainer, int64_t step, double learning_rate, const MicroBatch *batches, int64_t count,
                  StepReport *report, Error *error);

// Adds the summed loss and the number of targets of micro-batches, without training.
bool trainer_evaluate(Trainer *trainer, const MicroBatch *batches, int64_t count, double *loss, int64_t *targets,
                      Error *error);
