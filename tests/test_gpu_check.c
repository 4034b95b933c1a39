// test_gpu_check.c - bench/gpu_check, the script behind `make gpu-check`, as far as it goes without a card: where there
// is none, and rehearsed on the CPU in small with programs that play the tests and compute-sanitizer.
#include "base/buffer.h"
#include "base/files.h"
#include "base/json.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char passing[] = "#!/bin/sh\necho '[==========] Running 3 test(s).'\necho '[  PASSED  ] 3 test(s).'\n";
static const char failing[] = "#!/bin/sh\necho '[==========] Running 1 test(s).'\nexit 1\n";
// clean under memcheck; racecheck says what RACECHECK says
static const char sanitizer[] = "#!/bin/sh\ncase $2 in\nmemcheck) echo '========= ERROR SUMMARY: 0 errors' ;;\n"
                                "*) echo \"========= $RACECHECK\" ;;\nesac\n";

static char *program(const char *folder, const char *name, const char *text) {
    char *path = write_text(folder, name, text);
    char command[512];
    snprintf(command, sizeof command, "chmod +x '%s'", path);
    assert_int_equal(system(command), 0);
    return path;
}

// Rehearses with one test program; the JSON that was written.
static json_t *rehearse(const char *folder, const char *test, const char *racecheck, int exit_code, const char *said) {
    Error error = {0};
    char command[1024];
    snprintf(
        command, sizeof command,
        "RESULTS='%s/results' MODEL=/nowhere SANITIZER='%s/sanitizer' RACECHECK='%s' bench/gpu_check --rehearse '%s'",
        folder, folder, racecheck, test);
    Run run = run_shell(command);
    if (run.exit_code != exit_code) fail_msg("exit code %d: %s%s", run.exit_code, run.out, run.err);
    if (!strstr(run.out, said)) fail_msg("\"%s\" is not said in: %s", said, run.out);
    assert_string_equal(run.err, "");
    run_free(&run);
    snprintf(command, sizeof command, "mv '%s'/results/rehearsal-*.json '%s/result.json'", folder, folder);
    assert_int_equal(system(command), 0);
    char *path = path_join(folder, "result.json");
    json_t *result = json_read_file(path, 1 << 20, &error);
    check(result != NULL, &error);
    free(path);
    return result;
}

static void test_rehearsal(void **state) {
    (void)state;
    char *folder = make_folder();
    char *good = program(folder, "test_cuda_good", passing), *bad = program(folder, "test_cuda_bad", failing);
    free(program(folder, "sanitizer", sanitizer));

    json_t *result =
        rehearse(folder, good, "Error: Unable to find injection library", 0, "racecheck: skipped, cannot run");
    assert_int_equal(json_integer_value(json_object_get(result, "failures")), 0);
    assert_int_equal(json_integer_value(json_object_get(result, "tests_passed")), 3);
    const json_t *runs = json_object_get(result, "runs"), *run = json_object_get(runs, "small-lisa-2x64");
    assert_int_equal(json_object_size(runs), 4);
    // less memory, other placement, the same losses: the script compares them
    const json_t *large = json_object_get(runs, "cap-40MiB"), *small = json_object_get(runs, "cap-4MiB");
    assert_int_equal(json_integer_value(json_object_get(large, "layers_resident")), 12);
    assert_true(json_integer_value(json_object_get(small, "planned_bytes")) <
                json_integer_value(json_object_get(large, "planned_bytes")));
    assert_int_equal(json_array_size(json_object_get(large, "losses")), 2);
    assert_true(json_equal(json_object_get(large, "losses"), json_object_get(small, "losses")));
    assert_int_equal(json_integer_value(json_object_get(run, "tokens")), 128);
    json_decref(result);

    result = rehearse(folder, bad, "Error: Race reported between Write and Read", 1,
                      "racecheck: test_cuda_bad: found: Error: Race");
    assert_int_equal(json_integer_value(json_object_get(result, "failures")), 2); // and the test itself
    assert_int_equal(json_integer_value(json_object_get(result, "tests_passed")), 0);
    json_decref(result);
    free(good);
    free(bad);
    remove_folder(folder);
}

static void test_without_a_card(void **state) {
    (void)state;
    if (!access("/dev/nvidiactl", F_OK) || !access("/dev/dxg", F_OK)) skip();
    Run run = run_shell("NVCC=nvcc bench/gpu_check");
    assert_int_equal(run.exit_code, 1);
    assert_string_equal(run.out, "");
    assert_string_equal(run.err,
                        "gpu-check: no NVIDIA card on this machine: nvidia-smi lists none, and there is neither "
                        "/dev/nvidiactl nor /dev/dxg\n");
    run_free(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rehearsal),
        cmocka_unit_test(test_without_a_card),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
