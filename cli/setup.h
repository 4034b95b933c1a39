// setup.h - what every command that looks at a model opens first: the model's files, its tokenizer, its template.
#pragma once
#include "cli/options.h"
#include "data/training_data.h"
#include "model/source.h"
#include "tokenizer/template.h"
#include "tokenizer/tokenizer.h"
#include "train/plan.h"
#include "train/trainer.h"

typedef struct Setup {
    ModelSource *source;
    const ModelConfig *config; // the source's
    Tokenizer *tokenizer;
    const ChatTemplate *chat; // NULL until it is chosen
    char *system;             // what template_encode takes where a conversation has no system text
} Setup;

// Opens the model's files and its tokenizer. End with setup_close, also after a failure.
bool setup_open(Setup *setup, const Options *options, Error *error);
void setup_close(Setup *setup);

// Chooses template and system text for a conversation: those of the options, else the model's.
bool setup_choose_template(Setup *setup, const Options *options, Error *error);

// The folder for scratch files: the option's, else TMPDIR, else /var/tmp, which lies on a disk.
const char *setup_scratch_dir(const Options *options);

// What the options ask the planner for, on a backend that may only describe a card. data: to be trained on, whose
// lengths count for the time; NULL: not known yet. rates: measured or assumed where the options say nothing; filled in,
// and used by the request.
bool setup_plan_request(const Options *options, const ModelConfig *config, bool evaluate_only, Backend *backend,
                        uint64_t vram, const Dataset *data, Rates *rates, PlanRequest *request, Error *error);

// Starts the backend and plans a run on it. *backend is NULL when it did not start; the caller ends it, also after a
// failure. setup_plan_again: the same on a backend that has been started, knowing the data.
bool setup_plan_again(const Options *options, const ModelConfig *config, Backend *backend, const Dataset *data,
                      Plan *plan, Error *error);
bool setup_plan(const Options *options, const ModelConfig *config, bool evaluate_only, Backend **backend, Plan *plan,
                Error *error);

// The trainer of a plan. Where so much pinned memory cannot be had, another plan that needs less takes its place, which
// streams weights from a scratch file; a warning says what that costs. data: as in setup_plan_request. The caller ends
// the trainer, also after a failure.
bool setup_trainer(const Options *options, const ModelConfig *config, Backend *backend, const Dataset *data, Plan *plan,
                   Trainer *trainer, Error *error);

// What helps where pinned memory cannot be had, to end a message with; "" where nothing is known.
const char *setup_pinned_advice(void);

// Reads a model's weights into a store, with a progress line.
bool setup_load(ModelSource *source, BlockStore *store, Backend *backend, Error *error);

// Reads and tokenises data, with a progress line. End with training_data_free, also after a failure.
bool setup_load_data(const Setup *setup, const DataSettings *settings, uint64_t seed, ThreadPool *pool,
                     TrainingData *data, Error *error);
