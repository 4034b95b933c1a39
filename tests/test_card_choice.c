// test_card_choice.c - the whole program on an emulated card: which one it takes, what it says where there is none,
// where it cannot be used, is too small, or fails in the middle of a run.
#include "tests/support.h"

#include "base/files.h"
#include "base/json.h"
#include "cli/command.h"
#include "kernels/nvidia.h"
#include "tests/emulator/emulator.h"
#include "tests/tiny_folder.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *folder, *model, *data;

static int set_up(void **state) {
    (void)state;
    folder = make_folder();
    model = tiny_model_folder(folder);
    data = tiny_data_file(folder, 8);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(data);
    free(model);
    remove_folder(folder);
    return 0;
}

// ---- the program in a process of its own

// The machine that it finds itself on.
typedef struct Machine {
    int cards, major, minor, driver;
    size_t memory;       // of each card; 0: as it is
    long failing_launch; // the launch that fails; 0: none
    const char *const *arguments;
} Machine;

#define CARDS(count, major_version, minor_version, driver_version)                                                     \
    .cards = (count), .major = (major_version), .minor = (minor_version), .driver = (driver_version)
#define USUAL CARDS(1, 8, 9, 13000) // one card, and a driver as new as the emulated toolkit
enum { LAUNCH_FAILURE = 719 };

static int run_program(void *context) {
    static const Command commands[] = {
        {"train", COMMAND_TRAIN, "", "", "", command_train},
        {"plan", COMMAND_PLAN, "", "", "", command_plan},
        {"eval", COMMAND_EVAL, "", "", "", command_eval},
        {"generate", COMMAND_GENERATE, "", "", "", command_generate},
        {"info", COMMAND_INFO, "", "", "", command_info},
    };
    const Machine *machine = context;
    char *list[64] = {strdup("lisa")};
    int count = 1;
    for (; machine->arguments[count - 1] && count < 63; count++) list[count] = strdup(machine->arguments[count - 1]);
    emulator_card(machine->cards, machine->major, machine->minor, machine->driver);
    if (machine->memory) emulator_memory_limit(machine->memory);
    if (machine->failing_launch) emulator_fail_launch(machine->failing_launch, LAUNCH_FAILURE);
    return program_run(commands, sizeof commands / sizeof *commands, "", count, list);
}

static Run run_on(Machine machine) {
    return run_function(run_program, &machine);
}

#define ARGUMENTS(...)                                                                                                 \
    (const char *const[]) {                                                                                            \
        __VA_ARGS__, NULL                                                                                              \
    }
#define ON(card, ...) run_on((Machine){card, .arguments = ARGUMENTS(__VA_ARGS__)})
#define TRAIN         "train", "-m", model, "--template", "alpaca", "--dataset", data, "-c", "128", "-t", "1", "lr=1e-2"

static void ends_with(Run run, int exit_code, const char *expected) {
    assert_string_equal(run.err, expected);
    assert_int_equal(run.exit_code, exit_code);
    assert_string_equal(run.out, "");
    run_free(&run);
}

// ---- choosing

#define PLAN(device) "plan", "-m", model, "-t", "1", "--json", "--device", device
#define OLD_CARD                                                                                                       \
    "card 0 (Emulated card 0, compute capability 7.5) is too old: bf16 needs 8.0 or newer\n"                           \
    "HINT: cards from the RTX 30 series and the A100 on can be used; use --device cpu\n"
#define NO_CARD                                                                                                        \
    "lisa: error: no GPU: the NVIDIA driver (CUDA 13.0) shows no card to this program\n"                               \
    "HINT: a container needs docker run --gpus all; CUDA_VISIBLE_DEVICES must name the card; nvidia-smi shows what "   \
    "the driver sees; --device cpu does without\n"

// The workspace tells which backend it was: that of the CPU grows with the threads.
static json_int_t workspace(Run run, const char *said) {
    Error error = {0};
    assert_string_equal(run.err, said);
    assert_int_equal(run.exit_code, 0);
    json_t *plan = json_parse(run.out, strlen(run.out), "stdout", 1, 1, &error);
    check(plan != NULL, &error);
    json_int_t bytes = json_integer_value(json_object_get(plan, "workspace_bytes"));
    json_decref(plan);
    run_free(&run);
    return bytes;
}

