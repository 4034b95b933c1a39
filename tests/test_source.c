// test_source.c - opening and loading models: Hugging Face directories, GGUF files, the cache, and what is refused.
#include "base/buffer.h"
#include "base/numbers.h"
#include "base/safetensors.h"
#include "tests/loaded_model.h"
#include "tests/support.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODELS "tests/golden/models/" // made by tests/golden/make_model_golden.py
#define GGUFS  "tests/golden/gguf/"   // the same weights, made by tests/golden/make_gguf_models.py

static void expect_refused(const char *name, bool config_only, const char *text, const char *hint) {
    Error error = {0};
    ModelSource *source = model_source_open(name, config_only, &error);
    if (source) fail_msg("%s was opened", name);
    assert_string_equal(error.text, text);
    if (hint) assert_string_equal(error.hint, hint);
}

// The text with DIR replaced by a temporary folder, in one of four buffers that take turns.
static const char *in(const char *format, const char *folder) {
    static char texts[4][512];
    static int next;
    char *text = texts[next++ % 4];
    char *place = strstr(format, "DIR");
    snprintf(text, 512, "%.*s%s%s", (int)(place - format), format, folder, place + 3);
    return text;
}

static const bf16 *loaded_tensor(LoadedModel *model, int block, int index, BlockTensor *tensor) {
    BlockTensor tensors[BLOCK_TENSORS_MAX];
    assert_true(index < block_tensors(&model->layout, model->config, block, tensors));
    *tensor = tensors[index];
    return store_get(&model->store, block) + tensor->offset;
}

// Every tensor in its place: compared with the file through the container's reader alone.
static void test_hugging_face_directory(void **state) {
    (void)state;
    static const char *const NAMES[] = {"llama_mha",      "llama_tied", "llama_attention_bias", "llama_gqa_head_dim",
                                        "mistral_window", "qwen2",      "qwen2_tied_window"};
    for (size_t n = 0; n < sizeof NAMES / sizeof *NAMES; n++) {
        Error error = {0};
        char folder[128], path[192];
        snprintf(folder, sizeof folder, MODELS "%s", NAMES[n]);
        snprintf(path, sizeof path, "%s/model.safetensors", folder);
        LoadedModel model;
        loaded_model_open(&model, folder);
        assert_int_equal(model_source_kind(model.source), SOURCE_HUGGING_FACE);
        assert_string_equal(model_source_types(model.source), "bf16");
        assert_false(model_source_rounds(model.source));
        SafetensorsFile file;
        check(safetensors_open(&file, path, &error), &error);
        size_t seen = 0;
        for (int block = 0; block < block_count(&model.layout); block++) {
            BlockTensor tensors[BLOCK_TENSORS_MAX];
            int count = block_tensors(&model.layout, model.config, block, tensors);
            for (int i = 0; i < count; i++, seen++) {
                const SafetensorsTensor *stored = safetensors_find(&file, tensors[i].name);
                assert_non_null(stored);
                assert_int_equal(stored->bytes, tensors[i].rows * tensors[i].columns * 2);
                assert_memory_equal(store_get(&model.store, block) + tensors[i].offset, safetensors_data(&file, stored),
                                    stored->bytes);
            }
        }
        assert_int_equal(seen, file.count);
        safetensors_close(&file);
        loaded_model_close(&model);
    }
}

