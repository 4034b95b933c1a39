// test_save.c - a saved model is the same model: weights, configuration, shards, end tokens.
#include "base/files.h"
#include "model/save.h"
#include "tests/loaded_model.h"
#include "tests/support.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MODELS "tests/golden/models/"
#define GGUFS  "tests/golden/gguf/"

static json_t *read_json(const char *folder, const char *name) {
    Error error = {0};
    char *path = path_join(folder, name);
    json_t *value = json_read_file(path, 1 << 20, &error);
    check(value != NULL, &error);
    free(path);
    return value;
}

static uint64_t weight_bytes(const char *folder) {
    Error error = {0};
    char **names;
    size_t count;
    uint64_t bytes = 0;
    check(directory_list(folder, &names, &count, &error), &error);
    for (size_t i = 0; i < count; i++) {
        char *path = path_join(folder, names[i]);
        if (strstr(names[i], ".safetensors") && !strstr(names[i], ".json")) bytes += (uint64_t)path_size(path);
        free(path);
    }
    names_free(names, count);
    return bytes;
}

// Saves, loads what was saved and compares.
static void round_trip(const char *path, uint64_t shard_bytes) {
    Error error = {0};
    char *folder = make_folder();
    LoadedModel model, again;
    loaded_model_open(&model, path);
    SaveOptions options = {.shard_bytes = shard_bytes};
    uint64_t bytes;
    check(model_save_bytes(model.source, &model.layout, &options, &bytes, &error), &error);
    check(model_save(model.source, &model.store, &options, folder, &error), &error);
    assert_int_equal(bytes, weight_bytes(folder));
    loaded_model_open(&again, folder);
    loaded_model_equal(&model, &again);
    assert_false(model_source_rounds(again.source));
    ModelConfig a = *model.config, b = *again.config;
    if (a.rope_scaling == ROPE_LLAMA3) assert_true(a.rope_factor == b.rope_factor);
    if (a.rope_scaling == ROPE_PLAIN) a.rope_original_positions = b.rope_original_positions; // means nothing there
    if (a.rope_scaling == ROPE_LINEAR) a.rope_original_positions = b.rope_original_positions;
    assert_memory_equal(&a, &b, sizeof a);
    loaded_model_close(&model);
    loaded_model_close(&again);
    remove_folder(folder);
}

static void test_every_family_round_trips(void **state) {
    (void)state;
    static const char *const NAMES[] = {
        MODELS "llama_mha",
        MODELS "llama_tied",
        MODELS "llama_attention_bias",
        MODELS "llama_rope_linear",
        MODELS "llama_rope_llama3",
        MODELS "mistral_window",
        MODELS "qwen2",
        MODELS "qwen2_tied_window",
        GGUFS "llama_attention_bias.gguf",
        GGUFS "llama_rope_llama3.gguf",
        GGUFS "llama_rope_linear.gguf",
        GGUFS "qwen2_tied_window.gguf",
    };
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) round_trip(NAMES[i], 0);
}

static void test_shards(void **state) {
    (void)state;
    round_trip(MODELS "llama_mha", 1);    // every tensor alone
    round_trip(MODELS "llama_mha", 4096); // several in a file
    Error error = {0};
    char *folder = make_folder();
    LoadedModel model;
    loaded_model_open(&model, MODELS "llama_mha");
    SaveOptions options = {.shard_bytes = 4096};
    check(model_save(model.source, &model.store, &options, folder, &error), &error);
    json_t *index = read_json(folder, "model.safetensors.index.json");
    json_t *map = json_object_get(index, "weight_map");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")),
                     2 * model_parameters(model.config));
    const char *first = json_string_value(json_object_get(map, "model.embed_tokens.weight"));
    const char *last = json_string_value(json_object_get(map, "model.norm.weight"));
    assert_non_null(first);
    assert_memory_equal(first, "model-00001-of-", 15);
    assert_memory_equal(last + 6, first + 15, 5); // the last file's number is the number of files
    json_decref(index);
    loaded_model_close(&model);
    remove_folder(folder);
}

static void test_configuration_is_kept(void **state) {
    (void)state;
    Error error = {0};
    char *from = make_folder(), *folder = make_folder();
    copy_file(MODELS "llama_tied/model.safetensors", from, "model.safetensors", -1);
    json_t *config = read_json(MODELS "llama_tied", "config.json");
    json_object_set_new(config, "my_own_key", json_pack("{s:[i,n]}", "a", 1));
    json_object_set_new(config, "dtype", json_string("float32"));
    char *text = json_to_text(config);
    free(write_text(from, "config.json", text));
    free(
        write_text(from, "generation_config.json", "{\"do_sample\": true, \"temperature\": 0.6, \"eos_token_id\": 2}"));
    LoadedModel model;
    loaded_model_open(&model, from);

    SaveOptions options = {.eos = {5, 2}, .eos_count = 2};
    check(model_save(model.source, &model.store, &options, folder, &error), &error);
    json_t *saved = read_json(folder, "config.json"), *generation = read_json(folder, "generation_config.json");
    json_object_set_new(config, "dtype", json_string("bfloat16"));
    json_object_set_new(config, "eos_token_id", json_pack("[i,i]", 5, 2));
    assert_true(json_equal(config, saved));
    json_t *expected = json_pack("{s:b,s:f,s:[i,i]}", "do_sample", 1, "temperature", 0.6, "eos_token_id", 5, 2);
    assert_true(json_equal(expected, generation));
    json_decref(expected);
    json_decref(generation);
    json_decref(saved);
    json_decref(config);
    free(text);
    loaded_model_close(&model);
    remove_folder(from);
    remove_folder(folder);
}

