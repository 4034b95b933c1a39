// test_export_gguf.c - a model's weights in a GGUF file are the same weights: names, order of rows, types, metadata.
#include "base/files.h"
#include "model/export.h"
#include "tests/loaded_model.h"
#include "tests/support.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MODELS "tests/golden/models/"
#define GGUFS  "tests/golden/gguf/"

// Writes the model at `path` to folder/model.gguf and returns that name (caller's memory).
static char *write_gguf(const char *path, const char *base, const char *folder, GgmlType type, size_t *changed) {
    Error error = {0};
    ModelSource *source = model_source_open(path, false, &error);
    check(source != NULL, &error);
    ModelSource *other = base && strcmp(base, path) != 0 ? model_source_open(base, false, &error) : NULL;
    ThreadPool *threads = thread_pool_create(2, &error);
    GgufExport job = {.source = source, .base = other ? other : base ? source : NULL, .type = type, .threads = threads};
    GgufPlan *plan = gguf_plan_make(&job, &error);
    check(plan != NULL, &error);
    if (changed) *changed = gguf_plan_changed(plan);
    GgufMetadata metadata = GGUF_METADATA_EMPTY;
    char *to = path_join(folder, "model.gguf");
    uint64_t bytes;
    check(gguf_plan_metadata(plan, "a name", NULL, &metadata, &error), &error);
    check(gguf_plan_bytes(plan, &metadata, &bytes, &error), &error);
    check(gguf_plan_write(plan, &metadata, to, &error), &error);
    assert_int_equal(path_size(to), bytes);
    gguf_metadata_free(&metadata);
    gguf_plan_free(plan);
    thread_pool_free(threads);
    model_source_close(other);
    model_source_close(source);
    return to;
}

static int64_t integer(const GgufFile *file, const char *key) {
    Error error = {0};
    int64_t value = -1;
    check(gguf_get_integer(file, key, &value, &error), &error);
    return value;
}

// bf16 weights come back bit for bit from a BF16 file, with the same configuration.
static void bf16_round_trip(const char *path) {
    Error error = {0};
    char *folder = make_folder();
    char *file = write_gguf(path, NULL, folder, GGML_BF16, NULL);
    LoadedModel model, again;
    loaded_model_open(&model, path);
    loaded_model_open(&again, file);
    loaded_model_equal(&model, &again);
    ModelConfig a = *model.config, b = *again.config;
    b.family = a.family; // Mistral without a window is stored as llama
    memcpy(b.eos, a.eos, sizeof a.eos);
    b.bos = a.bos, b.pad = a.pad, b.eos_count = a.eos_count; // the tokenizer's part
    if (a.family == FAMILY_QWEN2) b.window = a.window, memcpy(b.windowed, a.windowed, sizeof a.windowed);
    if (a.rope_scaling != ROPE_LLAMA3) b.rope_original_positions = a.rope_original_positions; // means nothing there
    assert_memory_equal(&a, &b, sizeof a);
    loaded_model_close(&model);
    loaded_model_close(&again);

    GgufFile gguf;
    check(gguf_open(&gguf, file, &error), &error);
    GgufString name = {0};
    check(gguf_get_string(&gguf, "general.name", &name, &error), &error);
    if (!strstr(path, ".gguf")) assert_true(gguf_string_equals(name, "a name"));
    assert_int_equal(integer(&gguf, "general.file_type"), 32);
    assert_int_equal(gguf_tensor(&gguf, "output.weight") == NULL, a.tied);
    for (size_t i = 0; i < gguf.tensor_count; i++)
        assert_int_equal(gguf.tensors[i].type->type, gguf.tensors[i].dimensions == 1 ? GGML_F32 : GGML_BF16);
    gguf_close(&gguf);
    free(file);
    remove_folder(folder);
}

static void test_every_family_round_trips(void **state) {
    (void)state;
    static const char *const NAMES[] = {
        MODELS "llama_mha",
        MODELS "llama_tied",
        MODELS "llama_gqa_head_dim",
        MODELS "llama_wide_heads",
        MODELS "llama_attention_bias",
        MODELS "llama_rope_linear",
        MODELS "llama_rope_llama3",
        MODELS "mistral_window",
        MODELS "qwen2",
        MODELS "qwen2_tied_window",
        GGUFS "llama_attention_bias.gguf", // from one GGUF file into a new one
        GGUFS "qwen2_tied_window.gguf",
    };
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) bf16_round_trip(NAMES[i]);
}

