// test_cuda_bench.c - `lisa bench` on a card: the command as it is, over the backend that the test is linked with. Its
// figures of time mean nothing under emulation; that they are there and agree with each other is what is tested.
#include "base/files.h"
#include "base/json.h"
#include "cli/command.h"
#include "tests/emulator/emulator.h"
#include "tests/support.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char config[] = "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], "
                             "\"vocab_size\": 200, \"hidden_size\": 64, \"intermediate_size\": 96, "
                             "\"num_hidden_layers\": 3, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, "
                             "\"max_position_embeddings\": 256, \"tie_word_embeddings\": false}";

// What `lisa bench` prints with these options besides --json; run in this process.
static json_t *bench(const char *folder, const char *const *arguments, int count) {
    Error error = {0};
    Options options;
    check(options_defaults(&options, &error), &error);
    check(options_parse(&options, COMMAND_BENCH, count, (char *const *)arguments, &error), &error);
    char *path = path_join(folder, "printed");
    fflush(stdout);
    int terminal = dup(STDOUT_FILENO), file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    assert_true(terminal >= 0 && file >= 0);
    assert_true(dup2(file, STDOUT_FILENO) >= 0);
    int exit_code = command_bench(&options, &error);
    fflush(stdout);
    assert_true(dup2(terminal, STDOUT_FILENO) >= 0);
    close(terminal);
    close(file);
    options_free(&options);
    check(exit_code == 0, &error);
    json_t *printed = json_read_file(path, 1 << 20, &error);
    check(printed != NULL, &error);
    free(path);
    return printed;
}

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) fail_msg("no number \"%s\"", key);
    return json_number_value(value);
}

static void test_bench(void **state) {
    (void)state;
    char *folder = make_folder(), *model = path_join(folder, "model");
    Error error = {0};
    check(directory_create(model, &error), &error);
    free(write_text(model, "config.json", config));
    const char *arguments[] = {model,
                               "--device",
                               "cuda",
                               "--json",
                               "-c",
                               "40",
                               "--per_device_train_batch_size",
                               "3",
                               "micro_batch_tokens=128",
                               "lisa_activated_layers=1"};
    json_t *found = bench(folder, arguments, sizeof arguments / sizeof *arguments);
    static const char *const phases[] = {"upload_seconds",   "forward_seconds", "head_seconds",
                                         "backward_seconds", "update_seconds",  "other_seconds"};
    static const char *const rates[] = {"library_gflop_per_second", "large_gemm_gflop_per_second",
                                        "copy_gigabytes_per_second", "update_gigabytes_per_second",
                                        "attention_gflop_per_second"};
    double sum = 0, seconds = number(found, "step_seconds");
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        assert_true(number(found, phases[i]) >= 0);
        sum += number(found, phases[i]);
    }
    assert_true(seconds > 0 && sum > 0.999999 * seconds && sum < 1.000001 * seconds);
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) assert_true(number(found, rates[i]) > 0);
    assert_string_equal(json_string_value(json_object_get(found, "backend")), "cuda");
    assert_true(number(found, "tokens") == 120 && number(found, "micro_batches") == 1);
    assert_true(number(found, "executed_gflop") > number(found, "needed_gflop")); // attention's two more products
    assert_true(number(found, "arenas_bytes") == number(found, "planned_bytes"));
    assert_true(number(found, "last_loss") < number(found, "first_loss"));
    assert_int_equal(emulator_errors(), 0);
    json_decref(found);
    free(model);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bench)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
