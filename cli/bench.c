// bench.c - `lisa bench`: the time and memory of one training step, against what the processor's own matrix
// multiplication reaches on the step's shapes and against the plan.
#include "base/clock.h"
#include "base/random.h"
#include "cli/command.h"
#include "cli/report.h"
#include "cli/setup.h"
#include "data/dataset_builder.h"
#include "train/flops.h"
#include "train/trainer.h"
#include <stdio.h>
#include <stdlib.h>

#define STEPS_TIMED  5 // of which the median counts; one more goes before them
#define GEMM_REPEATS 5

// All that a measurement holds.
typedef struct Bench {
    Options options; // a shallow copy, with what a measurement needs set
    Setup setup;     // only where the data is tokenised
    ModelSource *source;
    ModelConfig config;
    Backend *backend;
    TrainingData data;
    Dataset made; // without a data set
    Plan plan;
    Trainer trainer;
    MicroBatch batch;
    uint64_t memory_before; // anonymous memory of the process before the trainer took its own
} Bench;

// SmolLM2-135M, for those who have no model at hand: the weights are random anyway.
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

// Examples of 40 to 220 random tokens, the last 60 % learned: about what Alpaca's records are.
static bool make_examples(Bench *bench, Error *error) {
    DatasetBuilder builder = {0};
    uint64_t key = random_key(bench->options.train.seed, RANDOM_WEIGHTS, 1, 0), drawn = 0;
    int32_t ids[220];
    uint8_t trained[220];
    bool good = true;
    for (int64_t left = bench->plan.sizes.tokens; good && left > 0;) {
        int64_t count = 40 + (int64_t)random_below(key, drawn++, 181);
        for (int64_t i = 0; i < count; i++) {
            ids[i] = (int32_t)random_below(key, drawn++, (uint64_t)bench->config.vocabulary);
            trained[i] = 5 * i >= 2 * count;
        }
        good = dataset_builder_add(&builder, ids, trained, count, error);
        left -= count;
    }
    good = good && dataset_builder_finish(&builder, &bench->made, error);
    dataset_builder_free(&builder);
    return good;
}

// Anonymous memory in use, from /proc/self/status; 0 where there is none.
static uint64_t anonymous_memory(void) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long long kilobytes = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1) break;
    if (file) fclose(file);
    return (uint64_t)kilobytes * 1024;
}

static bool open_bench(Bench *bench, Error *error) {
    const Options *options = &bench->options;
    if (options->data.dataset && !options->model_name_or_path) {
        error_usage(error, "dataset is given without a model");
        return error_hint(error, "add -m MODEL, whose tokenizer and template the data needs");
    }
    if (options->data.dataset) {
        if (!setup_open(&bench->setup, options, error)) return false;
        bench->config = *bench->setup.config;
    } else if (options->model_name_or_path) {
        bench->source = model_source_open(options->model_name_or_path, true, error);
        if (!bench->source) return false;
        bench->config = *model_source_config(bench->source);
    } else {
        bench->config = default_config();
    }
    return setup_plan(options, &bench->config, false, &bench->backend, &bench->plan, error);
}

