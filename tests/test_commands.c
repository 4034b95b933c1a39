// test_commands.c - the commands from outside on a small random model: what they print, and that they agree.
#include "base/files.h"
#include "base/json.h"
#include "tests/support.h"
#include "tests/tiny_folder.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN(...) run_lisa((const char *const[]){__VA_ARGS__, NULL})

static char *folder, *model, *data;

static int set_up(void **state) {
    (void)state;
    folder = make_folder();
    model = tiny_model_folder(folder);
    data = tiny_data_file(folder, 24);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(data);
    free(model);
    remove_folder(folder);
    return 0;
}

// The JSON object that a successful run printed; the run is freed.
static json_t *object_of(Run run) {
    Error error = {0};
    if (run.exit_code) fail_msg("exit code %d: %s", run.exit_code, run.err);
    json_t *object = json_parse(run.out, strlen(run.out), "stdout", 1, 1, &error);
    if (!object) fail_msg("%s", error.text);
    run_free(&run);
    return object;
}

static int64_t integer(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) fail_msg("no number \"%s\"", key);
    return json_integer_value(value);
}

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) fail_msg("no number \"%s\"", key);
    return json_number_value(value);
}

static void test_info(void **state) {
    (void)state;
    json_t *info = object_of(RUN("info", model, "--json"));
    assert_string_equal(json_string_value(json_object_get(info, "family")), "llama");
    assert_int_equal(integer(info, "layers"), 4);
    assert_int_equal(integer(info, "vocabulary"), 1000);
    // E, four layers of q, k, v, o, gate, up, down and two norms, the final norm
    assert_int_equal(integer(info, "parameters"), 1000 * 32 + 4 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 64) + 32);
    json_decref(info);
}

static void test_generate(void **state) {
    (void)state;
    json_t *first = object_of(RUN("generate", model, "-p", "hello", "--template", "alpaca", "-n", "9", "--json"));
    json_t *again = object_of(
        RUN("generate", model, "-p", "hello", "--template", "alpaca", "-n", "9", "--json", "-t", "3", "--seed", "42"));
    assert_string_equal(json_string_value(json_object_get(first, "text")),
                        json_string_value(json_object_get(again, "text")));
    assert_true(integer(first, "new_tokens") <= 9);
    json_decref(first);
    json_decref(again);
    // the text streamed is the text reported
    json_t *reported = object_of(RUN("generate", model, "-p", "hello", "--raw", "-n", "12", "--temp", "0", "--json"));
    Run streamed = RUN("generate", model, "-p", "hello", "--raw", "-n", "12", "--temp", "0");
    const char *text = json_string_value(json_object_get(reported, "text"));
    assert_int_equal(strncmp(streamed.out, text, strlen(text)), 0);
    run_free(&streamed);
    json_decref(reported);
}

// ---- a conversation

static Run chat(const char *input, const char *const *more) {
    const char *arguments[16] = {"chat", model, "-n", "2"};
    for (int i = 0; more[i]; i++) arguments[4 + i] = more[i];
    return run_lisa_on(input, arguments);
}

#define CHAT(input, ...) chat(input, (const char *const[]){__VA_ARGS__, NULL})

// Checks that the conversation printed has the given roles and texts; a text NULL may be anything.
static void talk_is(Run run, int count, const char *const (*expected)[2]) {
    json_t *talk = object_of(run), *messages = json_object_get(talk, "messages");
    assert_int_equal(json_array_size(messages), count);
    for (int i = 0; i < count; i++) {
        const json_t *message = json_array_get(messages, (size_t)i);
        assert_string_equal(json_string_value(json_object_get(message, "role")), expected[i][0]);
        const char *text = json_string_value(json_object_get(message, "content"));
        assert_non_null(text);
        if (expected[i][1]) assert_string_equal(text, expected[i][1]);
    }
    json_decref(talk);
}