static void test_configuration_is_made_from_gguf(void **state) {
    (void)state;
    Error error = {0};
    char *folder = make_folder();
    LoadedModel model;
    loaded_model_open(&model, GGUFS "llama_rope_llama3.gguf");
    SaveOptions options = {.eos = {7}, .eos_count = 1};
    check(model_save(model.source, &model.store, &options, folder, &error), &error);
    json_t *saved = read_json(folder, "config.json"), *generation = read_json(folder, "generation_config.json");
    assert_string_equal(json_string_value(json_array_get(json_object_get(saved, "architectures"), 0)),
                        "LlamaForCausalLM");
    assert_string_equal(json_string_value(json_object_get(saved, "torch_dtype")), "bfloat16");
    assert_int_equal(json_integer_value(json_object_get(saved, "eos_token_id")), 7);
    assert_int_equal(json_integer_value(json_object_get(generation, "eos_token_id")), 7);
    json_t *rope = json_object_get(saved, "rope_scaling"), *epsilon = json_object_get(saved, "rms_norm_eps");
    assert_string_equal(json_string_value(json_object_get(rope, "rope_type")), "llama3");
    double exact = json_real_value(epsilon);
    assert_true(exact == 1e-5 || exact == 1e-6); // not the float 9.99999997e-06
    json_decref(saved);
    json_decref(generation);
    loaded_model_close(&model);
    remove_folder(folder);
}

typedef struct Manifest {
    char *folder;
    size_t tensors;
} Manifest;

// What the callback is told is what a reader of the file finds.
static void compare_written(void *context, const char *file_name, const SafetensorsEntry *entry) {
    Manifest *manifest = context;
    Error error = {0};
    char *path = path_join(manifest->folder, file_name);
    SafetensorsFile file;
    check(safetensors_open(&file, path, &error), &error);
    const SafetensorsTensor *tensor = safetensors_find(&file, entry->name);
    assert_non_null(tensor);
    assert_int_equal(tensor->bytes, entry->bytes);
    assert_int_equal(safetensors_crc32(&file, tensor), entry->crc32);
    manifest->tensors++;
    safetensors_close(&file);
    free(path);
}

static void test_every_tensor_is_reported(void **state) {
    (void)state;
    Error error = {0};
    Manifest manifest = {.folder = make_folder()};
    LoadedModel model;
    loaded_model_open(&model, MODELS "llama_mha");
    SaveOptions options = {.shard_bytes = 4096, .written = compare_written, .context = &manifest};
    check(model_save(model.source, &model.store, &options, manifest.folder, &error), &error);
    assert_int_equal(manifest.tensors, 3 + 2 * 9);
    loaded_model_close(&model);
    remove_folder(manifest.folder);
}

static void test_unwritable_folder(void **state) {
    (void)state;
    Error error = {0};
    LoadedModel model;
    loaded_model_open(&model, MODELS "llama_mha");
    SaveOptions options = {0};
    assert_false(model_save(model.source, &model.store, &options, "/nonexistent/folder", &error));
    assert_non_null(strstr(error.text, "/nonexistent/folder"));
    loaded_model_close(&model);
}

// A write that fails half-way, as on a full disk: nothing is left under the file's name nor beside it.
static void test_write_fails(void **state) {
    (void)state;
    Error error = {0};
    char *folder = make_folder(), **names;
    size_t count;
    LoadedModel model;
    loaded_model_open(&model, MODELS "llama_mha");
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){4096, before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    SaveOptions options = {0};
    bool ok = model_save(model.source, &model.store, &options, folder, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_false(ok);
    assert_non_null(strstr(error.text, "model.safetensors"));
    assert_non_null(strstr(error.text, strerror(EFBIG)));
    check(directory_list(folder, &names, &count, &error), &error);
    assert_int_equal(count, 0);
    names_free(names, count);
    loaded_model_close(&model);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_family_round_trips),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_configuration_is_kept),
        cmocka_unit_test(test_configuration_is_made_from_gguf),
        cmocka_unit_test(test_every_tensor_is_reported),
        cmocka_unit_test(test_unwritable_folder),
        cmocka_unit_test(test_write_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
