// setup.c - see setup.h.
#include "cli/setup.h"
#include "kernels/backends.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool setup_open(Setup *setup, const Options *options, Error *error) {
    *setup = (Setup){0};
    setup->source = model_source_open(options->model_name_or_path, false, error);
    if (!setup->source) return false;
    setup->config = model_source_config(setup->source);
    setup->tokenizer = tokenizer_open(model_source_path(setup->source), setup->config->vocabulary, error);
    return setup->tokenizer != NULL;
}

void setup_close(Setup *setup) {
    free(setup->system);
    tokenizer_close(setup->tokenizer);
    model_source_close(setup->source);
    *setup = (Setup){0};
}

bool setup_choose_template(Setup *setup, const Options *options, Error *error) {
    const DataSettings *data = &options->data;
    if (!template_choose(setup->tokenizer, data->template_name, false, &setup->chat, &setup->system, error))
        return error_context(error, "%s", model_source_path(setup->source));
    if (!data->default_system) return true;
    free(setup->system);
    setup->system = strdup(data->default_system);
    return setup->system || error_memory(error, "the system text", strlen(data->default_system) + 1);
}

bool setup_plan(const Options *options, const ModelConfig *config, bool evaluate_only, Backend **backend, Plan *plan,
                Error *error) {
    *backend = backend_open(options->device, (int)options->threads, error);
    if (!*backend) return false;
    PlanRequest request = {.config = config,
                           .settings = &options->train,
                           .backend = *backend,
                           .cutoff_len = options->data.cutoff_len,
                           .memory_limit = options->memory_limit,
                           .evaluate_only = evaluate_only};
    return plan_make(plan, &request, error);
}

static void show_loading(void *context, int done, int total) {
    (void)context;
    char line[64];
    snprintf(line, sizeof line, "loading: block %d of %d", done, total);
    log_progress(done < total ? line : NULL);
}

bool setup_load(ModelSource *source, BlockStore *store, Backend *backend, Error *error) {
    bool good = model_source_load(source, store, backend->threads, show_loading, NULL, error);
    log_progress(NULL);
    return good;
}

static void show_reading(void *context, const RecordCounts *counts) {
    (void)context;
    char line[96];
    snprintf(line, sizeof line, "reading: %lld records, %lld tokens", (long long)counts->records,
             (long long)counts->tokens);
    log_progress(line);
}

bool setup_load_data(const Setup *setup, const DataSettings *settings, uint64_t seed, ThreadPool *pool,
                     TrainingData *data, Error *error) {
    bool good = training_data_load(data, settings, seed, setup->tokenizer, pool, show_reading, NULL, error);
    log_progress(NULL);
    return good;
}