// GGUF's names, its order of query and key rows (and biases), and its spelling of the configuration.
static void test_gguf_equals_hugging_face(void **state) {
    (void)state;
    static const char *const NAMES[] = {"llama_attention_bias", "llama_rope_llama3", "llama_rope_linear",
                                        "qwen2_tied_window"};
    for (size_t n = 0; n < sizeof NAMES / sizeof *NAMES; n++) {
        char folder[128], path[128];
        snprintf(folder, sizeof folder, MODELS "%s", NAMES[n]);
        snprintf(path, sizeof path, GGUFS "%s.gguf", NAMES[n]);
        LoadedModel a, b;
        loaded_model_open(&a, folder);
        loaded_model_open(&b, path);
        assert_int_equal(model_source_kind(b.source), SOURCE_GGUF);
        assert_string_equal(model_source_types(b.source), "BF16 + F32");
        assert_true(model_source_rounds(b.source));
        loaded_model_equal(&a, &b);
        const ModelConfig *x = a.config, *y = b.config;
        assert_int_equal(x->family, y->family);
        assert_int_equal(x->head_dim, y->head_dim);
        assert_int_equal(x->max_positions, y->max_positions);
        assert_true(x->norm_epsilon == y->norm_epsilon && x->rope_theta == y->rope_theta);
        assert_int_equal(x->tied, y->tied);
        assert_int_equal(x->eos_count, y->eos_count);
        assert_memory_equal(x->eos, y->eos, sizeof x->eos);
        assert_int_equal(x->rope_scaling, y->rope_scaling);
        float tables[4][64 * 64]; // the scaling that was recovered gives the same rotations
        model_rope_tables(x, 64, tables[0], tables[1]);
        model_rope_tables(y, 64, tables[2], tables[3]);
        check_close("cosine", tables[2], tables[0], 64 * x->head_dim / 2, 1e-5);
        check_close("sine", tables[3], tables[1], 64 * x->head_dim / 2, 1e-5);
        loaded_model_close(&a);
        loaded_model_close(&b);
    }
}

// ---- directories made here: two layers, d = 8, f = 4100 (rows longer than the loader takes at once), V = 10 ----

#define CONFIG                                                                                                         \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"num_hidden_layers\":2,\"num_attention_heads\":2,\"hidden_size\":8,"   \
    "\"num_key_value_heads\":1,\"intermediate_size\":4100,\"vocab_size\":10,\"tie_word_embeddings\":true}"

typedef struct Made {
    SafetensorsEntry entries[64];
    char names[64][96];
    size_t count;
} Made;

static float made_value(size_t tensor, size_t element) {
    return noise(tensor, element) * 3;
}

// The tensors of the configuration above, all of one type.
static void made_list(Made *made, SafetensorsType type) {
    Error error = {0};
    *made = (Made){0};
    ModelConfig config;
    json_t *object = json_parse(CONFIG, strlen(CONFIG), "config.json", 1, 1, &error);
    check(model_config_from_json(&config, object, "config.json", &error), &error);
    json_decref(object);
    BlockLayout layout;
    check(block_layout(&layout, &config, &error), &error);
    for (int block = 0; block < block_count(&layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(&layout, &config, block, tensors);
        for (int i = 0; i < count; i++, made->count++) {
            SafetensorsEntry *entry = &made->entries[made->count];
            strcpy(made->names[made->count], tensors[i].name);
            *entry = (SafetensorsEntry){.name = made->names[made->count],
                                        .type = type,
                                        .dimensions = tensors[i].vector ? 1 : 2,
                                        .shape = {tensors[i].rows, tensors[i].columns},
                                        .tag = (int64_t)made->count};
            if (tensors[i].vector) entry->shape[0] = tensors[i].columns, entry->shape[1] = 0;
        }
    }
}

static void made_write(SafetensorsEntry *entries, size_t count, const char *folder, const char *name) {
    Error error = {0};
    char *path = path_join(folder, name);
    SafetensorsWriter *writer = safetensors_create(path, entries, count, &error);
    check(writer != NULL, &error);
    for (size_t t = 0; t < count; t++) {
        for (size_t e = 0; e < entries[t].bytes / safetensors_type_size(entries[t].type); e++) {
            float value = made_value((size_t)entries[t].tag, e);
            fp16 half = fp16_from_float(value);
            bf16 brain = bf16_from_float(value);
            const void *bytes = entries[t].type == SAFETENSORS_F32   ? (const void *)&value
                                : entries[t].type == SAFETENSORS_F16 ? (const void *)&half
                                                                     : (const void *)&brain;
            check(safetensors_write(writer, bytes, safetensors_type_size(entries[t].type), &error), &error);
        }
    }
    check(safetensors_finish(writer, &error), &error);
    free(path);
}

static char *made_folder(void) {
    char *folder = make_folder();
    free(write_text(folder, "config.json", CONFIG));
    return folder;
}

static void test_f32_and_f16_are_rounded(void **state) {
    (void)state;
    for (int mixed = 0; mixed < 2; mixed++) {
        char *folder = made_folder();
        Made made;
        made_list(&made, SAFETENSORS_F32);
        for (size_t i = 0; mixed && i < made.count; i += 2) made.entries[i].type = SAFETENSORS_F16;
        made_write(made.entries, made.count, folder, "model.safetensors");
        LoadedModel model;
        loaded_model_open(&model, folder);
        assert_true(model_source_rounds(model.source));
        assert_string_equal(model_source_types(model.source), mixed ? "f16 + f32" : "f32");
        size_t number = 0;
        for (int block = 0; block < block_count(&model.layout); block++)
            for (int i = 0; i < (block == 0 || block == 3 ? 1 : 9); i++, number++) {
                BlockTensor tensor;
                const bf16 *values = loaded_tensor(&model, block, i, &tensor);
                for (int64_t e = 0; e < tensor.rows * tensor.columns; e++) {
                    float value = made_value(number, (size_t)e);
                    if (mixed && number % 2 == 0) value = fp16_to_float(fp16_from_float(value));
                    assert_int_equal(values[e], bf16_from_float(value));
                }
            }
        assert_int_equal(number, made.count);
        loaded_model_close(&model);
        remove_folder(folder);
    }
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const SafetensorsEntry *)a)->name, ((const SafetensorsEntry *)b)->name);
}