// The tensors are those that gguf-py and llama.cpp's permutation make of the same directory, the rope factors too.
static void test_as_gguf_py(void **state) {
    (void)state;
    static const char *const NAMES[] = {"llama_attention_bias", "llama_rope_llama3", "llama_rope_linear",
                                        "qwen2_tied_window"};
    Error error = {0};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char from[96], reference_path[96], *folder = make_folder();
        snprintf(from, sizeof from, MODELS "%s", NAMES[i]);
        snprintf(reference_path, sizeof reference_path, GGUFS "%s.gguf", NAMES[i]);
        char *path = write_gguf(from, NULL, folder, GGML_BF16, NULL);
        GgufFile file, reference;
        check(gguf_open(&file, path, &error), &error);
        check(gguf_open(&reference, reference_path, &error), &error);
        assert_int_equal(file.tensor_count, reference.tensor_count);
        for (size_t t = 0; t < file.tensor_count; t++) {
            const GgufTensor *ours = &file.tensors[t], *theirs = &reference.tensors[t];
            assert_string_equal(ours->name, theirs->name);
            assert_int_equal(ours->type->type, theirs->type->type);
            assert_int_equal(ours->bytes, theirs->bytes);
            const unsigned char *a = file.map.data + ours->offset, *b = reference.map.data + theirs->offset;
            if (!strcmp(ours->name, "rope_freqs.weight")) // PyTorch's powf may be an ulp off
                for (int64_t e = 0; e < ours->elements; e++) {
                    float x, y;
                    memcpy(&x, a + 4 * e, 4), memcpy(&y, b + 4 * e, 4);
                    assert_true(fabsf(x - y) <= 1e-6f * y);
                }
            else
                assert_memory_equal(a, b, ours->bytes);
        }
        gguf_close(&file);
        gguf_close(&reference);
        free(path);
        remove_folder(folder);
    }
}

// The quantised blocks are those of the rows in GGUF's order; rows that fit no block become F16.
static void test_types(void **state) {
    (void)state;
    Error error = {0};
    static const GgmlType TYPES[] = {GGML_F16, GGML_Q8_0, GGML_Q4_0};
    char *folder = make_folder();
    char *plain_path = write_gguf(MODELS "llama_mha", NULL, folder, GGML_BF16, NULL);
    GgufFile plain;
    check(gguf_open(&plain, plain_path, &error), &error);
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        char *other = make_folder();
        char *path = write_gguf(MODELS "llama_mha", NULL, other, TYPES[i], NULL);
        GgufFile file;
        check(gguf_open(&file, path, &error), &error);
        assert_int_equal(integer(&file, "general.file_type"), TYPES[i] == GGML_F16 ? 1 : TYPES[i] == GGML_Q8_0 ? 7 : 2);
        assert_int_equal(integer(&file, "general.quantization_version"), TYPES[i] == GGML_F16 ? -1 : 2);
        for (size_t t = 0; t < plain.tensor_count; t++) {
            const GgufTensor *from = &plain.tensors[t], *to = &file.tensors[t];
            GgmlType type = TYPES[i];
            if (type == GGML_Q4_0 && !strcmp(from->name, "output.weight")) type = GGML_Q8_0;
            if (from->shape[from->dimensions - 1] % ggml_type_info(type)->block) type = GGML_F16;
            if (from->dimensions == 1) type = GGML_F32;
            assert_int_equal(to->type->type, type);
            float *values = calloc((size_t)from->elements, sizeof *values);
            unsigned char *bytes = calloc(to->bytes, 1);
            from->type->read(values, plain.map.data + from->offset, from->elements);
            ggml_quantise(type, bytes, values, from->elements / to->type->block);
            assert_memory_equal(bytes, file.map.data + to->offset, to->bytes);
            free(values);
            free(bytes);
        }
        gguf_close(&file);
        free(path);
        remove_folder(other);
    }
    gguf_close(&plain);
    free(plain_path);
    remove_folder(folder);
}

static void test_written_back_in_its_own_layout(void **state) {
    (void)state;
    static const char *const NAMES[] = {"llama_attention_bias", "llama_rope_llama3", "qwen2_tied_window"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char from[96], name[96], *folder = make_folder();
        snprintf(from, sizeof from, GGUFS "%s.gguf", NAMES[i]);
        snprintf(name, sizeof name, "%s.gguf", NAMES[i]);
        char *path = write_gguf(from, from, folder, GGML_BF16, NULL);
        char *named = path_join(folder, name);
        assert_int_equal(rename(path, named), 0);
        assert_same_file(GGUFS, folder, name);
        free(named);
        free(path);
        remove_folder(folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_family_round_trips),
        cmocka_unit_test(test_as_gguf_py),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_written_back_in_its_own_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
