// test_interrupt.c - training that is stopped, killed, or runs out of disk at any moment, then run again: it ends with
// the same weights, to the bit, as a run that nothing happened to.
#include "base/files.h"
#include "base/random.h"
#include "tests/support.h"
#include "tests/tiny_folder.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STEPS "12"

static char *folder, *model, *data;
static char *whole; // output_dir of the run that nothing happened to

// 12 steps with six draws; `output` and more options follow.
#define ARGUMENTS(...)                                                                                                 \
    (const char *const[]) {                                                                                            \
        "train", "-m", model, "--template", "alpaca", "--dataset", data, "lr=1e-2", "gradient_accumulation_steps=4",   \
            "lisa_interval_steps=2", "num_train_epochs=2", "lisa_activated_layers=1", "-c", "128", "-t", "1",          \
            "save_steps=3", "-o", __VA_ARGS__, NULL                                                                    \
    }

static int set_up(void **state) {
    (void)state;
    folder = make_folder();
    model = tiny_model_folder(folder);
    data = tiny_data_file(folder, 24);
    whole = path_join(folder, "whole");
    Run run = run_lisa(ARGUMENTS(whole));
    assert_int_equal(run.exit_code, 0);
    assert_non_null(strstr(run.err, STEPS " steps in "));
    run_free(&run);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(data);
    free(model);
    free(whole);
    remove_folder(folder);
    return 0;
}

// The names in a folder, " "-separated (caller's memory).
static char *names_in(const char *path) {
    Error error = {0};
    char **names, *text = calloc(1, 4096);
    size_t count;
    check(directory_list(path, &names, &count, &error), &error);
    for (size_t i = 0; i < count; i++) snprintf(text + strlen(text), 4096 - strlen(text), "%s ", names[i]);
    names_free(names, count);
    return text;
}

// output_dir holds what the undisturbed run has left, and nothing else.
static void assert_ended_the_same(const char *output) {
    assert_same_file(whole, output, "model.safetensors");
    assert_same_file(whole, output, "checkpoint-" STEPS "/lisa_state.safetensors");
    char *expected = names_in(whole), *found = names_in(output);
    assert_string_equal(found, expected);
    free(expected);
    free(found);
}

static void finish_the_run(const char *output) {
    Run run = run_lisa(ARGUMENTS(output));
    if (run.exit_code) fail_msg("exit code %d: %s", run.exit_code, run.err);
    run_free(&run);
    assert_ended_the_same(output);
}

// What a signalled run may do: end as that signal ends any process, before the training; save; or be done already.
static void check_stopped(const Run *run, int number, const char *output) {
    bool says = strstr(run->err, "\nstopped after step ") || strstr(run->err, "\nstopped before step ");
    if (run->exit_code == 0) return;
    if (!says && !strstr(run->err, "\nstep ") && run->exit_code == 128 + number) return;
    if (run->exit_code != 130 || !says) fail_msg("exit code %d: %s", run->exit_code, run->err);
    char *names = names_in(output);
    assert_null(strstr(names, "partial"));
    free(names);
}

// Runs the command again and again, each time sending it the signal after a random time, until it ends by itself.
static void disturb(int number) {
    char *output = path_join(folder, "disturbed");
    int done = 0;
    for (int attempt = 0; attempt < 25 && !done; attempt++) {
        Child child = start_lisa(NULL, ARGUMENTS(output));
        usleep((useconds_t)(random_uniform(random_mix((uint64_t)number), (uint64_t)attempt) * 250000));
        kill(child.process, number);
        Run run = finish_lisa(child);
        if (number == SIGKILL)
            assert_true(run.exit_code == 128 + SIGKILL || run.exit_code == 0);
        else
            check_stopped(&run, number, output);
        done = run.exit_code == 0;
        run_free(&run);
    }
    finish_the_run(output);
    remove_folder(output);
}

static void killed_at_any_moment(void **state) {
    (void)state;
    disturb(SIGKILL);
}

static void stopped_at_any_moment(void **state) {
    (void)state;
    disturb(SIGINT);
    disturb(SIGTERM);
    disturb(SIGHUP);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_moment),
        cmocka_unit_test(stopped_at_any_moment),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
