// metrics.h - metrics.jsonl: one JSON object per line for each logged step and each evaluation.
//
// Names are the Hugging Face Trainer's (step, epoch, loss, grad_norm, learning_rate, eval_loss) and ours
// (tokens_per_second, active_layers, eval_tokens). A loss that is not finite is written as null, never left out.
#pragma once
#include "base/error.h"
#include <stdint.h>

typedef struct Metrics Metrics;

// Opens folder/metrics.jsonl to append. Lines of steps after `step` (from a run that went on past the checkpoint that
// is resumed) are removed first; with step 0 the file starts empty. Close with metrics_close.
Metrics *metrics_open(const char *folder, int64_t step, Error *error);
void metrics_close(Metrics *metrics); // NULL is allowed

typedef struct StepMetrics {
    int64_t step; // steps done, from 1
    double epoch;
    double loss; // mean since the last line
    double grad_norm;
    double learning_rate;
    double tokens_per_second;
    const int *active_layers; // [active_count]
    int active_count;
} StepMetrics;

// Each line is written and flushed at once.
bool metrics_step(Metrics *metrics, const StepMetrics *row, Error *error);
bool metrics_evaluation(Metrics *metrics, int64_t step, double epoch, double loss, int64_t targets, Error *error);
