// test_cli.c - the program from outside: exit codes, what goes to stdout and what to stderr, and exact messages.
#include "base/json.h"
#include "tests/support.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN(...) run_lisa((const char *const[]){__VA_ARGS__, NULL})

static void ends_with_error(Run run, int exit_code, const char *expected) {
    assert_int_equal(run.exit_code, exit_code);
    assert_string_equal(run.err, expected);
    assert_string_equal(run.out, "");
    run_free(&run);
}

static void test_version(void **state) {
    (void)state;
    Run run = RUN("--version");
    assert_int_equal(run.exit_code, 0);
    assert_int_equal(strncmp(run.out, "lisa ", 5), 0);
    assert_non_null(strstr(run.out, "\ncompiler: "));
    assert_non_null(strstr(run.out, "\nbackends: cpu"));
    assert_string_equal(run.err, "");
    run_free(&run);
}

// The commands as `lisa --help` lists them; each has a page of its own.
static void test_help_of_each_command(void **state) {
    (void)state;
    Run list = RUN("--help");
    assert_int_equal(list.exit_code, 0);
    int commands = 0;
    for (char *line = strtok(list.out, "\n"); line; line = strtok(NULL, "\n")) {
        char name[32], usage[64];
        if (strncmp(line, "  ", 2) || sscanf(line, " %31s", name) != 1) continue;
        Run page = RUN(name, "--help");
        assert_int_equal(page.exit_code, 0);
        assert_string_equal(page.err, "");
        snprintf(usage, sizeof usage, "usage: lisa %s", name);
        assert_non_null(strstr(page.out, usage));
        assert_non_null(strstr(page.out, "-h, --help"));
        run_free(&page);
        commands++;
    }
    assert_true(commands > 0);
    run_free(&list);
}

static void test_no_command(void **state) {
    (void)state;
    Run run = run_lisa((const char *const[]){NULL});
    assert_int_equal(run.exit_code, 2);
    assert_string_equal(run.out, "");
    assert_non_null(strstr(run.err, "usage: lisa COMMAND"));
    run_free(&run);
}

static void test_wrong_use(void **state) {
    (void)state;
    ends_with_error(RUN("optoins"), 2, "lisa: error: unknown command optoins\nHINT: did you mean lisa options?\n");
    ends_with_error(RUN("42"), 2, "lisa: error: unknown command 42\nHINT: lisa --help lists the commands\n");
    ends_with_error(RUN("options", "--frobnicate"), 2,
                    "lisa: error: unknown option frobnicate\nHINT: --help lists the options\n");
}

// Of one that does not fit they are null, whatever the rest does.
static void plans_have_the_same_keys(const char *model) {
    static const char *const keys[] = {"device_bytes", "host_bytes", "disk_bytes", "layers_resident",
                                       "tokens_per_second"};
    Error error = {0};
    Run run = RUN("plan", model, "--json", "--device", "cuda", "--vram", "1GiB,64MiB", "--ram", "1GiB");
    assert_int_equal(run.exit_code, 0);
    json_t *plan = json_parse(run.out, strlen(run.out), "stdout", 1, 1, &error), *list = json_object_get(plan, "plans");
    if (!plan) fail_msg("%s", error.text);
    assert_int_equal(json_array_size(list), 2);
    for (size_t p = 0; p < 2; p++) {
        json_t *one = json_array_get(list, p);
        assert_int_equal(json_is_true(json_object_get(one, "fits")), p == 0);
        assert_int_equal(json_integer_value(json_object_get(one, "vram_bytes")), p ? 64 << 20 : 1 << 30);
        assert_true(json_is_array(json_object_get(one, "components")));
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
            json_t *value = json_object_get(one, keys[k]);
            assert_true(p ? json_is_null(value) : json_is_number(value));
        }
    }
    json_decref(plan);
    run_free(&run);
}

// A model is needed as soon as memory is asked for; config.json is all of it that is read.
static void test_plan(void **state) {
    (void)state;
    ends_with_error(RUN("plan"), 2,
                    "lisa: error: model_name_or_path is not given\nHINT: add model_name_or_path=MODEL: a Hugging Face "
                    "directory, a GGUF file, or an id in the local Hugging Face cache\n");
    char *folder = make_folder();
    char *config = write_text(folder, "config.json",
                              "{\"model_type\": \"llama\", \"vocab_size\": 64, \"hidden_size\": 32, "
                              "\"intermediate_size\": 48, \"num_hidden_layers\": 3, \"num_attention_heads\": 4}");
    Run run = RUN("plan", folder, "--json");
    assert_int_equal(run.exit_code, 0);
    assert_string_equal(run.err, "");
    Error error = {0};
    json_t *plan = json_parse(run.out, strlen(run.out), "stdout", 1, 1, &error);
    if (!plan) fail_msg("%s", error.text);
    json_int_t sum = 0;
    size_t i;
    json_t *part;
    json_t *first = json_array_get(json_object_get(plan, "plans"), 0);
    assert_true(json_is_true(json_object_get(first, "fits")));
    json_array_foreach(json_object_get(first, "components"), i, part) sum +=
        json_integer_value(json_object_get(part, "device_bytes"));
    assert_true(sum > 0);
    assert_int_equal(json_integer_value(json_object_get(first, "device_bytes")), sum);
    assert_true(json_integer_value(json_object_get(plan, "workspace_bytes")) > 0);
    json_decref(plan);
    run_free(&run);
    plans_have_the_same_keys(folder);
    ends_with_error(RUN("plan", folder, "lisa_activated_layers=4"), 2,
                    "lisa: error: lisa_activated_layers: 4 is more than the model's 3 layers\n"
                    "HINT: choose 0 to 3, or train all of them with finetuning_type=full\n");
    free(config);
    remove_folder(folder);
}

static void test_info(void **state) {
    (void)state;
    Run run = RUN("info", "--json", "-t", "1");
    assert_int_equal(run.exit_code, 0);
    Error error = {0};
    json_t *info = json_parse(run.out, strlen(run.out), "stdout", 1, 1, &error);
    if (!info) fail_msg("%s", error.text);
    assert_int_equal(strncmp(json_string_value(json_object_get(info, "backends")), "cpu", 3), 0);
    assert_true(json_is_integer(json_object_get(info, "cards")));
    assert_int_equal(json_integer_value(json_object_get(info, "threads")), 1);
    json_decref(info);
    run_free(&run);

    setenv("HF_HUB_CACHE", "/nowhere", 1);
    ends_with_error(RUN("info", "some/model"), 1,
                    "lisa: error: model \"some/model\" is neither a folder here nor in the local Hugging Face cache "
                    "(/nowhere)\nHINT: hf download some/model\n");
    unsetenv("HF_HUB_CACHE");
}

// A full disk behind stdout is not silently a success.
static void test_stdout_that_cannot_be_written(void **state) {
    (void)state;
    const char *program = getenv("LISA");
    char command[512];
    snprintf(command, sizeof command, "'%s' options >/dev/full 2>/dev/null", program ? program : "./lisa");
    int status = system(command);
    assert_true(status != -1 && status != 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_help_of_each_command),
        cmocka_unit_test(test_no_command),
        cmocka_unit_test(test_wrong_use),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_stdout_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