static bool fill_batch(Bench *bench, Error *error) {
    const Options *options = &bench->options;
    const Dataset *dataset = &bench->made;
    if (options->data.dataset) {
        if (!setup_load_data(&bench->setup, &options->data, options->train.seed, bench->backend->threads, &bench->data,
                             error))
            return false;
        dataset = &bench->data.train;
    } else if (!make_examples(bench, error)) {
        return false;
    }
    if (!micro_batch_create(&bench->batch, bench->plan.sizes.tokens, error)) return false;
    micro_batch_clear(&bench->batch);
    for (int64_t s = 0; s < dataset->sequences && micro_batch_add(&bench->batch, dataset, s); s++) continue;
    micro_batch_finish(&bench->batch);
    return true;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Seconds of one optimizer step.
static bool time_steps(Bench *bench, double *seconds, Error *error) {
    const TrainSettings *train = &bench->options.train;
    double times[STEPS_TIMED];
    StepReport report;
    bench->memory_before = anonymous_memory();
    if (!trainer_create(&bench->trainer, bench->backend, &bench->config, train, &bench->plan, error)) return false;
    model_random_weights(&bench->config, &bench->trainer.store, train->seed);
    for (int64_t step = -1; step < STEPS_TIMED; step++) {
        double started = clock_seconds();
        // All of them within one draw, so that no step pays for a redraw.
        if (!trainer_step(&bench->trainer, 0, train->learning_rate, &bench->batch, 1, &report, error)) return false;
        if (step >= 0) times[step] = clock_seconds() - started;
    }
    qsort(times, STEPS_TIMED, sizeof *times, ascending);
    *seconds = times[STEPS_TIMED / 2];
    return true;
}

// FLOPs and seconds of the step's multiplications in the processor's own library.
static bool time_library(Bench *bench, double *flops, double *seconds, Error *error) {
    Backend *b = bench->backend;
    GemmWork works[GEMM_WORKS_MAX];
    Method method = method_of(&bench->options.train, bench->config.layers);
    int count = gemm_works(&bench->config, method.activated, &bench->batch, bench->plan.sizes.chunk, works);
    *flops = *seconds = 0;
    for (int i = 0; i < count; i++) {
        double once;
        if (!b->gemm_seconds(b, works[i].layout, works[i].m, works[i].n, works[i].k, GEMM_REPEATS, &once, error))
            return false;
        *flops += gemm_flops(&works[i]);
        *seconds += once * (double)works[i].count;
    }
    return true;
}

static bool measure(Bench *bench, Error *error) {
    double step_seconds, library_flops, library_seconds;
    if (!time_steps(bench, &step_seconds, error)) return false;
    uint64_t memory = anonymous_memory();
    if (!time_library(bench, &library_flops, &library_seconds, error)) return false;
    double flops = library_flops + attention_flops(&bench->config, &bench->batch);
    double rate = flops / step_seconds, library_rate = library_flops / library_seconds;
    uint64_t planned = bench->plan.device_bytes + bench->plan.host_bytes;
    uint64_t taken = bench->trainer.device.peak + bench->trainer.host.peak;
    Report report;
    report_start(&report);
    report_text(&report, "backend", bench->backend->name);
    report_integer(&report, "threads", thread_pool_size(bench->backend->threads));
    report_integer(&report, "tokens", bench->batch.used);
    report_integer(&report, "targets", bench->batch.targets);
    report_number(&report, "step_seconds", step_seconds);
    report_number(&report, "tokens_per_second", (double)bench->batch.used / step_seconds);
    report_number(&report, "needed_gflop", flops * 1e-9);
    report_number(&report, "step_gflop_per_second", rate * 1e-9);
    report_number(&report, "library_gflop_per_second", library_rate * 1e-9);
    report_number(&report, "efficiency", rate / library_rate);
    report_bytes(&report, "planned", planned);
    report_bytes(&report, "arenas", taken);
    report_bytes(&report, "memory_before", bench->memory_before);
    report_bytes(&report, "memory", memory);
    report_number(&report, "memory_share_of_plan", (double)(memory - bench->memory_before) / (double)planned);
    return report_print(&report, bench->options.json, error);
}

int command_bench(const Options *options, Error *error) {
    Bench bench = {.options = *options};
    bench.options.data.packing = PACKING_OFF; // examples lie end to end in the micro-batch as they are
    if (!options_given(options, "gradient_checkpointing"))
        bench.options.train.gradient_checkpointing = CHECKPOINT_FALSE;
    bool good = open_bench(&bench, error) && fill_batch(&bench, error) && measure(&bench, error);
    micro_batch_free(&bench.batch);
    trainer_free(&bench.trainer);
    training_data_free(&bench.data);
    dataset_free(&bench.made);
    if (bench.backend) bench.backend->destroy(bench.backend);
    model_source_close(bench.source);
    setup_close(&bench.setup);
    return good ? 0 : ERROR_EXIT_FAILED;
}
