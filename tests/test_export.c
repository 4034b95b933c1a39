// test_export.c - lisa export from the command line: the three formats, what goes back and forth, and what goes wrong.
#include "base/files.h"
#include "base/gguf.h"
#include "base/json.h"
#include "base/safetensors.h"
#include "tests/loaded_model.h"
#include "tests/support.h"
#include "tests/tiny_folder.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// A model as lisa train leaves it, in folder/trained, from folder/model.
typedef struct Trained {
    char *folder;
    char *model;   // it was trained from
    char *trained; // the output folder
} Trained;

static void run_well(const char *const *arguments) {
    Run run = run_lisa(arguments);
    if (run.exit_code != 0) fail_msg("%s", run.err);
    run_free(&run);
}

#define LISA(...) run_well((const char *const[]){__VA_ARGS__, "--log_level", "warning", NULL})

static void train(Trained *t) {
    t->folder = make_folder();
    t->model = tiny_model_folder(t->folder);
    t->trained = path_join(t->folder, "trained");
    char *data = tiny_data_file(t->folder, 6);
    LISA("train", "-m", t->model, "--dataset", data, "-o", t->trained, "--template", "chatml", "--max_steps", "1",
         "--lisa_activated_layers", "1", "--learning_rate", "1e-3", "--warmup_steps", "0");
    free(data);
}

static void forget(Trained *t) {
    free(t->model);
    free(t->trained);
    remove_folder(t->folder);
}

static char *in(const Trained *t, const char *name) {
    return path_join(t->folder, name);
}

// ---- GGUF ----

static void expect_text(const GgufFile *file, const char *key, const char *expected) {
    Error error = {0};
    GgufString text = {0};
    check(gguf_get_string(file, key, &text, &error), &error);
    if (!gguf_string_equals(text, expected)) fail_msg("%s is \"%.*s\"", key, (int)text.size, text.data);
}

static void expect_integer(const GgufFile *file, const char *key, int64_t expected) {
    Error error = {0};
    int64_t value = -1;
    check(gguf_get_integer(file, key, &value, &error), &error);
    if (value != expected) fail_msg("%s is %lld", key, (long long)value);
}

static char *read_text(const char *folder, const char *name) {
    Error error = {0};
    char *path = path_join(folder, name), *text;
    size_t size;
    check(file_read(path, 1 << 20, &text, &size, &error), &error);
    free(path);
    return text;
}

static void test_gguf(void **state) {
    (void)state;
    Error error = {0};
    Trained t;
    train(&t);
    char *out = in(&t, "out"), *path = path_join(out, "trained-BF16.gguf");
    LISA("export", t.trained, "--export_dir", out);
    GgufFile file;
    check(gguf_open(&file, path, &error), &error);
    char *config = read_text(t.trained, "tokenizer_config.json");
    json_t *json = json_parse(config, strlen(config), "config", 1, 1, &error);
    expect_text(&file, "general.architecture", "llama");
    expect_text(&file, "general.name", "trained");
    expect_text(&file, "tokenizer.ggml.model", "gpt2");
    expect_text(&file, "tokenizer.ggml.pre", "gpt-2");
    expect_text(&file, "tokenizer.chat_template", json_string_value(json_object_get(json, "chat_template")));
    expect_integer(&file, "tokenizer.ggml.bos_token_id", 0);
    expect_integer(&file, "tokenizer.ggml.eos_token_id", 1); // <|eot_id|>, the tokenizer's
    expect_integer(&file, "tokenizer.ggml.eot_token_id", 6); // <|im_end|>, which chatml was trained to end with
    const GgufValue *tokens, *types;
    check(gguf_get_array(&file, "tokenizer.ggml.tokens", true, &tokens, &error), &error);
    check(gguf_get_array(&file, "tokenizer.ggml.token_type", false, &types, &error), &error);
    assert_int_equal(tokens->count, 1000); // the embedding's rows
    size_t position = 0;
    for (int id = 0; id < 1000; id++) {
        GgufString text = gguf_array_next(tokens, &position);
        assert_int_equal(gguf_array_integer(types, (uint64_t)id), id < 7 ? 3 : id < 400 ? 1 : 5);
        if (id == 6) assert_true(gguf_string_equals(text, "<|im_end|>"));
        if (id == 999) assert_true(gguf_string_equals(text, "[PAD999]"));
    }
    gguf_close(&file);

    // the same weights, and the same answer by the same template
    LoadedModel trained, exported;
    loaded_model_open(&trained, t.trained);
    loaded_model_open(&exported, path);
    loaded_model_equal(&trained, &exported);
    loaded_model_close(&trained);
    loaded_model_close(&exported);
    Run a = run_lisa((const char *const[]){"generate", t.trained, "-p", "12", "-n", "8", "--temp", "0", NULL});
    Run b = run_lisa((const char *const[]){"generate", path, "-p", "12", "-n", "8", "--temp", "0", NULL});
    assert_int_equal(a.exit_code, 0);
    assert_string_equal(a.out, b.out);
    run_free(&a);
    run_free(&b);
    json_decref(json);
    free(config);
    free(path);
    free(out);
    forget(&t);
}