static void a_card_is_taken_where_there_is_one(void **state) {
    (void)state;
    json_int_t cpu = workspace(ON(USUAL, PLAN("cpu")), "");
    json_int_t cuda = workspace(ON(USUAL, PLAN("cuda")), "");
    assert_int_not_equal(cpu, cuda);
    assert_int_equal(workspace(ON(USUAL, PLAN("auto")), ""), cuda);
    assert_int_equal(workspace(ON(CARDS(2, 9, 0, 13000), PLAN("cuda:1")), ""), cuda);
    if (nvidia_card_seen("")) return; // the emulation cannot hide it
    assert_int_equal(workspace(ON(CARDS(0, 8, 9, 13000), PLAN("auto")), "no NVIDIA card here: computing on the CPU\n"),
                     cpu);
    assert_int_equal(workspace(ON(CARDS(1, 8, 9, 0), PLAN("auto")), "no NVIDIA card here: computing on the CPU\n"),
                     cpu);
}

static void a_card_that_cannot_be_used_is_an_error(void **state) {
    (void)state;
    char expected[1024];
    const char *seen = nvidia_card_seen("");
    ends_with(ON(CARDS(0, 8, 9, 13000), PLAN("cuda")), 1, NO_CARD);
    ends_with(ON(CARDS(1, 8, 9, 0), PLAN("cuda")), 1,
              "lisa: error: CUDA finds no NVIDIA driver\nHINT: install it (Ubuntu: sudo ubuntu-drivers install, then "
              "restart; WSL2: NVIDIA's driver for Windows), or use --device cpu\n");
    ends_with(ON(CARDS(1, 7, 5, 13000), PLAN("cuda")), 1, "lisa: error: " OLD_CARD);
    snprintf(expected, sizeof expected, "lisa: error: the NVIDIA card of this machine (%s) cannot be used: " OLD_CARD,
             seen ? seen : "CUDA lists it");
    ends_with(ON(CARDS(1, 7, 5, 13000), PLAN("auto")), 1, expected);
    ends_with(ON(CARDS(2, 8, 6, 13000), PLAN("cuda:2")), 2,
              "lisa: error: device: there is no card cuda:2, this machine has 2\n"
              "HINT: lisa info lists the cards; they are counted from 0\n");
    Run run = ON(CARDS(1, 8, 9, 12020), PLAN("cuda")); // where there is a driver, its own version is named too
    assert_int_equal(run.exit_code, 1);
    assert_non_null(strstr(run.err, "is too old: it supports CUDA 12.2, this lisa was built with CUDA 13.0\n"
                                    "HINT: update the driver (CUDA 11 needs 450, 12 needs 525, 13 needs 580), or build "
                                    "lisa with the CUDA 12 toolkit, or use --device cpu\n"));
    run_free(&run);
}

static void info_lists_the_cards(void **state) {
    (void)state;
    Error error = {0};
    Run run = ON(CARDS(2, 9, 0, 13000), "info", "--json", "-t", "1");
    assert_int_equal(run.exit_code, 0);
    json_t *info = json_parse(run.out, strlen(run.out), "stdout", 1, 1, &error);
    check(info != NULL, &error);
    assert_string_equal(json_string_value(json_object_get(info, "driver")), "up to CUDA 13.0");
    assert_int_equal(json_integer_value(json_object_get(info, "cards")), 2);
    assert_string_equal(json_string_value(json_object_get(info, "card_1")), "Emulated card 1, compute capability 9.0");
    assert_int_equal(json_integer_value(json_object_get(info, "card_1_memory_bytes")), (int64_t)8 << 30);
    assert_true(json_integer_value(json_object_get(info, "card_1_free_bytes")) > 0);
    assert_true(json_number_value(json_object_get(info, "card_0_from_host_GB/s")) > 0);
    assert_true(json_number_value(json_object_get(info, "card_0_to_host_GB/s")) > 0);
    json_decref(info);
    run_free(&run);

    run = ON(CARDS(1, 7, 5, 13000), "info", "-t", "1");
    assert_int_equal(run.exit_code, 0);
    assert_non_null(
        strstr(run.out, "card 0 problem          card 0 (Emulated card 0, compute capability 7.5) is too old"));
    run_free(&run);
}