static void test_shards_and_their_index(void **state) {
    (void)state;
    char *whole = made_folder(), *folder = made_folder();
    Made made, copy;
    made_list(&made, SAFETENSORS_BF16);
    made_write(made.entries, made.count, whole, "model.safetensors");
    made_list(&copy, SAFETENSORS_BF16);
    qsort(copy.entries, copy.count, sizeof *copy.entries, compare_names);
    made_write(copy.entries, 7, folder, "a.safetensors");
    made_write(copy.entries + 7, copy.count - 7, folder, "b.safetensors");
    Error error = {0};
    Buffer index = BUFFER_EMPTY;
    check(buffer_text(&index,
                      "{\"metadata\":{\"total_size\":1},\"weight_map\":{\"x.rotary_emb.inv_freq\":\"a.safetensors\"",
                      &error),
          &error);
    for (size_t i = 0; i < copy.count; i++)
        check(buffer_format(&index, &error, ",\"%s\":\"%c.safetensors\"", copy.entries[i].name, i < 7 ? 'a' : 'b'),
              &error);
    check(buffer_text(&index, "}}", &error), &error);
    free(write_text(folder, "model.safetensors.index.json", buffer_string(&index)));
    LoadedModel a, b;
    loaded_model_open(&a, whole);
    loaded_model_open(&b, folder);
    loaded_model_equal(&a, &b);
    loaded_model_close(&a);
    loaded_model_close(&b);

    char *shard = path_join(folder, "b.safetensors");
    remove(shard);
    expect_refused(folder, false, in("DIR/b.safetensors: the index names this file, but it is not there", folder),
                   "the download is not complete; download the model again");
    free(write_text(folder, "model.safetensors.index.json", "{\"weight_map\":{\"a\":\"../a.safetensors\"}}"));
    expect_refused(
        folder, false,
        in("DIR/model.safetensors.index.json: \"../a.safetensors\" is not the name of a file beside it", folder), NULL);
    free(shard);
    buffer_free(&index);
    remove_folder(folder);
    remove_folder(whole);
}

