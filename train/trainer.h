// trainer.h - a model in training: weights, active set, passes, and one optimizer step.
#pragma once
#include "model/source.h"
#include "train/offload.h"
#include "train/passes.h"
#include "train/plan.h"
#include "train/reports.h"

typedef struct Trainer {
    Backend *backend;              // borrowed
    const ModelConfig *config;     // borrowed
    const TrainSettings *settings; // borrowed
    Plan plan;
    Arena device;
    Arena pinned;         // host memory that the device reaches
    Arena host;           // other host memory
    HostUpdates *updates; // NULL: all state is on the device
    BlockStore store;
    BatchRows rows; // not for evaluating alone with tied embeddings
    ActiveSet active;
    Offload offload;
    Passes passes;
    double learning_rate; // of the step that is being taken
    float **gradients;    // [blocks] of the active slots, NULL when frozen; refilled each step
    StepNumbers *numbers; // device memory
    double *squares;      // device memory: [blocks] sums of squares of the active gradients, 0 for frozen blocks
    ReportRing reports;
    double *evaluated; // pinned: the summed loss of an evaluation
    int64_t evaluated_targets;
    bool pinned_refused; // trainer_create failed because the pinned arena could not be had
} Trainer;

// Allocates everything that `plan` counted; a trainer with a plan that is evaluate_only can take no step. backend,
// config and settings must outlive the trainer. The weights are undefined until they are loaded into trainer->store.
// End with trainer_free, also after a failure.
bool trainer_create(Trainer *trainer, Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                    const Plan *plan, Error *error);
void trainer_free(Trainer *trainer);

// The same allocations, counted: what trainer_create would take with these sizes. Fills components and byte counts.
bool trainer_measure(Plan *plan, Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                     Error *error);

// Queues optimizer step `step`, counted from 0, on the micro-batches of one optimizer batch: draw if due, all sweeps,
// clipping, AdamW. The batches must hold at least one target; they are the caller's again on return. Fewer than
// STEPS_IN_FLIGHT reports may be owed. A device that works by itself is not waited for.
bool trainer_step(Trainer *trainer, int64_t step, double learning_rate, const MicroBatch *batches, int64_t count,
                  Error *error);
// How many queued steps trainer_report has not told of.
int64_t trainer_owed(const Trainer *trainer);
// Waits for the oldest step that is owed and tells of it. A step that was skipped has left the weights as they were,
// but steps queued behind it may have gone on from there. false when the device has failed.
bool trainer_report(Trainer *trainer, StepReport *report, Error *error);

// What steps have left to do on the host is done: slots and weights are those after the last step. Before they are
// looked at from outside.
void trainer_settle(Trainer *trainer);

// Forward passes alone, between two steps: begin, any number of micro-batches, then the summed loss and the number of
// targets of them all. Only the end waits.
void trainer_evaluate_begin(Trainer *trainer);
bool trainer_evaluate(Trainer *trainer, const MicroBatch *batches, int64_t count, Error *error);
bool trainer_evaluate_end(Trainer *trainer, double *loss, int64_t *targets, Error *error);