static void test_modelfile(void **state) {
    (void)state;
    Trained t;
    train(&t);
    char *out = in(&t, "out");
    LISA("export", t.trained, "--export_dir", out, "--outtype", "q8_0", "--default_system", "You count.");
    char *text = read_text(out, "Modelfile");
    assert_string_equal(
        text,
        "# ollama create trained -f Modelfile\n"
        "FROM ./trained-Q8_0.gguf\n"
        "TEMPLATE \"\"\"{{ if .System }}{{ \"<|im_start|>system\\n\" }}{{ $.System }}{{ \"<|im_end|>\\n\" }}{{ end }}\n"
        "{{- $next := false }}\n"
        "{{- range $i, $_ := .Messages }}\n"
        "{{- if eq .Role \"user\" }}{{ \"<|im_start|>user\\n\" }}{{ .Content }}"
        "{{ \"<|im_end|>\\n<|im_start|>assistant\\n\" }}{{ $next = true }}\n"
        "{{- else if eq .Role \"assistant\" }}{{ .Content }}{{ \"<|im_end|>\\n\" }}\n"
        "{{- end }}\n"
        "{{- end }}\"\"\"\n"
        "SYSTEM \"\"\"You count.\"\"\"\n"
        "PARAMETER stop \"<|im_end|>\"\n"
        "PARAMETER stop \"<|eot_id|>\"\n"
        "PARAMETER num_ctx 4096\n");
    free(text);
    free(out);
    forget(&t);
}

// Fails unless both GGUF files hold the same tensors, byte for byte.
static void assert_same_tensors(const char *a, const char *b) {
    Error error = {0};
    GgufFile before, after;
    check(gguf_open(&before, a, &error), &error);
    check(gguf_open(&after, b, &error), &error);
    assert_int_equal(before.tensor_count, after.tensor_count);
    for (size_t i = 0; i < before.tensor_count; i++) {
        const GgufTensor *x = &before.tensors[i], *y = &after.tensors[i];
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->type->type, y->type->type);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(before.map.data + x->offset, after.map.data + y->offset, x->bytes);
    }
    gguf_close(&before);
    gguf_close(&after);
}

// A quantised file that is written back unchanged is the same file; what training did not touch keeps its bytes.
static void test_own_layout(void **state) {
    (void)state;
    Trained t;
    train(&t);
    char *first = in(&t, "first"), *again = in(&t, "again"), *tuned = in(&t, "tuned"), *trained = in(&t, "trained2");
    char *base = path_join(first, "model-Q8_0.gguf"), *data = tiny_data_file(t.folder, 6);
    LISA("export", t.model, "--export_dir", first, "--outtype", "q8_0", "--template", "chatml");
    LISA("export", base, "--export_dir", again);
    char *copy = path_join(again, "model-Q8_0.gguf");
    assert_true(path_exists(copy));
    assert_same_file(first, again, "model-Q8_0.gguf");

    // no step moves a weight when the learning rate is 0
    LISA("train", "-m", base, "--dataset", data, "-o", trained, "--max_steps", "1", "--learning_rate", "0");
    LISA("export", trained, "--export_dir", tuned, "--base", base);
    char *path = path_join(tuned, "trained2.gguf");
    assert_same_tensors(base, path);
    // and in a new layout of the same type
    char *fresh = in(&t, "fresh"), *fresh_path = path_join(fresh, "trained2-Q8_0.gguf");
    LISA("export", trained, "--export_dir", fresh, "--base", base, "--outtype", "q8_0");
    assert_same_tensors(base, fresh_path);
    char *texts[] = {first, again, tuned, trained, base, data, copy, path, fresh, fresh_path};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
    forget(&t);
}

// ---- Hugging Face and delta ----

