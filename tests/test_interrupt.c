// test_interrupt.c - training that is stopped, killed, or runs out of disk at any moment, then run again: it ends with
// the same weights, to the bit, as a run that nothing happened to.
#include "base/buffer.h"
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

// Waits until the run has opened its metrics file, from where on signals are caught, and has written `size` bytes to
// it.
static void wait_for_metrics(const char *output, int64_t size) {
    char *path = path_join(output, "metrics.jsonl");
    for (int i = 0; i < 60000 && path_size(path) < size; i++) usleep(1000);
    assert_true(path_size(path) >= size);
    free(path);
}

// Stops a run by the signal when its first step is done; tried again where the run was faster than the signal.
static Run stop_after_a_step(int number, const char *output, const char *const *arguments) {
    for (int attempt = 0;; attempt++) {
        Child child = start_lisa(NULL, arguments);
        wait_for_metrics(output, 1);
        kill(child.process, number);
        Run run = finish_lisa(child);
        if (run.exit_code == 130) return run;
        if (run.exit_code || attempt == 9) fail_msg("exit code %d: %s", run.exit_code, run.err);
        run_free(&run);
        remove_folder(strdup(output));
    }
}

// A data set whose first step takes many seconds: 400 answers of 4096 tokens and more (the path is the caller's).
static char *write_long_data(void) {
    Error error = {0};
    Buffer text = BUFFER_EMPTY;
    for (int i = 0; i < 400; i++) {
        check(buffer_text(&text, "{\"instruction\": \"go on\", \"output\": \"", &error), &error);
        for (int j = 0; j < 5000; j++) check(buffer_byte(&text, (char)('a' + (i + j * j) % 26), &error), &error);
        check(buffer_text(&text, "\"}\n", &error), &error);
    }
    char *path = write_text(folder, "long.jsonl", buffer_string(&text));
    buffer_free(&text);
    return path;
}

// The first signal lets the step go on, the second ends the process at once. Where the step had not begun yet, the
// first one ends it.
static void second_signal_leaves_at_once(void **state) {
    (void)state;
    char *output = path_join(folder, "twice"), *slow = write_long_data();
    useconds_t wait = 100000; // until the step has begun
    for (bool stepping = false; !stepping; wait *= 2) {
        assert_true(wait < 10000000);
        Child child =
            start_lisa(NULL, ARGUMENTS(output, "--dataset", slow, "-c", "4096", "gradient_accumulation_steps=400"));
        wait_for_metrics(output, 0);
        usleep(wait);
        kill(child.process, SIGINT);
        usleep(wait);
        kill(child.process, SIGTERM);
        Run run = finish_lisa(child);
        stepping = run.exit_code == 128 + SIGTERM;
        if (!stepping && run.exit_code != 130) fail_msg("exit code %d: %s", run.exit_code, run.err);
        run_free(&run);
    }
    finish_the_run(output);
    free(slow);
    remove_folder(output);
}

// Whoever reads our messages may go away: with `2>&1 | tee`, Ctrl-C ends tee as well.
static void a_reader_that_leaves_does_not_end_the_run(void **state) {
    (void)state;
    char *output = path_join(folder, "unread"), command[1024];
    snprintf(command, sizeof command,
             "{ $LISA train -m %s --template alpaca --dataset %s lr=1e-2 gradient_accumulation_steps=4 "
             "lisa_interval_steps=2 num_train_epochs=2 lisa_activated_layers=1 -c 128 -t 1 save_steps=3 -o %s 2>&1; "
             "echo $? >%s/exit_code; } | grep -m 1 '^step 1/'",
             model, data, output, folder);
    Run run = run_shell(command);
    assert_int_equal(run.exit_code, 0);
    run_free(&run);
    run = run_shell((snprintf(command, sizeof command, "exit $(cat %s/exit_code)", folder), command));
    assert_int_equal(run.exit_code, 0);
    run_free(&run);
    assert_ended_the_same(output);
    remove_folder(output);
}

