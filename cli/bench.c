// bench.c - `lisa bench`: the time and memory of one training step, against what the processor's own library reaches on
// the step's shapes and against the plan. docs/measuring.md says what each figure means.
#include "cli/bench.h"
#include "cli/command.h"
#include <stdlib.h>

// SmolLM2-135M, for those who have no model at hand.
static ModelConfig default_config(void) {
    return (ModelConfig){.family = FAMILY_LLAMA,
                         .layers = 30,
                         .heads = 9,
                         .kv_heads = 3,
                         .head_dim = 64,
                         .hidden = 576,
                         .intermediate = 1536,
                         .vocabulary = 49152,
                         .max_positions = 8192,
                         .norm_epsilon = 1e-5f,
                         .tied = true,
                         .rope_theta = 100000,
                         .bos = 1,
                         .pad = -1,
                         .eos = {2},
                         .eos_count = 1};
}

static bool needs_model(const char *given, const char *hint, Error *error) {
    error_usage(error, "%s is given without a model", given);
    return error_hint(error, "add -m MODEL, %s", hint);
}

static bool open_bench(Bench *bench, Error *error) {
    const Options *options = &bench->options;
    if (!options->model_name_or_path) {
        if (options->data.dataset) return needs_model("dataset", "whose tokenizer and template the data needs", error);
        if (!options->random_weights) return needs_model("random_weights=false", "whose weights are loaded", error);
        bench->config = default_config();
    } else if (options->data.dataset) {
        if (!setup_open(&bench->setup, options, error)) return false;
        bench->config = *model_source_config(bench->setup.source);
    } else {
        bench->source = model_source_open(options->model_name_or_path, options->random_weights, error);
        if (!bench->source) return false;
        bench->config = *model_source_config(bench->source);
    }
    return setup_plan(options, &bench->config, false, &bench->backend, &bench->plan, error);
}

static void close_bench(Bench *bench) {
    for (int64_t m = 0; m < bench->count; m++) micro_batch_free(&bench->batches[m]);
    free(bench->batches);
    phase_clock_free(&bench->clock);
    trainer_free(&bench->trainer);
    training_data_free(&bench->data);
    dataset_free(&bench->made);
    if (bench->backend) bench->backend->destroy(bench->backend);
    model_source_close(bench->source);
    setup_close(&bench->setup);
}

int command_bench(const Options *options, Error *error) {
    Bench bench = {.options = *options};
    bench.options.data.packing = PACKING_OFF; // examples lie end to end in the micro-batch as they are
    bench.options.train.gradient_accumulation_steps = 1;
    bool good = open_bench(&bench, error) && bench_fill(&bench, error) && bench_steps(&bench, error);
    trainer_free(&bench.trainer); // its memory is wanted for what comes
    good = good && bench_rates(&bench, error) && bench_report(&bench, error);
    close_bench(&bench);
    return good ? 0 : ERROR_EXIT_FAILED;
}
