// forecast.h - what a training run will be, said before its first step.
#pragma once
#include "data/batch.h"
#include "train/trainer.h"

typedef struct Forecast {
    int64_t examples;
    int64_t tokens;  // of one pass over the data
    int64_t targets; // of them learned
    int64_t steps;   // of the whole run
    int64_t draws;   // of layers; 1 for full fine-tuning
    int layers;
    int layers_trained;   // that at least one draw picks
    double seconds;       // a guess: necessary FLOPs at a rate just measured
    uint64_t disk_needed; // for all checkpoints that will exist at once
    uint64_t disk_free;
} Forecast;

// steps: what run_steps says; first: steps already done by the run that is resumed; checkpoint_bytes: of one
// checkpoint. Takes a moment to measure the rate.
bool forecast_make(Forecast *forecast, const Trainer *trainer, const Dataset *dataset, int64_t first, int64_t steps,
                   uint64_t checkpoint_bytes, Error *error);
// Says it on stderr, with a warning where few draws leave most layers untrained. Fails when the disk is too small.
bool forecast_tell(const Forecast *forecast, const TrainSettings *settings, Error *error);