static void test_missing_and_misshapen_tensors(void **state) {
    (void)state;
    char *folder = made_folder();
    Made made;
    made_list(&made, SAFETENSORS_BF16);
    made_write(made.entries + 1, made.count - 1, folder, "model.safetensors"); // without the first
    Made all;
    made_list(&all, SAFETENSORS_BF16);
    expect_refused(
        folder, false,
        in("DIR/model.safetensors: tensor \"model.embed_tokens.weight\" of shape [10, 8] is missing", folder),
        "the weights do not belong to this configuration, or the download is not complete");
    for (size_t i = 0; i < all.count; i++)
        if (!strcmp(all.entries[i].name, "model.layers.1.mlp.down_proj.weight")) all.entries[i].shape[1] = 11;
    made_write(all.entries, all.count, folder, "model.safetensors");
    expect_refused(
        folder, false,
        in("DIR/model.safetensors: tensor \"model.layers.1.mlp.down_proj.weight\" has the shape [8, 11], but "
           "the configuration needs [8, 4100]",
           folder),
        "the weights do not belong to this configuration; download the model again");
    made_list(&all, SAFETENSORS_BF16);
    all.entries[all.count - 1].type = SAFETENSORS_I8;
    made_write(all.entries, all.count, folder, "model.safetensors");
    expect_refused(folder, false,
                   in("DIR/model.safetensors: tensor \"model.norm.weight\" is stored as I8, which is not supported "
                      "(supported: BF16, F16, F32)",
                      folder),
                   NULL);
    remove_folder(folder);
}

// A GGUF file with one tensor renamed, then with the extents of two exchanged.
static void test_gguf_tensors(void **state) {
    (void)state;
    Error error = {0};
    char *folder = make_folder(), *bytes, *path;
    size_t size;
    check(file_read(GGUFS "llama_attention_bias.gguf", 1 << 20, &bytes, &size, &error), &error);
    char *name = memmem(bytes, size, "blk.1.ffn_up.weight", 19);
    assert_non_null(name);
    name[6] = 'x';
    path = write_file(folder, "m.gguf", bytes, size);
    expect_refused(path, false, in("DIR/m.gguf: tensor \"blk.1.ffn_up.weight\" of shape [28, 24] is missing", folder),
                   "the weights do not belong to this configuration, or the download is not complete");
    name[6] = 'f';
    memcpy(name + 19 + 4, &(uint64_t){28}, 8); // after the name: dimensions, columns, rows
    memcpy(name + 19 + 12, &(uint64_t){24}, 8);
    free(path);
    path = write_file(folder, "m.gguf", bytes, size);
    expect_refused(path, false,
                   in("DIR/m.gguf: tensor \"blk.1.ffn_up.weight\" has the shape [24, 28], but the configuration needs "
                      "[28, 24]",
                      folder),
                   "the weights do not belong to this configuration; download the model again");
    free(path);
    free(bytes);
    remove_folder(folder);
}

static void test_truncated_file(void **state) {
    (void)state;
    char *folder = make_folder();
    copy_file(MODELS "llama_tied/config.json", folder, "config.json", -1);
    copy_file(MODELS "llama_tied/model.safetensors", folder, "model.safetensors", 4000);
    Error error = {0};
    assert_null(model_source_open(folder, false, &error));
    assert_non_null(strstr(error.text, in("DIR/model.safetensors: the file is truncated: its tensors need ", folder)));
    copy_file(MODELS "llama_tied/model.safetensors", folder, "model.safetensors", 100);
    assert_null(model_source_open(folder, false, &error));
    assert_non_null(strstr(error.text, in("DIR/model.safetensors: the header should be ", folder)));
    assert_string_equal(error.hint, "the file is damaged or was not downloaded completely; download it again");
    remove_folder(folder);
}

static void test_refused_names(void **state) {
    (void)state;
    char *folder = make_folder();
    expect_refused(folder, false, in("DIR: there is no config.json in this folder", folder), NULL);
    free(write_text(folder, "config.json", CONFIG));
    expect_refused(folder, false,
                   in("DIR: neither model.safetensors nor model.safetensors.index.json is there", folder), NULL);
    Error error = {0};
    ModelSource *source = model_source_open(folder, true, &error); // its configuration is enough for a plan
    check(source != NULL, &error);
    assert_int_equal(model_source_config(source)->vocabulary, 10);
    model_source_close(source);
    char *pickle = write_text(folder, "pytorch_model.bin", "x");
    expect_refused(folder, false,
                   in("DIR: pytorch_model.bin is a pickle checkpoint; reading one can run code that it contains, so it "
                      "is refused",
                      folder),
                   NULL);
    assert_null(model_source_open(pickle, false, &error));
    assert_non_null(strstr(error.text, "is a pickle checkpoint"));
    assert_non_null(strstr(error.hint, "safe_serialization=True"));
    free(pickle);
    char *text = write_text(folder, "notes.txt", "x");
    expect_refused(text, false, in("DIR/notes.txt is neither a GGUF file nor a folder", folder), NULL);
    free(text);
    expect_refused("/nonexistent/model", false, "model /nonexistent/model: no such file or folder", NULL);
    expect_refused("nonexistent/model.gguf", false, "model nonexistent/model.gguf: no such file or folder", NULL);
    remove_folder(folder);
}

