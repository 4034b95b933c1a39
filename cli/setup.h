// setup.h - what every command that looks at a model opens first: the model's files, its tokenizer, its template.
#pragma once
#include "cli/options.h"
#include "data/training_data.h"
#include "model/source.h"
#include "tokenizer/template.h"
#include "tokenizer/tokenizer.h"
#include "train/plan.h"

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

// Starts the backend and plans a run on it. *backend is NULL when it did not start; the caller ends it, also after a
// failure.
bool setup_plan(const Options *options, const ModelConfig *config, bool evaluate_only, Backend **backend, Plan *plan,
                Error *error);

// Reads a model's weights into a store, with a progress line.
bool setup_load(ModelSource *source, BlockStore *store, Backend *backend, Error *error);

// Reads and tokenises data, with a progress line. End with training_data_free, also after a failure.
bool setup_load_data(const Setup *setup, const DataSettings *settings, uint64_t seed, ThreadPool *pool,
                     TrainingData *data, Error *error);