// ---- memory

static void a_card_that_is_too_small(void **state) {
    (void)state;
    Run run = run_on((Machine){USUAL, .memory = 291 << 20, .arguments = ARGUMENTS(PLAN("cuda"))});
    assert_int_equal(run.exit_code, 1);
    assert_non_null(strstr(run.err, "lisa: error: the run needs 486.1 MiB of the card's memory, 485.0 MiB can be used: "
                                    "1.1 MiB are missing\n"
                                    "HINT: this would fit: cutoff_len=1024; or close other programs\n"));
    run_free(&run);
    ends_with(run_on((Machine){USUAL, .memory = 4096, .arguments = ARGUMENTS(PLAN("cuda"))}), 1,
              "lisa: error: out of memory on the card: 1.0 MiB needed, 4.0 KiB of 4.0 KiB free\n"
              "HINT: end other programs on the card (nvidia-smi lists them), or choose a smaller cutoff_len, fewer "
              "lisa_activated_layers or gradient_checkpointing=true\n");
}

// ---- a run

static void commands_compute_on_a_card(void **state) {
    (void)state;
    char *output = path_join(folder, "trained");
    Run run = ON(USUAL, TRAIN, "-o", output, "max_steps=2", "--device", "cuda");
    if (run.exit_code) fail_msg("%s", run.err);
    assert_non_null(strstr(run.err, "2 steps in "));
    run_free(&run);
    run = ON(USUAL, "eval", output, "--dataset", data, "--template", "alpaca", "-t", "1", "--device", "cuda", "--json");
    if (run.exit_code) fail_msg("%s", run.err);
    run_free(&run);
    run = ON(USUAL, "generate", output, "-p", "Count", "--raw", "-n", "3", "-c", "64", "-t", "1", "--device", "cuda");
    if (run.exit_code) fail_msg("%s", run.err);
    run_free(&run);
    free(output);
}

// Launches fail here and there: the step and the operation are named and, once there is one, the checkpoint and the
// command that goes on from it; which then does.
static void a_card_that_fails_in_a_run(void **state) {
    (void)state;
    char *output = path_join(folder, "failed"), expected[512];
    int failed = 0, kept = 0;
    for (long launch = 150; launch < 3000 && !kept; launch += 450) {
        Run run =
            run_on((Machine){USUAL, .failing_launch = launch,
                             .arguments = ARGUMENTS(TRAIN, "-o", output, "max_steps=8", "gradient_accumulation_steps=1",
                                                    "save_steps=1", "--device", "cuda")});
        if (run.exit_code == 0) break;
        failed++;
        assert_int_equal(run.exit_code, 1);
        assert_non_null(strstr(run.err, "lisa: error: step "));
        const char *fault = strstr(run.err, ": CUDA: unspecified launch failure (cudaErrorLaunchFailure), noticed at ");
        assert_non_null(fault);
        const char *saved = strstr(run.err, "is complete, this goes on from it: lisa train -m ");
        if (saved) {
            kept++;
            snprintf(expected, sizeof expected, "; %s/checkpoint-", output);
            assert_non_null(strstr(fault, expected));
            // the run of the next loop goes on from there
        }
        run_free(&run);
    }
    assert_true(failed > 0 && kept > 0);
    Run run = ON(USUAL, TRAIN, "-o", output, "max_steps=8", "gradient_accumulation_steps=1", "save_steps=1", "--device",
                 "cuda");
    if (run.exit_code) fail_msg("%s", run.err);
    assert_non_null(strstr(run.err, "resuming from "));
    run_free(&run);
    free(output);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_card_is_taken_where_there_is_one),
        cmocka_unit_test(a_card_that_cannot_be_used_is_an_error),
        cmocka_unit_test(info_lists_the_cards),
        cmocka_unit_test(a_card_that_is_too_small),
        cmocka_unit_test(commands_compute_on_a_card),
        cmocka_unit_test(a_card_that_fails_in_a_run),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
