// training_data.h - all data of a run: files, template, tokens, the held-out part and packing.
#pragma once
#include "data/dataset.h"

typedef struct TrainingData {
    Dataset train;            // in sequences
    Dataset eval;             // held out, or from eval_dataset; count 0: none
    const ChatTemplate *chat; // the template of the conversations; NULL when the data has none
    char *system;             // what template_encode and template_jinja take: the system text where records bring none
    bool packing;             // examples share sequences
    RecordCounts counts;      // of `dataset`
    RecordCounts eval_counts; // of eval_dataset
} TrainingData;

// Loads settings->dataset, and eval_dataset or the val_size split. progress may be NULL.
// Errors: those of sources.h, dataset.h and template_choose; val_size together with eval_dataset.
bool training_data_load(TrainingData *data, const DataSettings *settings, uint64_t seed, const Tokenizer *tokenizer,
                        ThreadPool *pool, LoadProgress *progress, void *progress_context, Error *error);
void training_data_free(TrainingData *data);
