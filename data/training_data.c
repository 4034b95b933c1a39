// training_data.c - see training_data.h.
#include "data/training_data.h"
#include "data/examples.h"
#include "data/sequences.h"
#include <stdlib.h>
#include <string.h>

// What both data sets are read with.
typedef struct Reading {
    const DataSettings *settings;
    const Tokenizer *tokenizer;
    ThreadPool *pool;
    LoadProgress *progress;
    void *progress_context;
    DataSources sources, eval_sources; // the latter is empty without eval_dataset
} Reading;

static bool have_messages(const DataSources *sources) {
    return data_sources_have(sources, FORMAT_SHAREGPT) || data_sources_have(sources, FORMAT_OPENAI);
}

// The template is needed, and asked for, only where there are conversations.
static bool choose_template(TrainingData *data, const Reading *reading, Error *error) {
    const DataSources *sources = &reading->sources, *eval = &reading->eval_sources;
    const char *system = reading->settings->default_system;
    if (!data_sources_have_chats(sources) && !data_sources_have_chats(eval)) return true;
    bool alpaca = !have_messages(sources) && !have_messages(eval); // all conversations are
    if (!template_choose(reading->tokenizer, reading->settings->template_name, alpaca, &data->chat, &data->system,
                         error))
        return false;
    if (!system) return true;
    free(data->system);
    data->system = strdup(system);
    return data->system || error_memory(error, "default_system", strlen(system));
}

static bool load(const TrainingData *data, const Reading *reading, const DataSources *sources, Dataset *dataset,
                 RecordCounts *counts, Error *error) {
    const DataSettings *settings = reading->settings;
    const Tokenizer *tokenizer = reading->tokenizer;
    ExampleMaker maker = {.tokenizer = tokenizer,
                          .chat = data->chat,
                          .system = data->system,
                          .cutoff_len = settings->cutoff_len,
                          .train_on_prompt = settings->train_on_prompt,
                          .mask_history = settings->mask_history};
    RecordEncoder encoder = {.context = &maker,
                             .encode = example_encode,
                             .encode_text = example_encode_text,
                             .text_bos = tokenizer_adds_bos(tokenizer) ? tokenizer_bos(tokenizer) : -1,
                             .text_eos = tokenizer_eos(tokenizer)};
    LoadRequest request = {.sources = sources,
                           .settings = settings,
                           .share_blocks = data->packing,
                           .encoder = &encoder,
                           .pool = reading->pool,
                           .progress = reading->progress,
                           .progress_context = reading->progress_context};
    return dataset_load(&request, dataset, counts, error);
}

static bool load_both(TrainingData *data, const Reading *reading, uint64_t seed, Error *error) {
    const DataSettings *settings = reading->settings;
    Dataset all;
    if (!load(data, reading, &reading->sources, &all, &data->counts, error)) return false;
    if (settings->val_size > 0) {
        bool ok = dataset_split(&all, settings->val_size, seed, &data->train, &data->eval, error);
        dataset_free(&all);
        if (!ok) return false;
    } else {
        data->train = all;
    }
    if (reading->eval_sources.count &&
        !load(data, reading, &reading->eval_sources, &data->eval, &data->eval_counts, error))
        return error_context(error, "eval_dataset");
    // blocks of text are full already: their order is left alone
    bool shuffle = !settings->disable_shuffling && !data_sources_are_texts(&reading->sources);
    return !data->packing || dataset_pack(&data->train, settings->cutoff_len, shuffle, seed, error);
}

bool training_data_load(TrainingData *data, const DataSettings *settings, uint64_t seed, const Tokenizer *tokenizer,
                        ThreadPool *pool, LoadProgress *progress, void *progress_context, Error *error) {
    *data = (TrainingData){0};
    Reading reading = {settings, tokenizer, pool, progress, progress_context, {0}, {0}};
    if (settings->eval_dataset && settings->val_size > 0) {
        error_usage(error, "val_size and eval_dataset are both given");
        return error_hint(error, "choose one: val_size holds out a part of dataset");
    }
    if (!settings->dataset) return error_usage(error, "no data set is named"), error_hint(error, "dataset=FILE");
    bool ok =
        data_sources_open(&reading.sources, settings->dataset, settings, error) &&
        (!settings->eval_dataset || data_sources_open(&reading.eval_sources, settings->eval_dataset, settings, error));
    if (ok) {
        data->packing = settings->packing == PACKING_ON ||
                        (settings->packing == PACKING_AUTO && data_sources_are_texts(&reading.sources));
        ok = choose_template(data, &reading, error) && load_both(data, &reading, seed, error);
    }
    data_sources_free(&reading.sources);
    data_sources_free(&reading.eval_sources);
    if (!ok) training_data_free(data);
    return ok;
}

void training_data_free(TrainingData *data) {
    dataset_free(&data->train);
    dataset_free(&data->eval);
    free(data->system);
    *data = (TrainingData){0};
}
