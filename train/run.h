// run.h - a whole training run: steps, logging, evaluation, checkpoints, and stopping in an orderly way.
#pragma once
#include "data/batch.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/trainer.h"
#include <signal.h>

// What the run tells the person's side of the program; every function may be NULL.
typedef struct RunObserver {
    void *context;
    void (*on_step)(void *context, const StepMetrics *metrics, double seconds_left);
    void (*on_evaluation)(void *context, int64_t step, double loss, int64_t targets);
    void (*on_checkpoint)(void *context, int64_t step, const char *folder);
} RunObserver;

typedef struct TrainingRun {
    Trainer *trainer;              // with its weights loaded
    const TrainSettings *settings; // output_dir exists
    const Dataset *dataset;
    const Dataset *eval_dataset; // NULL: nothing is evaluated
    CheckpointFacts checkpoint;
    const volatile sig_atomic_t *stop; // not 0: finish the step, save, return
    RunObserver observer;
} TrainingRun;

typedef struct RunResult {
    int64_t steps;     // done in all
    int64_t saved;     // step of the newest checkpoint that is complete; -1: there is none
    bool stopped;      // by the stop flag, before the last step; saved, unless not one step was done
    double train_loss; // mean over the target tokens of the last logged step
    double eval_loss;  // of the last evaluation; NAN when there was none
    double seconds;    // of the training, evaluation and saving included
    int64_t tokens;    // real tokens trained on by this process
} RunResult;

// How many optimizer steps the settings ask for on this data.
int64_t run_steps(const TrainSettings *settings, const Dataset *dataset);

// Trains from optimizer step `first` (0, or what a checkpoint says) to the end, saving as the settings say and always
// at the end. A loss or norm that is not finite ends it with an error that names the step; the last checkpoint stays.
bool run_training(const TrainingRun *run, int64_t first, RunResult *result, Error *error);

// Mean loss over the target tokens of a data set.
bool run_evaluation(Trainer *trainer, const Dataset *dataset, double *loss, int64_t *targets, Error *error);
