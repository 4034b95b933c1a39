// schedule.h - the learning rate of each optimizer step, as transformers' get_scheduler gives it.
#pragma once
#include "train/settings.h"
#include <stdint.h>

// Steps of linear warm-up: warmup_steps, or ceil(warmup_ratio * steps), as the Trainer computes it.
int64_t schedule_warmup_steps(const TrainSettings *settings, int64_t steps);

// The learning rate of optimizer step `step`, counted from 0, in a run of `steps`.
double schedule_learning_rate(const TrainSettings *settings, int64_t step, int64_t steps);