static void test_chat(void **state) {
    (void)state;
    // Random weights cut answers inside characters; the next question must be answered all the same.
    for (int seed = 1; seed <= 8; seed++) {
        char text[4];
        snprintf(text, sizeof text, "%d", seed);
        talk_is(CHAT("one\n\ntwo\nthree\n", "--template", "alpaca", "--seed", text, "--json"), 6,
                (const char *const[][2]){{"user", "one"},
                                         {"assistant", NULL},
                                         {"user", "two"},
                                         {"assistant", NULL},
                                         {"user", "three"},
                                         {"assistant", NULL}});
    }
    talk_is(CHAT("one\n/reset\ntwo\n/exit\nthree\n", "--template", "alpaca", "--json"), 2,
            (const char *const[][2]){{"user", "two"}, {"assistant", NULL}});
    talk_is(CHAT("one\n/system Be brief.\n", "--template", "alpaca", "--json"), 0, NULL);
    Run run = CHAT("/system Be brief.\n/what\n", "--template", "alpaca");
    assert_string_equal(run.err, "(system text set, new conversation)\n"
                                 "/reset starts anew, /system TEXT sets the system text, /exit leaves\n");
    run_free(&run);
    run = CHAT("\xff\n", "--template", "alpaca");
    assert_string_equal(run.err, "that is not UTF-8 text\n/reset starts anew\n");
    assert_string_equal(run.out, "");
    run_free(&run);
}

// Without a template a conversation is one text: a line in it is what `generate --raw` says to that text.
static void test_raw_chat(void **state) {
    (void)state;
    Run said = CHAT("count to\n", "--raw", "--temp", "0");
    json_t *first = object_of(RUN("generate", model, "--raw", "-p", "count to", "-n", "2", "--temp", "0", "--json"));
    const char *answer = json_string_value(json_object_get(first, "text"));
    assert_int_equal(strncmp(said.out, answer, strlen(answer)), 0);
    assert_string_equal(said.out + strlen(answer), "\n");
    run_free(&said);
    char both[128];
    snprintf(both, sizeof both, "count to%s\nmore", answer);
    json_t *second = object_of(RUN("generate", model, "--raw", "-p", both, "-n", "2", "--temp", "0", "--json"));
    talk_is(CHAT("count to\nmore\n", "--raw", "--temp", "0", "--json"), 4,
            (const char *const[][2]){{"user", "count to"},
                                     {"assistant", answer},
                                     {"user", "more"},
                                     {"assistant", json_string_value(json_object_get(second, "text"))}});
    json_decref(second);
    json_decref(first);
    Run run = CHAT("/system Be brief.\n", "--raw");
    assert_string_equal(run.err, "(plain text has no system text)\n");
    run_free(&run);
}

static void test_preview(void **state) {
    (void)state;
    json_t *preview = object_of(
        RUN("preview", "-m", model, "--template", "alpaca", "--dataset", data, "--json", "preview_samples=2"));
    assert_int_equal(integer(preview, "records"), 24);
    assert_int_equal(integer(preview, "examples"), 24);
    json_t *shown = json_object_get(preview, "shown");
    assert_int_equal(json_array_size(shown), 2);
    json_t *parts = json_object_get(json_array_get(shown, 1), "parts"), *answer = json_array_get(parts, 1);
    assert_true(json_is_true(json_object_get(answer, "trained")));
    assert_non_null(strstr(json_string_value(json_object_get(answer, "text")), "1 is what you get"));
    json_decref(preview);
    // without a terminal what is learned stands in brackets
    Run run = RUN("preview", "-m", model, "--template", "alpaca", "--dataset", data, "preview_samples=1");
    assert_int_equal(run.exit_code, 0);
    assert_non_null(strstr(run.out, "\xe2\x9f\xa6"
                                    "0 is what you get"));
    assert_null(strchr(run.out, '\x1b'));
    run_free(&run);
}

// ---- training

// A short run into `output`; 12 steps over two epochs.
#define TRAIN_ARGUMENTS                                                                                                \
    "train", "-m", model, "--template", "alpaca", "--dataset", data, "lr=1e-2", "gradient_accumulation_steps=4",       \
        "lisa_interval_steps=2", "num_train_epochs=2", "lisa_activated_layers=1", "--json"

