// test_progress.c - the progress line at several widths, durations, and what a signal does.
#include "cli/progress.h"
#include "cli/signals.h"
#include "tests/support.h"
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const int layers[] = {3, 17};
static const Progress progress = {.step = 120,
                                  .steps = 500,
                                  .loss = 1.23456,
                                  .gradient_norm = 0.531,
                                  .learning_rate = 1.9e-5,
                                  .layers = layers,
                                  .layer_count = 2,
                                  .tokens_per_second = 1234.4,
                                  .memory = (uint64_t)3 << 29,
                                  .seconds_left = 754};

static void test_line(void **state) {
    (void)state;
    char text[PROGRESS_SIZE];
    const char *full = "step 120/500 | loss 1.2346 | norm 0.531 | lr 1.9e-05 | layers 3 17 | 1234 tokens/s | 1.5 GiB | "
                       "12:34 min left";
    assert_string_equal(progress_line(text, &progress, PROGRESS_SIZE - 1), full);
    assert_string_equal(progress_line(text, &progress, (int)strlen(full)), full);
    assert_string_equal(progress_line(text, &progress, 80),
                        "step 120/500 | loss 1.2346 | layers 3 17 | 1234 tokens/s | 12:34 min left");
    assert_string_equal(progress_line(text, &progress, 30), "step 120/500 | loss 1.2346");
    assert_string_equal(progress_line(text, &progress, 8), "step 120");
}

static void test_line_of_odd_numbers(void **state) {
    (void)state;
    char text[PROGRESS_SIZE];
    Progress odd = {.loss = 1e300, .gradient_norm = -1e300, .learning_rate = 1e-300, .seconds_left = -1};
    odd.layer_count = 32; // not listed one by one
    for (int width = 1; width < PROGRESS_SIZE; width++)
        assert_true(strlen(progress_line(text, &odd, width)) <= (size_t)width);
    odd.loss = 2;
    assert_string_equal(progress_line(text, &odd, 255),
                        "step 0/0 | loss 2.0000 | norm -1e+300 | lr 1e-300 | 32 layers | 0 tokens/s | 0 B");
}

static void test_durations(void **state) {
    (void)state;
    char text[32];
    assert_string_equal(format_duration(text, 0), "0 s");
    assert_string_equal(format_duration(text, 59.4), "59 s");
    assert_string_equal(format_duration(text, 59.6), "1:00 min");
    assert_string_equal(format_duration(text, 11100), "3:05:00 h");
    assert_string_equal(format_duration(text, -5), "0 s");
    assert_string_equal(format_duration(text, 1e300), "277777:46:40 h");
}

// In a child: the first signal sets the flag, the second ends the process by that signal.
static void test_signals(void **state) {
    (void)state;
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signals_catch();
            if (*signals_stop_flag() != 0) _exit(1);
            raise(numbers[i]);
            if (*signals_stop_flag() != numbers[i]) _exit(2);
            raise(SIGTERM);
            _exit(3);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGTERM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_line_of_odd_numbers),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
