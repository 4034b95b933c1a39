// tiny_model.h - a random model, data and settings small enough to train in a test.
#pragma once
#include "data/batch.h"
#include "train/trainer.h"

// 5 layers, hidden 32, 4 heads on 2 key/value heads of 8, MLP 48, vocabulary 71.
ModelConfig tiny_config(void);

// The option table's defaults, with a learning rate that shows within a few steps.
TrainSettings tiny_settings(void);

// `sequences` random sequences of 3 to `longest` tokens, the first third of each not trained. Free with dataset_free.
Dataset tiny_dataset(int64_t sequences, int64_t longest, int64_t vocabulary, uint64_t seed);

// A trainer over random weights of the given seed; cutoff_len 64. Fails the test on any error.
Trainer *tiny_trainer(Backend *backend, const ModelConfig *config, const TrainSettings *settings, uint64_t seed);
// The same with these sizes of the passes instead of a plan's choice.
Trainer *tiny_trainer_with(Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                           const PassSizes *sizes, uint64_t seed);
// The same with all the choices of a plan, which is measured here.
Trainer *tiny_trainer_planned(Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                              const Plan *choices, uint64_t seed);
void tiny_trainer_free(Trainer *trainer);

// Steps first .. last - 1 on `batch` sequences each, cut as the trainer's plan says; the last step's report.
StepReport tiny_steps(Trainer *trainer, const Dataset *dataset, int64_t batch, int64_t first, int64_t last);

// A copy of a block's bf16 weights (caller's memory).
bf16 *tiny_weights(Trainer *trainer, int block);
// Fails the test unless all blocks of both trainers hold the same bits.
void tiny_assert_same_weights(Trainer *a, Trainer *b);