static void test_train_then_evaluate(void **state) {
    (void)state;
    char *output = path_join(folder, "trained"), *metrics = path_join(output, "metrics.jsonl"), *lines;
    Error error = {0};
    size_t size;
    json_t *result = object_of(RUN(TRAIN_ARGUMENTS, "-o", output, "--eval-dataset", data));
    assert_int_equal(integer(result, "steps"), 12);
    assert_false(json_is_true(json_object_get(result, "stopped")));
    // 12 steps, and evaluations before the first, after each epoch
    check(file_read(metrics, 1 << 20, &lines, &size, &error), &error);
    int count = 0;
    for (const char *at = lines; (at = strchr(at, '\n')); at++) count++;
    assert_int_equal(count, 15);
    assert_non_null(strstr(lines, "\"eval_loss\""));
    // the model that was written is the model that was evaluated
    json_t *evaluation = object_of(RUN("eval", output, "--template", "alpaca", "--dataset", data, "--json"));
    assert_true(number(evaluation, "loss") == number(result, "eval_loss"));
    json_t *before = object_of(RUN("eval", model, "--template", "alpaca", "--dataset", data, "--json"));
    assert_true(number(evaluation, "loss") < number(before, "loss") - 0.5);
    json_decref(before);
    json_decref(evaluation);
    json_decref(result);
    // once more: nothing is left to do
    Run again = RUN(TRAIN_ARGUMENTS, "-o", output, "--eval-dataset", data);
    assert_int_equal(again.exit_code, 0);
    assert_non_null(strstr(again.err, "all 12 steps were done already\n"));
    run_free(&again);
    // other mathematics in the same folder
    again = RUN(TRAIN_ARGUMENTS, "-o", output, "--eval-dataset", data, "lisa_interval_steps=3");
    assert_int_equal(again.exit_code, 1);
    assert_non_null(strstr(again.err, "was made with lisa_interval_steps 2, this run has 3\n"));
    run_free(&again);
    free(lines);
    free(metrics);
    free(output);
}

// Texts are trained with the tokenizer's EOS (id 1); the model's configuration says nothing, so transformers takes 2.
static void test_eos_of_texts(void **state) {
    (void)state;
    char *text = write_text(folder, "text.txt", "Once upon a time there was a king.\n");
    char *output = path_join(folder, "told");
    json_decref(object_of(RUN("train", "-m", model, "--dataset", text, "-o", output, "max_steps=1", "--json")));
    json_t *info = object_of(RUN("info", output, "--json")), *eos = json_object_get(info, "eos");
    assert_int_equal(json_array_size(eos), 1);
    assert_int_equal(json_integer_value(json_array_get(eos, 0)), 1);
    json_decref(info);
    free(output);
    free(text);
}

// The phases of the step that is reported make up its time, and what is derived agrees with what it is derived from.
static void check_bench_figures(const json_t *bench) {
    static const char *const phases[] = {"upload_seconds",   "forward_seconds", "head_seconds",
                                         "backward_seconds", "update_seconds",  "other_seconds"};
    static const char *const positive[] = {"library_gflop_per_second",   "large_gemm_gflop_per_second",
                                           "copy_gigabytes_per_second",  "update_gigabytes_per_second",
                                           "attention_gflop_per_second", "attention_forward_seconds",
                                           "attention_backward_seconds", "efficiency",
                                           "efficiency_to_large_gemm",   "executed_gflop_per_second"};
    double sum = 0, seconds = number(bench, "step_seconds");
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        assert_true(number(bench, phases[i]) > 0);
        sum += number(bench, phases[i]);
    }
    assert_true(fabs(sum - seconds) < 1e-9 * seconds);
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++) assert_true(number(bench, positive[i]) > 0);
    assert_true(number(bench, "least_step_seconds") <= seconds && seconds <= number(bench, "most_step_seconds"));
    assert_true(integer(bench, "steps") >= 5);
    assert_true(fabs(number(bench, "tokens_per_second") * seconds / (double)integer(bench, "tokens") - 1) < 1e-9);
    assert_true(fabs(number(bench, "step_gflop_per_second") * seconds / number(bench, "needed_gflop") - 1) < 1e-9);
}

// The run takes what the plan says, to the byte.
static void test_bench(void **state) {
    (void)state;
    json_t *bench = object_of(RUN("bench", model, "-c", "256", "micro_batch_tokens=256", "--json"));
    json_t *plan = object_of(RUN("plan", model, "-c", "256", "micro_batch_tokens=256", "gradient_checkpointing=false",
                                 "gradient_accumulation_steps=1", "--json"));
    assert_int_equal(integer(bench, "arenas_bytes"), integer(bench, "planned_bytes"));
    json_t *first = json_array_get(json_object_get(plan, "plans"), 0);
    assert_int_equal(integer(bench, "planned_bytes"), integer(first, "device_bytes") + integer(first, "host_bytes"));
    assert_int_equal(integer(bench, "micro_batches"), 1);
    assert_true(integer(bench, "tokens") <= 256 && integer(bench, "tokens") > 0);
    check_bench_figures(bench);
    json_decref(plan);
    json_decref(bench);
}

