// test_places_failures.c - what goes wrong in a training whose weights and state lie outside the device: a scratch file
// that fails or cannot be made, a loss that is no number.
#include "tests/support.h"

#include "tests/places.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Job {
    Backend *b;
    ModelConfig config;
    TrainSettings settings;
    Dataset data;
    Plan plan;
} Job;

// All layers are streamed from a file.
static void open_job(Job *job) {
    Error error = {0};
    Places row = places_on_host(4, false, 0);
    *job = (Job){.b = backend_cpu_create(1, false, &error),
                 .config = places_config(&row),
                 .settings = places_settings(&row),
                 .data = places_data(),
                 .plan = places_plan(&row)};
    check(job->b, &error);
    assert_true(job->plan.store.in_file);
    check(trainer_measure(&job->plan, job->b, &job->config, &job->settings, &error), &error);
}

static void close_job(Job *job) {
    dataset_free(&job->data);
    job->b->destroy(job->b);
}

// Shortens every file of this process that has no name any more; returns how many.
static int shorten_nameless_files(void) {
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char path[300], target[300] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        if (readlink(path, target, sizeof target - 1) < 0 || !strstr(target, "(deleted)")) continue;
        count += ftruncate(atoi(entry->d_name), 0) == 0;
    }
    closedir(folder);
    return count;
}

static bool one_step(Job *job, Trainer *trainer, int64_t step, Error *error) {
    MicroBatch batch;
    check(micro_batch_create(&batch, trainer->plan.sizes.tokens, error), error);
    micro_batch_clear(&batch);
    assert_true(micro_batch_add(&batch, &job->data, step));
    micro_batch_finish(&batch);
    bool good = trainer_step(trainer, step, 1e-3, &batch, 1, error);
    micro_batch_free(&batch);
    return good;
}

static void a_file_that_fails_ends_the_step(void **state) {
    (void)state;
    Job job;
    Trainer trainer;
    Error error = {0};
    StepReport report;
    open_job(&job);
    check(trainer_create(&trainer, job.b, &job.config, &job.settings, &job.plan, &error), &error);
    check(model_random_weights(&job.config, &trainer.store, 7, &error), &error);
    check(one_step(&job, &trainer, 0, &error), &error);
    check(trainer_report(&trainer, &report, &error), &error);
    assert_true(shorten_nameless_files() >= 1);
    assert_false(one_step(&job, &trainer, 1, &error));
    assert_non_null(strstr(error.text, "scratch file"));
    assert_false(one_step(&job, &trainer, 2, &error)); // and it stays failed
    trainer_free(&trainer);
    close_job(&job);
}

static void a_folder_that_is_not_there(void **state) {
    (void)state;
    Job job;
    Trainer trainer;
    Error error = {0};
    open_job(&job);
    job.plan.store.scratch_dir = "/no/such/folder";
    assert_false(trainer_create(&trainer, job.b, &job.config, &job.settings, &job.plan, &error));
    assert_non_null(strstr(error.text, "/no/such/folder"));
    assert_true(*error.hint);
    trainer_free(&trainer);
    close_job(&job);
}

// The flag of a step that was not finite reaches the host's AdamW: no weight, no moment and no low bit changes.
static void a_loss_that_is_no_number_changes_nothing(void **state) {
    (void)state;
    Job job;
    Error error = {0};
    open_job(&job);
    Trainer *trainer = tiny_trainer_planned(job.b, &job.config, &job.settings, &job.plan, 7);
    tiny_steps(trainer, &job.data, PLACES_BATCH, 0, 1);
    int blocks = block_count(&trainer->store.layout), head = blocks - 1;
    // the host has H's weights; the device's copy, which the forward pass takes, is spoilt
    trainer_settle(trainer);
    trainer->store.blocks[head][trainer->store.layout.final_norm.offset] = 0x7fc0;
    bf16 *before[8];
    float moment[8];
    for (int block = 0; block < blocks; block++) {
        const Slot *slot = trainer->active.of_block[block];
        before[block] = tiny_weights(trainer, block);
        if (slot) moment[block] = ((const float *)slot->m)[1];
    }
    StepReport report = tiny_steps(trainer, &job.data, PLACES_BATCH, 1, 2);
    assert_true(report.skipped);
    trainer_settle(trainer);
    for (int block = 0; block < blocks; block++) {
        const Slot *slot = trainer->active.of_block[block];
        bf16 *after = slot && slot->on_host ? slot->weights : NULL;
        bf16 *copy = tiny_weights(trainer, block);
        size_t bytes = (size_t)block_elements(&trainer->store.layout, block) * sizeof(bf16);
        if (block != head) assert_memory_equal(copy, before[block], bytes);
        if (slot) assert_true(after && ((const float *)slot->m)[1] == moment[block]);
        free(copy);
        free(before[block]);
    }
    check(store_check(&trainer->store, &error), &error);
    tiny_trainer_free(trainer);
    close_job(&job);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_that_fails_ends_the_step),
        cmocka_unit_test(a_folder_that_is_not_there),
        cmocka_unit_test(a_loss_that_is_no_number_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
