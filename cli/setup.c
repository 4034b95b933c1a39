// setup.c - see setup.h.
#include "cli/setup.h"
#include "base/free_memory.h"
#include "base/numbers.h"
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

const char *setup_scratch_dir(const Options *options) {
    const char *temporary = getenv("TMPDIR");
    if (options->scratch_dir) return options->scratch_dir;
    return temporary && *temporary ? temporary : "/var/tmp";
}

// A card is measured. Of a CPU's plans none trades time for memory by its rates: no figures are needed.
static bool choose_rates(const Options *options, const ModelConfig *config, Backend *b, uint64_t vram, Rates *rates,
                         Error *error) {
    bool live = b->allocate != NULL;
    Error ignored;
    *rates = rates_assumed(vram);
    // without memory to measure with, the plan will say what is too small
    if (live && !b->unified && !rates_measure(rates, b, config, &ignored)) *rates = rates_assumed(vram);
    if (live && !b->check(b, error)) return false;
    if (options->link_speed > 0) rates->to_device = rates->to_host = 1e9 * options->link_speed;
    if (options->card_tflops > 0) rates->flops = 1e12 * options->card_tflops;
    return true;
}

bool setup_plan_request(const Options *options, const ModelConfig *config, bool evaluate_only, Backend *backend,
                        uint64_t vram, const Dataset *data, Rates *rates, PlanRequest *request, Error *error) {
    *request = (PlanRequest){.config = config,
                             .settings = &options->train,
                             .backend = backend,
                             .cutoff_len = options->data.cutoff_len,
                             .usual_len = data && data->sequences ? data->starts[data->count] / data->sequences : 0,
                             .memory_limit = vram,
                             .host_limit = options->ram,
                             .scratch_dir = setup_scratch_dir(options),
                             .rates = rates,
                             .evaluate_only = evaluate_only};
    return choose_rates(options, config, backend, vram, rates, error);
}

bool setup_plan_again(const Options *options, const ModelConfig *config, Backend *backend, const Dataset *data,
                      Plan *plan, Error *error) {
    Rates rates;
    PlanRequest request;
    return setup_plan_request(options, config, false, backend, options->vram.bytes[0], data, &rates, &request, error) &&
           plan_make(plan, &request, error);
}

bool setup_plan(const Options *options, const ModelConfig *config, bool evaluate_only, Backend **backend, Plan *plan,
                Error *error) {
    Rates rates;
    PlanRequest request;
    *backend = NULL;
    if (options->vram.count > 1) {
        error_usage(error, "vram: several sizes are for lisa plan");
        return error_hint(error, "give one");
    }
    *backend = backend_open(options->device, (int)options->threads, error);
    return *backend &&
           setup_plan_request(options, config, evaluate_only, *backend, options->vram.bytes[0], NULL, &rates, &request,
                              error) &&
           plan_make(plan, &request, error);
}

// How often less pinned memory is tried, each time three quarters of it.
#define PINNED_TRIES 6

const char *setup_pinned_advice(void) {
    return running_under_wsl() ? ". Windows lends WSL2 at most half of its memory: raise `memory=` in .wslconfig, then "
                                 "`wsl --shutdown`"
                               : "";
}

static void tell_of_pinned(const Plan *refused, const Plan *plan) {
    char asked[16], taken[16], read[16], where[192] = "";
    if (plan->store.in_file)
        snprintf(where, sizeof where,
                 "; %d layers are streamed from a scratch file in %s, %s of it read in every sweep",
                 plan->store.streamed, plan->store.scratch_dir, format_bytes(read, 2 * plan->disk_bytes));
    log_warning("%s of pinned memory cannot be had, the run goes on with %s%s; about %.0f tokens/s instead of %.0f%s",
                format_bytes(asked, refused->pinned_bytes), format_bytes(taken, plan->pinned_bytes), where,
                plan->estimate.tokens_per_second, refused->estimate.tokens_per_second, setup_pinned_advice());
}

bool setup_trainer(const Options *options, const ModelConfig *config, Backend *backend, const Dataset *data, Plan *plan,
                   Trainer *trainer, Error *error) {
    Rates rates;
    PlanRequest request;
    Plan first = *plan;
    Error refused;
    if (trainer_create(trainer, backend, config, &options->train, plan, error)) return true;
    refused = *error;
    for (int i = 0; i < PINNED_TRIES && trainer->pinned_refused; i++) {
        trainer_free(trainer);
        if (!setup_plan_request(options, config, first.evaluate_only, backend, options->vram.bytes[0], data, &rates,
                                &request, error))
            return false;
        request.pinned_limit = plan->pinned_bytes - plan->pinned_bytes / 4;
        if (!plan_make(plan, &request, error)) break; // what was refused says more
        if (!trainer_create(trainer, backend, config, &options->train, plan, error)) continue;
        tell_of_pinned(&first, plan);
        return true;
    }
    *error = refused;
    return false;
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