static void test_hub_cache(void **state) {
    (void)state;
    char *cache = make_folder();
    setenv("HF_HUB_CACHE", cache, 1);
    expect_refused(
        "someone/tiny", false,
        in("model \"someone/tiny\" is neither a folder here nor in the local Hugging Face cache (DIR)", cache),
        "hf download someone/tiny");
    Error error = {0};
    char *snapshot = path_join(cache, "models--someone--tiny/snapshots/0123abcd");
    char *references = path_join(cache, "models--someone--tiny/refs");
    check(directory_create(snapshot, &error), &error);
    check(directory_create(references, &error), &error);
    free(write_text(references, "main", "0123abcd\n"));
    copy_file(MODELS "llama_mha/config.json", snapshot, "config.json", -1);
    copy_file(MODELS "llama_mha/model.safetensors", snapshot, "model.safetensors", -1);
    ModelSource *source = model_source_open("someone/tiny", false, &error);
    check(source != NULL, &error);
    assert_string_equal(model_source_path(source), snapshot);
    model_source_close(source);
    unsetenv("HF_HUB_CACHE");
    free(snapshot);
    free(references);
    remove_folder(cache);
}

static void test_random_weights(void **state) {
    (void)state;
    Error error = {0};
    LoadedModel a, b;
    loaded_model_open(&a, MODELS "qwen2");
    loaded_model_open(&b, MODELS "qwen2");
    check(model_random_weights(a.config, &a.store, 1, &error), &error);
    check(model_random_weights(b.config, &b.store, 1, &error), &error);
    loaded_model_equal(&a, &b);
    double sum = 0, squares = 0;
    int64_t count = 0;
    for (int block = 0; block < block_count(&a.layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int tensor_count = block_tensors(&a.layout, a.config, block, tensors);
        for (int i = 0; i < tensor_count; i++) {
            const bf16 *values = store_get(&a.store, block) + tensors[i].offset;
            bool bias = strstr(tensors[i].name, ".bias") != NULL;
            for (int64_t e = 0; e < tensors[i].rows * tensors[i].columns; e++) {
                double value = (double)bf16_to_float(values[e]);
                if (tensors[i].vector)
                    assert_true(value == (bias ? 0 : 1));
                else
                    sum += value, squares += value * value, count++;
            }
        }
    }
    // within four standard errors
    assert_true(fabs(sum / (double)count) < 4 * 0.02 / sqrt((double)count));
    assert_true(fabs(sqrt(squares / (double)count) - 0.02) < 4 * 0.02 / sqrt(2.0 * (double)count) + 0.02 * 1e-3);
    check(model_random_weights(b.config, &b.store, 2, &error), &error);
    assert_memory_not_equal(store_get(&a.store, 0), store_get(&b.store, 0), 64);
    loaded_model_close(&a);
    loaded_model_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hugging_face_directory),
        cmocka_unit_test(test_gguf_equals_hugging_face),
        cmocka_unit_test(test_f32_and_f16_are_rounded),
        cmocka_unit_test(test_shards_and_their_index),
        cmocka_unit_test(test_missing_and_misshapen_tensors),
        cmocka_unit_test(test_gguf_tensors),
        cmocka_unit_test(test_truncated_file),
        cmocka_unit_test(test_refused_names),
        cmocka_unit_test(test_hub_cache),
        cmocka_unit_test(test_random_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
