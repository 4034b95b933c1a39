// test_plan_on_card.c - plans for the emulated card and what becomes of them: limits on a live card, pinned memory that
// cannot be had.
#include "tests/support.h"

#include "base/log.h"
#include "cli/setup.h"
#include "tests/emulator/emulator.h"
#include "tests/tiny_model.h"
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

typedef struct Job {
    Backend *card;
    ModelConfig config;
    Options options;
    Plan plan;
    Trainer trainer;
} Job;

static void open_job(Job *job) {
    Error error = {0};
    *job = (Job){.card = backend_cuda_create(0, 1, &error), .config = tiny_config()};
    check(job->card != NULL, &error);
    job->config.layers = 12;
    job->config.max_positions = 64;
    check(options_defaults(&job->options, &error), &error);
    job->options.data.cutoff_len = 64;
    check(options_set(&job->options, COMMAND_TRAIN, "scratch_dir", ".", NULL, &error), &error);
    check(options_set(&job->options, COMMAND_TRAIN, "gradient_accumulation_steps", "4", NULL, &error), &error);
}

static void close_job(Job *job) {
    trainer_free(&job->trainer);
    options_free(&job->options);
    job->card->destroy(job->card);
    emulator_pinned_limit(SIZE_MAX);
    emulator_memory_limit((size_t)8 << 30);
    assert_int_equal(emulator_errors(), 0);
}

static bool plan_again(Job *job, Error *error) {
    return setup_plan_again(&job->options, &job->config, job->card, NULL, &job->plan, error);
}

static void set(Job *job, const char *name, const char *value) {
    Error error = {0};
    check(options_set(&job->options, COMMAND_TRAIN, name, value, NULL, &error), &error);
}

static StepReport train(Job *job) {
    Error error = {0};
    Dataset data = tiny_dataset(20, 20, job->config.vocabulary, 3);
    check(model_random_weights(&job->config, &job->trainer.store, 7, &error), &error);
    StepReport report = tiny_steps(&job->trainer, &data, 3, 0, 3);
    dataset_free(&data);
    return report;
}

// All layers are to be streamed from pinned memory, of which there is less than that: the same training goes on with
// their weights in a scratch file, and a warning says so.
static int run_without_pinned_memory(void *context) {
    Job *job = context;
    Error error = {0};
    Plan wanted = job->plan;
    emulator_pinned_limit(wanted.pinned_bytes / 2);
    if (!setup_trainer(&job->options, &job->config, job->card, NULL, &job->plan, &job->trainer, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    StepReport report = train(job);
    printf("%d %.17g\n", job->plan.store.in_file && job->plan.pinned_bytes <= wanted.pinned_bytes / 2, report.loss);
    return 0;
}

static void pinned_memory_that_cannot_be_had(void **state) {
    (void)state;
    Error error = {0};
    Job job;
    if (!emulator_present()) skip();
    open_job(&job);
    set(&job, "layers_resident", "0");
    check(plan_again(&job, &error), &error);
    assert_false(job.plan.store.in_file);
    check(setup_trainer(&job.options, &job.config, job.card, NULL, &job.plan, &job.trainer, &error), &error);
    StepReport expected = train(&job);
    trainer_free(&job.trainer);
    Run run = run_function(run_without_pinned_memory, &job);
    if (run.exit_code) fail_msg("%s", run.err);
    char text[64];
    snprintf(text, sizeof text, "1 %.17g\n", expected.loss);
    assert_string_equal(run.out, text);
    assert_non_null(strstr(run.err, "of pinned memory cannot be had, the run goes on with "));
    assert_non_null(strstr(run.err, "; 12 layers are streamed from a scratch file in ., "));
    run_free(&run);
    close_job(&job);
}

// Nothing that needs less pinned memory is there: the first refusal is told.
static void no_pinned_memory_at_all(void **state) {
    (void)state;
    Error error = {0};
    Job job;
    if (!emulator_present()) skip();
    open_job(&job);
    check(plan_again(&job, &error), &error);
    emulator_pinned_limit(64);
    assert_false(setup_trainer(&job.options, &job.config, job.card, NULL, &job.plan, &job.trainer, &error));
    assert_non_null(strstr(error.text, "pinned"));
    close_job(&job);
}

static void a_limit_caps_the_arenas(void **state) {
    (void)state;
    Error error = {0};
    Job job;
    if (!emulator_present()) skip();
    open_job(&job);
    emulator_memory_limit(600 * MIB);
    set(&job, "vram", "2GiB");
    assert_false(plan_again(&job, &error));
    assert_non_null(strstr(error.text, "vram: 2.0 GiB is more than the "));
    assert_int_equal(error.exit_code, ERROR_EXIT_USAGE);
    set(&job, "vram", "0");
    check(plan_again(&job, &error), &error);
    uint64_t whole = job.plan.device_bytes, fixed = job.plan.fixed_bytes;
    char size[32];
    snprintf(size, sizeof size, "%llu", (unsigned long long)(fixed + whole * 3 / 4));
    set(&job, "vram", size);
    check(plan_again(&job, &error), &error);
    assert_true(job.plan.device_bytes <= whole * 3 / 4);
    check(setup_trainer(&job.options, &job.config, job.card, NULL, &job.plan, &job.trainer, &error), &error);
    assert_true(train(&job).loss > 0);
    assert_int_equal(job.trainer.device.peak, job.plan.device_bytes);
    close_job(&job);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limit_caps_the_arenas),
        cmocka_unit_test(pinned_memory_that_cannot_be_had),
        cmocka_unit_test(no_pinned_memory_at_all),
    };
    log_set_level(LOG_WARNING);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
