// bench_steps.c - the optimizer batch that is measured on, and the steps.
#include "base/clock.h"
#include "base/random.h"
#include "cli/bench.h"
#include "data/dataset_builder.h"
#include <stdlib.h>

#define WARM_SECONDS 1.0 // clocks rise, libraries load, caches fill
#define WARM_STEPS   10
#define SECONDS      4.0
#define STEPS_LEAST  5
#define MADE_LENGTHS 220 // examples of 40 to so many tokens

// ---- the batch ----

// One example of `count` random tokens, learned from token `from` on.
static bool add_made(DatasetBuilder *builder, const Bench *bench, int64_t count, int64_t from, uint64_t key,
                     uint64_t *drawn, Error *error) {
    int32_t *ids = malloc((size_t)count * sizeof *ids);
    uint8_t *trained = malloc((size_t)count);
    bool good = ids && trained;
    if (!good) error_memory(error, "an example", (size_t)count * 5);
    for (int64_t i = 0; good && i < count; i++) {
        ids[i] = (int32_t)random_below(key, (*drawn)++, (uint64_t)bench->config.vocabulary);
        trained[i] = i >= from;
    }
    good = good && dataset_builder_add(builder, ids, trained, count, error);
    free(ids);
    free(trained);
    return good;
}

// With a batch size: so many sequences of exactly cutoff_len tokens, all learned. Without: examples of 40 to 220
// tokens, the last 60 % learned, about what Alpaca's records are, as many as fill a micro-batch.
static bool make_examples(Bench *bench, bool shaped, Error *error) {
    DatasetBuilder builder = {0};
    uint64_t key = random_key(bench->options.train.seed, RANDOM_WEIGHTS, 1, 0), drawn = 0;
    bool good = true;
    if (shaped) {
        for (int64_t s = 0; good && s < bench->options.train.per_device_train_batch_size; s++)
            good = add_made(&builder, bench, bench->options.data.cutoff_len, 0, key, &drawn, error);
    } else {
        for (int64_t left = bench->plan.sizes.tokens; good && left > 0;) {
            int64_t count = 40 + (int64_t)random_below(key, drawn++, MADE_LENGTHS - 40 + 1);
            if (count > bench->options.data.cutoff_len) count = bench->options.data.cutoff_len;
            good = add_made(&builder, bench, count, 2 * count / 5, key, &drawn, error);
            left -= count;
        }
    }
    good = good && dataset_builder_finish(&builder, &bench->made, error);
    dataset_builder_free(&builder);
    return good;
}

// Puts the first sequences into micro-batches: `wanted` of them, or as many as one micro-batch takes.
static bool fill_batches(Bench *bench, const Dataset *dataset, bool shaped, Error *error) {
    int64_t wanted = shaped ? bench->options.train.per_device_train_batch_size : 1, s = 0;
    if (shaped && wanted > dataset->sequences) wanted = dataset->sequences;
    bench->batches = calloc((size_t)wanted, sizeof *bench->batches);
    if (!bench->batches) return error_memory(error, "the micro-batches", (size_t)wanted * sizeof *bench->batches);
    while (bench->count < wanted && s < dataset->sequences && (!shaped || s < wanted)) {
        MicroBatch *batch = &bench->batches[bench->count];
        if (!micro_batch_create(batch, bench->plan.sizes.tokens, error)) return false;
        bench->count++;
        micro_batch_clear(batch);
        while (s < dataset->sequences && (!shaped || s < wanted) && micro_batch_add(batch, dataset, s)) s++;
        micro_batch_finish(batch);
    }
    return true;
}

bool bench_fill(Bench *bench, Error *error) {
    const Options *options = &bench->options;
    bool shaped = options_given(options, "per_device_train_batch_size");
    if (!options->data.dataset)
        return make_examples(bench, shaped, error) && fill_batches(bench, &bench->made, shaped, error);
    return setup_load_data(&bench->setup, &options->data, options->train.seed, bench->backend->threads, &bench->data,
                           error) &&
           fill_batches(bench, &bench->data.train, shaped, error);
}

// ---- the steps ----

// Takes reports until at most `behind` steps are owed one.
static bool take_reports(Bench *bench, int64_t behind, Error *error) {
    StepReport report;
    while (trainer_owed(&bench->trainer) > behind) {
        if (!trainer_report(&bench->trainer, &report, error)) return false;
        if (report.skipped) return error_set(error, "the loss or the gradient's norm is not finite");
        int64_t step = bench->trainer.reports.reported - 1;
        if (step == 0) bench->times.first_loss = report.loss;
        if (step < BENCH_STEPS_MOST) bench->times.losses[step] = report.loss;
        bench->times.last_loss = report.loss;
    }
    return true;
}

