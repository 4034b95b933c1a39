// test_run.c - whole runs: one that is stopped and goes on, one whose loss is no number.
#include "tests/support.h"

#include "base/files.h"
#include "tests/session.h"
#include "train/run.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t stop_flag;
static int64_t stop_after;

static void stop_at_step(void *context, const StepMetrics *metrics, double seconds_left) {
    (void)context, (void)seconds_left;
    if (metrics->step == stop_after) stop_flag = 1;
}

static RunResult run(Session *s, const char *folder, int64_t first, int64_t stop) {
    Error error = {0};
    RunResult result;
    stop_flag = 0;
    stop_after = stop;
    s->settings.output_dir = (char *)(uintptr_t)folder;
    s->facts.steps = run_steps(&s->settings, &s->data);
    TrainingRun whole = {.trainer = &s->trainer,
                         .settings = &s->settings,
                         .dataset = &s->data,
                         .eval_dataset = &s->data,
                         .checkpoint = s->facts,
                         .stop = &stop_flag,
                         .observer = {.on_step = stop_at_step}};
    check(run_training(&whole, first, &result, &error), &error);
    return result;
}

static int64_t lines_of(const char *folder, const char *with) {
    Error error = {0};
    char *path = path_join(folder, "metrics.jsonl"), *text;
    size_t size;
    check(file_read(path, 1 << 20, &text, &size, &error), &error);
    int64_t count = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) count += strstr(line, with) != NULL;
    free(text);
    free(path);
    return count;
}

static void a_stopped_run_goes_on_to_the_same_end(void **state) {
    (void)state;
    Error error = {0};
    TrainSettings settings = settings_with(1, false);
    settings.num_train_epochs = 2; // 30 sequences, 4 a step: 8 steps an epoch
    settings.lr_scheduler_type = SCHEDULE_COSINE;
    settings.warmup_ratio = 0.2;
    Session whole, first, second;
    char *folder_a = make_folder(), *folder_b = make_folder(), *resume;
    open_session(&whole, SESSION_MODEL, &settings);
    RunResult a = run(&whole, folder_a, 0, -1);
    assert_int_equal(a.steps, 16);
    assert_false(a.stopped);
    assert_int_equal(lines_of(folder_a, "\"loss\""), 16);
    assert_int_equal(lines_of(folder_a, "\"eval_loss\""), 2);
    open_session(&first, SESSION_MODEL, &settings);
    RunResult b = run(&first, folder_b, 0, 11);
    assert_true(b.stopped);
    assert_int_equal(b.steps, 11);
    check(checkpoint_prepare_folder(folder_b, false, &resume, &error), &error);
    int64_t step = resume_session(&second, resume, &settings, 16);
    RunResult c = run(&second, folder_b, step, -1);
    assert_int_equal(c.steps, 16);
    assert_true(c.train_loss == a.train_loss && c.eval_loss == a.eval_loss);
    assert_int_equal(lines_of(folder_b, "\"loss\""), 16);
    tiny_assert_same_weights(&whole.trainer, &second.trainer);
    close_session(&whole);
    close_session(&first);
    close_session(&second);
    free(resume);
    remove_folder(folder_a);
    remove_folder(folder_b);
}

static void a_loss_that_is_no_number_ends_the_run(void **state) {
    (void)state;
    Error error = {0};
    TrainSettings settings = settings_with(1, false);
    Session s;
    RunResult result;
    char *folder = make_folder();
    open_session(&s, SESSION_MODEL, &settings);
    int head = block_count(&s.trainer.store.layout) - 1;
    store_put(&s.trainer.store, head)[s.trainer.store.layout.final_norm.offset] = 0x7f80; // infinity
    s.settings.output_dir = folder;
    s.facts.steps = 8;
    s.facts.shuffle = false;
    stop_flag = 0;
    TrainingRun broken = {
        .trainer = &s.trainer, .settings = &s.settings, .dataset = &s.data, .checkpoint = s.facts, .stop = &stop_flag};
    assert_false(run_training(&broken, 0, &result, &error));
    assert_non_null(strstr(error.text, "step 1: the loss is"));
    assert_non_null(strstr(error.text, "not finite numbers; the step is dropped (its examples: 1, 2, 3, 4)"));
    close_session(&s);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stopped_run_goes_on_to_the_same_end),
        cmocka_unit_test(a_loss_that_is_no_number_ends_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