// Runs of a shape: so many sequences of exactly so many tokens, all learned, with what is computed again counted.
static void test_bench_shapes(void **state) {
    (void)state;
    json_t *bench = object_of(RUN("bench", model, "--random_weights", "--cutoff_len", "100",
                                  "--per_device_train_batch_size", "5", "micro_batch_tokens=256", "--json"));
    assert_int_equal(integer(bench, "sequences"), 5);
    assert_int_equal(integer(bench, "tokens"), 500);
    assert_int_equal(integer(bench, "targets"), 5 * 99);
    assert_int_equal(integer(bench, "micro_batches"), 3);
    assert_true(number(bench, "executed_gflop") == number(bench, "needed_gflop"));
    check_bench_figures(bench);
    json_t *again = object_of(RUN("bench", model, "-c", "100", "--per_device_train_batch_size", "5", "-t", "1",
                                  "gradient_checkpointing=true", "micro_batch_tokens=256", "--json"));
    assert_true(number(again, "needed_gflop") == number(bench, "needed_gflop"));
    assert_true(number(again, "executed_gflop") > 1.1 * number(again, "needed_gflop"));
    assert_true(number(again, "first_loss") == number(bench, "first_loss"));
    json_t *full = object_of(RUN("bench", model, "-c", "100", "--per_device_train_batch_size", "5",
                                 "finetuning_type=full", "random_weights=false", "--json"));
    assert_string_equal(json_string_value(json_object_get(full, "finetuning_type")), "full");
    assert_null(json_object_get(full, "lisa_activated_layers"));
    assert_true(number(full, "needed_gflop") > number(bench, "needed_gflop"));
    // the model's own weights are random too, of another seed
    assert_true(number(full, "first_loss") != number(bench, "first_loss"));
    json_decref(full);
    json_decref(again);
    json_decref(bench);
}

// ---- wrong use

static void ends_with(Run run, int exit_code, const char *expected) {
    assert_string_equal(run.err, expected);
    assert_int_equal(run.exit_code, exit_code);
    assert_string_equal(run.out, "");
    run_free(&run);
}

static void test_messages(void **state) {
    (void)state;
    char *output = path_join(folder, "nothing"), expected[1024];
    ends_with(RUN("bench", "random_weights=false"), 2,
              "lisa: error: random_weights=false is given without a model\n"
              "HINT: add -m MODEL, whose weights are loaded\n");
    ends_with(RUN("train", "-m", model, "--dataset", "/nowhere.json"), 2,
              "lisa: error: output_dir is not given\nHINT: add output_dir=FOLDER: where checkpoints, metrics and the "
              "trained model go\n");
    snprintf(
        expected, sizeof expected,
        "lisa: error: %s: there is no template \"nonesuch\"\nHINT: choose the template with template=NAME, one of ",
        model);
    Run run = RUN("generate", model, "-p", "x", "--template", "nonesuch");
    assert_int_equal(run.exit_code, 2);
    assert_int_equal(strncmp(run.err, expected, strlen(expected)), 0);
    run_free(&run);
    ends_with(RUN("generate", model, "--raw", "-p", "\xff"), 2,
              "lisa: error: prompt: not UTF-8 text\nHINT: convert it first, as in: iconv -f LATIN1 -t UTF-8 prompt.txt "
              "| lisa generate ...\n");
    ends_with(RUN("generate", model, "--raw", "-p", ""), 2,
              "lisa: error: prompt: empty\nHINT: add -p \"the beginning of a text\", or leave out --raw\n");
    run = RUN("train", "-m", model, "--template", "alpaca", "--dataset", data, "-o", output, "memory_limit=64K");
    assert_int_equal(run.exit_code, 1);
    assert_non_null(strstr(run.err, "of memory, 64.0 KiB can be used: "));
    run_free(&run);
    assert_false(path_exists(output)); // nothing is left behind
    run = RUN("generate", model, "--raw", "-p", "x", "vram=64K");
    assert_int_equal(run.exit_code, 1);
    assert_non_null(strstr(run.err, " of memory to speak, 64.0 KiB can be used: "));
    assert_non_null(strstr(run.err, "raise vram"));
    run_free(&run);
    free(output);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info),     cmocka_unit_test(test_generate),
        cmocka_unit_test(test_preview),  cmocka_unit_test(test_train_then_evaluate),
        cmocka_unit_test(test_bench),    cmocka_unit_test(test_bench_shapes),
        cmocka_unit_test(test_messages), cmocka_unit_test(test_eos_of_texts),
        cmocka_unit_test(test_chat),     cmocka_unit_test(test_raw_chat),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