// The command that a stopped run prints goes on from where it stopped, also where the same command would start anew.
static void stopped_runs_print_the_command_that_resumes(void **state) {
    (void)state;
    char *output = path_join(folder, "it's here");
    Run run = stop_after_a_step(SIGHUP, output, ARGUMENTS(output, "overwrite_output_dir=true", "save_steps=1"));
    const char *command = strstr(run.err, "; to go on:\n");
    assert_non_null(command);
    assert_non_null(strstr(command, " 'resume_from_checkpoint="));
    Run again = run_shell(command + strlen("; to go on:\n"));
    if (again.exit_code) fail_msg("exit code %d: %s", again.exit_code, again.err);
    assert_non_null(strstr(again.err, "resuming from "));
    run_free(&again);
    run_free(&run);
    assert_ended_the_same(output);
    remove_folder(output);
}

// overwrite_output_dir removes an earlier run's results only when the new run can start.
static void a_run_that_cannot_start_removes_nothing(void **state) {
    (void)state;
    char *output = path_join(folder, "precious");
    Run run = run_lisa(ARGUMENTS(output));
    assert_int_equal(run.exit_code, 0);
    run_free(&run);
    run = run_lisa(ARGUMENTS(output, "overwrite_output_dir=true", "dataset=no_such_data"));
    assert_int_equal(run.exit_code, 1);
    run_free(&run);
    assert_ended_the_same(output);
    remove_folder(output);
}

// From a checkpoint that is not the newest, and into another folder.
static void any_checkpoint_can_be_gone_on_from(void **state) {
    (void)state;
    char *output = path_join(folder, "many"), *other = path_join(folder, "other");
    char from_3[512], from_12[512];
    snprintf(from_3, sizeof from_3, "resume_from_checkpoint=%s/checkpoint-3", output);
    snprintf(from_12, sizeof from_12, "resume_from_checkpoint=%s/checkpoint-12", output);
    Run run = run_lisa(ARGUMENTS(output, "save_total_limit=9"));
    assert_int_equal(run.exit_code, 0);
    run_free(&run);
    char *names = names_in(output);
    assert_int_equal(strncmp(names, "checkpoint-12 checkpoint-3 checkpoint-6 checkpoint-9 ", 53), 0);
    free(names);
    run = run_lisa(ARGUMENTS(other, from_12));
    if (run.exit_code) fail_msg("%s", run.err);
    run_free(&run);
    assert_ended_the_same(other);
    run = run_lisa(ARGUMENTS(output, from_3));
    if (run.exit_code) fail_msg("%s", run.err);
    assert_non_null(strstr(run.err, "checkpoint-3, after step 3\n"));
    run_free(&run);
    assert_ended_the_same(output);
    remove_folder(output);
    remove_folder(other);
}

// The disk fills up while a checkpoint is written (a limit on the size of files stands in for it): the last one
// survives, nothing else is left, and with more room the run goes on.
static void full_disk_leaves_the_last_checkpoint(void **state) {
    (void)state;
    char *output = path_join(folder, "full"), command[1024], expected[1024];
    Run run = stop_after_a_step(SIGTERM, output, ARGUMENTS(output, "save_steps=1"));
    run_free(&run);
    char *before = names_in(output);
    snprintf(command, sizeof command,
             "ulimit -f 50; exec $LISA train -m %s --template alpaca --dataset %s lr=1e-2 "
             "gradient_accumulation_steps=4 lisa_interval_steps=2 num_train_epochs=2 lisa_activated_layers=1 -c 128 "
             "-t 1 save_steps=12 -o %s --log_level quiet",
             model, data, output);
    run = run_shell(command);
    snprintf(expected, sizeof expected,
             "lisa: error: saving checkpoint-12: cannot write %s/.checkpoint-12.partial/model.safetensors: File too "
             "large\nHINT: raise the limit on the size of files (`ulimit -f unlimited`), or name a folder on a disk "
             "that takes larger ones\n",
             output);
    assert_string_equal(run.err, expected);
    assert_int_equal(run.exit_code, 1);
    run_free(&run);
    char *after = names_in(output);
    assert_string_equal(after, before);
    finish_the_run(output);
    free(before);
    free(after);
    remove_folder(output);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_moment),
        cmocka_unit_test(stopped_at_any_moment),
        cmocka_unit_test(second_signal_leaves_at_once),
        cmocka_unit_test(a_reader_that_leaves_does_not_end_the_run),
        cmocka_unit_test(stopped_runs_print_the_command_that_resumes),
        cmocka_unit_test(a_run_that_cannot_start_removes_nothing),
        cmocka_unit_test(any_checkpoint_can_be_gone_on_from),
        cmocka_unit_test(full_disk_leaves_the_last_checkpoint),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