static void test_hugging_face(void **state) {
    (void)state;
    static const char *const SAME[] = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                                       "tokenizer_config.json"};
    Trained t;
    train(&t);
    char *whole = in(&t, "whole"), *cut = in(&t, "cut"), *gguf = in(&t, "gguf"), *back = in(&t, "back");
    LISA("export", t.trained, "--export_dir", whole, "--export_format", "hf");
    for (size_t i = 0; i < sizeof SAME / sizeof *SAME; i++) assert_same_file(t.trained, whole, SAME[i]);
    char *card = read_text(whole, "README.md");
    assert_non_null(strstr(card, "license: # yours"));
    assert_non_null(strstr(card, "base_model: \"model\"\n"));
    assert_non_null(strstr(card, "Made from model by LISA on data.jsonl."));
    assert_non_null(strstr(card, "| `learning_rate` | 0.001 |"));
    assert_non_null(strstr(card, "After 1 steps the training loss was "));

    // cut into files of at most 50 kB, and out of a GGUF file again: the same weights
    LISA("export", t.trained, "--export_dir", cut, "--export_format", "hf", "--export_size", "0.00005");
    LISA("export", t.trained, "--export_dir", gguf);
    char *path = path_join(gguf, "trained-BF16.gguf");
    LISA("export", path, "--export_dir", back, "--export_format", "hf");
    assert_same_file(t.trained, back, "model.safetensors");
    LoadedModel a, b;
    loaded_model_open(&a, t.trained);
    loaded_model_open(&b, cut);
    loaded_model_equal(&a, &b);
    loaded_model_close(&a);
    loaded_model_close(&b);
    char *index = path_join(cut, "model.safetensors.index.json");
    assert_true(path_exists(index));
    char *texts[] = {whole, cut, gguf, back, card, path, index};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
    forget(&t);
}

static void assert_same_folders(const char *a, const char *b) {
    Error error = {0};
    char **names;
    size_t count;
    check(directory_list(b, &names, &count, &error), &error);
    assert_true(count >= 5);
    for (size_t i = 0; i < count; i++) assert_same_file(a, b, names[i]);
    names_free(names, count);
}

static void test_delta(void **state) {
    (void)state;
    Error error = {0};
    Trained t;
    train(&t);
    char *cut = in(&t, "cut"), *delta = in(&t, "delta"), *again = in(&t, "again"), *wrong = in(&t, "wrong");
    // of a model in several files, so that their cut must come back too
    LISA("export", t.trained, "--export_dir", cut, "--export_format", "hf", "--export_size", "0.00005");
    LISA("export", cut, "--export_dir", delta, "--export_format", "delta", "--base", t.model);
    LISA("export", "--base", t.model, "--delta", delta, "--export_dir", again);
    assert_same_folders(cut, again);

    // one of four layers was trained: the others are not in it
    char *path = path_join(delta, "delta.safetensors");
    SafetensorsFile file;
    check(safetensors_open(&file, path, &error), &error);
    int layers = 0;
    for (int layer = 0; layer < 4; layer++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.mlp.down_proj.weight", layer);
        layers += safetensors_find(&file, name) != NULL;
    }
    assert_int_equal(layers, 1);
    assert_non_null(safetensors_find(&file, "model.embed_tokens.weight"));
    safetensors_close(&file);

    Run run =
        run_lisa((const char *const[]){"export", "--base", t.trained, "--delta", delta, "--export_dir", wrong, NULL});
    assert_int_equal(run.exit_code, 1);
    assert_non_null(strstr(run.err, "/trained is not the model that the delta "));
    assert_non_null(strstr(run.err, "(model): the checksum of block 0 differs"));
    assert_non_null(strstr(run.err, "HINT: get model, in the very version that was trained"));
    assert_false(path_exists(wrong));
    run_free(&run);

    // a byte of the delta is altered
    int out = open(path, O_WRONLY);
    assert_true(out >= 0 && pwrite(out, "\x55\xaa", 2, path_size(path) - 2) == 2);
    close(out);
    run = run_lisa((const char *const[]){"export", "--base", t.model, "--delta", delta, "--export_dir", wrong, NULL});
    assert_int_equal(run.exit_code, 1);
    assert_non_null(strstr(run.err, "does not have the checksum that delta.json gives"));
    assert_false(path_exists(wrong));
    run_free(&run);
    char *texts[] = {cut, delta, again, wrong, path};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free(texts[i]);
    forget(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf),         cmocka_unit_test(test_modelfile), cmocka_unit_test(test_own_layout),
        cmocka_unit_test(test_hugging_face), cmocka_unit_test(test_delta),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