// All steps are number 0, within one draw, so that none pays for a redraw. As in a run, a device that works by itself
// has the next step queued before it is asked about this one.
static bool one_step(Bench *bench, Error *error) {
    Trainer *trainer = &bench->trainer;
    phase_step(&bench->clock);
    return trainer_step(trainer, 0, bench->options.train.learning_rate, bench->batches, bench->count, error) &&
           take_reports(bench, bench->backend->unified ? 0 : STEPS_IN_FLIGHT - 1, error);
}

// So many steps as were asked for, the first one included: for comparing runs by their losses.
static bool run_given_steps(Bench *bench, int64_t steps, Error *error) {
    StepTimes *times = &bench->times;
    for (; times->steps < steps && times->steps < BENCH_STEPS_MOST; times->steps++)
        if (!one_step(bench, error)) return false;
    phase_step(&bench->clock);
    return take_reports(bench, 0, error);
}

static bool run_steps(Bench *bench, Error *error) {
    StepTimes *times = &bench->times;
    double started = clock_seconds();
    if (bench->options.train.max_steps > 0) return run_given_steps(bench, bench->options.train.max_steps, error);
    for (int step = 0; step == 0 || (step < WARM_STEPS && clock_seconds() - started < WARM_SECONDS); step++)
        if (!one_step(bench, error)) return false;
    phase_clock_clear(&bench->clock);
    started = clock_seconds();
    while (times->steps < STEPS_LEAST || (times->steps < BENCH_STEPS_MOST && clock_seconds() - started < SECONDS)) {
        if (!one_step(bench, error)) return false;
        times->steps++;
    }
    phase_step(&bench->clock);
    return take_reports(bench, 0, error);
}

static bool read_clock(Bench *bench, Error *error) {
    StepTimes *times = &bench->times;
    double phases[BENCH_STEPS_MOST][PHASE_COUNT] = {{0}}, totals[BENCH_STEPS_MOST] = {0}, sorted[BENCH_STEPS_MOST];
    for (int64_t step = 0; step < times->steps; step++) {
        if (!phase_clock_read(&bench->clock, step, phases[step], error)) return false;
        for (int phase = 0; phase < PHASE_COUNT; phase++) totals[step] += phases[step][phase];
        sorted[step] = totals[step];
    }
    times->median = clock_median(sorted, times->steps);
    times->least = sorted[0];
    times->most = sorted[times->steps - 1];
    int64_t middle = 0;
    while (totals[middle] != times->median) middle++;
    for (int phase = 0; phase < PHASE_COUNT; phase++) times->phases[phase] = phases[middle][phase];
    return true;
}

// Zeroing writes a gradient, the norm reads it, AdamW reads it and reads and writes weight, low bits, m and v.
static uint64_t updated_bytes(const ActiveSet *active) {
    uint64_t bytes = 0;
    for (int i = 0; i < active->slot_count; i++) {
        const Slot *slot = &active->slots[i];
        bytes += (uint64_t)slot->elements *
                 (3 * sizeof(float) + 2 * (sizeof(bf16) + sizeof(int16_t) + 2 * slot->moment_size));
    }
    return bytes;
}

static bool fill_weights(Bench *bench, Error *error) {
    if (!bench->options.random_weights)
        return setup_load(bench->setup.source ? bench->setup.source : bench->source, &bench->trainer.store,
                          bench->backend, error);
    return model_random_weights(&bench->config, &bench->trainer.store, bench->options.train.seed, error);
}

bool bench_steps(Bench *bench, Error *error) {
    Backend *b = bench->backend;
    Trainer *trainer = &bench->trainer;
    StepTimes *times = &bench->times;
    times->memory_before = b->memory_in_use(b);
    if (!setup_trainer(&bench->options, &bench->config, b, NULL, &bench->plan, trainer, error) ||
        !fill_weights(bench, error))
        return false;
    phase_clock_create(&bench->clock, b);
    trainer->passes.clock = &bench->clock;
    if (!run_steps(bench, error) || !read_clock(bench, error)) return false;
    times->memory = b->memory_in_use(b);
    times->arenas = trainer->device.peak + (b->unified ? trainer->pinned.peak + trainer->host.peak : 0);
    times->updated = updated_bytes(&trainer->active);
    return true;
}
