// test_gguf_write.c - the GGUF writer, and floats brought to every type that is written, against gguf-py.
#include "base/gguf_write.h"
#include "tests/support.h"
#include <math.h>
#include <stdlib.h>

#define QUANTISED "tests/golden/gguf_quantised.gguf" // made by tests/golden/make_gguf_quantised.py

static void test_quantise_as_gguf_py(void **state) {
    (void)state;
    static const char *const TYPES[] = {"F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"};
    Error error = {0};
    GgufFile file;
    check(gguf_open(&file, QUANTISED, &error), &error);
    const GgufTensor *tensor = gguf_tensor(&file, "values");
    assert_non_null(tensor);
    float values[12 * 32];
    assert_int_equal(tensor->bytes, sizeof values);
    memcpy(values, file.map.data + tensor->offset, sizeof values);
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        const GgufTensor *reference = gguf_tensor(&file, TYPES[i]);
        assert_non_null(reference);
        assert_true(ggml_can_quantise(reference->type->type));
        unsigned char bytes[sizeof values];
        ggml_quantise(reference->type->type, bytes, values, tensor->elements / reference->type->block);
        for (size_t j = 0; j < reference->bytes; j++)
            if (bytes[j] != file.map.data[reference->offset + j])
                fail_msg("%s: byte %zu is %02x, not %02x", TYPES[i], j, bytes[j], file.map.data[reference->offset + j]);
    }
    unsigned char copy[sizeof values];
    ggml_quantise(GGML_F32, copy, values, tensor->elements);
    assert_memory_equal(copy, values, sizeof values);
    assert_false(ggml_can_quantise(GGML_Q4_K) || ggml_can_quantise(GGML_Q5_K) || ggml_can_quantise(GGML_Q6_K));
    gguf_close(&file);
}

// Every half-precision number comes back, and what lies between two goes to the nearer, ties to the even one.
static void test_halves(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        float value = fp16_to_float((fp16)bits), next = fp16_to_float((fp16)(bits + 1));
        assert_int_equal(fp16_from_float(value), bits);
        assert_int_equal(fp16_from_float(-value), bits | 0x8000u);
        float middle = bits == 0x7bff ? 65520 : value / 2 + next / 2;
        assert_int_equal(fp16_from_float(middle), bits + (bits & 1));
        assert_int_equal(fp16_from_float(nextafterf(middle, 0)), bits);
        assert_int_equal(fp16_from_float(nextafterf(middle, INFINITY)), bits + 1);
    }
    assert_int_equal(fp16_from_float(1e9f), 0x7c00);
    assert_int_equal(fp16_from_float(-INFINITY), 0xfc00);
    assert_true((fp16_from_float(NAN) & 0x7fff) > 0x7c00);
}

static void put_example(GgufMetadata *metadata, uint32_t alignment) {
    Error error = {0};
    static const float scores[2] = {-1.5f, 2};
    bool ok =
        gguf_put_string(metadata, "general.architecture", "llama", &error) &&
        gguf_put_integer(metadata, "general.alignment", alignment, &error) &&
        gguf_put_number(metadata, "a.number", 0.25f, &error) && gguf_put_boolean(metadata, "a.flag", true, &error) &&
        gguf_put_array(metadata, "a.texts", GGUF_STRING, 2, &error) && gguf_put_element(metadata, "one", 3, &error) &&
        gguf_put_element(metadata, "", 0, &error) && gguf_put_array(metadata, "a.scores", GGUF_FLOAT32, 2, &error) &&
        buffer_append(&metadata->bytes, scores, sizeof scores, &error);
    check(ok, &error);
}

static void entries_make(GgufEntry entries[3]) {
    entries[0] = (GgufEntry){.name = "first", .type = ggml_type_info(GGML_F32), .dimensions = 1, .shape = {3}};
    entries[1] = (GgufEntry){.name = "second", .type = ggml_type_info(GGML_Q8_0), .dimensions = 2, .shape = {2, 64}};
    entries[2] = (GgufEntry){.name = "third", .type = ggml_type_info(GGML_BF16), .dimensions = 2, .shape = {1, 5}};
}

// What is written is what the reader finds, at the alignment asked for, and its size was known.
static void round_trip(uint32_t alignment) {
    Error error = {0};
    char *folder = make_folder();
    char *path = path_join(folder, "model.gguf");
    GgufMetadata metadata = GGUF_METADATA_EMPTY, copied = GGUF_METADATA_EMPTY;
    put_example(&metadata, alignment);
    GgufEntry entries[3];
    entries_make(entries);
    uint64_t size;
    check(gguf_file_size(&metadata, entries, 3, alignment, &size, &error), &error);
    unsigned char data[12 + 136 + 10];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i + 1);
    GgufWriter *writer = gguf_create(path, &metadata, entries, 3, alignment, &error);
    check(writer != NULL, &error);
    bool ok = gguf_write(writer, data, 12, &error) && gguf_write(writer, data + 12, 100, &error) &&
              gguf_write(writer, data + 112, 36, &error) && gguf_write(writer, data + 148, 10, &error);
    check(ok, &error);
    assert_false(path_exists(path)); // not before it is complete
    check(gguf_finish(writer, &error), &error);

    GgufFile file;
    check(gguf_open(&file, path, &error), &error);
    assert_int_equal(file.map.size, size);
    assert_int_equal(size % alignment, 0);
    size_t at = 0;
    for (int i = 0; i < 3; i++) {
        const GgufTensor *tensor = gguf_tensor(&file, entries[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->offset % alignment, 0);
        assert_int_equal(tensor->dimensions, entries[i].dimensions);
        assert_int_equal(tensor->shape[0], entries[i].shape[0]);
        assert_int_equal(tensor->bytes, entries[i].bytes);
        assert_memory_equal(file.map.data + tensor->offset, data + at, tensor->bytes);
        at += tensor->bytes;
    }
    double number = 0;
    const GgufValue *texts;
    check(gguf_get_number(&file, "a.number", &number, &error), &error);
    assert_true(number == 0.25);
    check(gguf_get_array(&file, "a.texts", true, &texts, &error), &error);
    size_t position = 0;
    assert_true(gguf_string_equals(gguf_array_next(texts, &position), "one"));
    // values copied from a file are the same bytes
    for (size_t i = 0; i < file.value_count; i++) check(gguf_put_value(&copied, &file.values[i], &error), &error);
    assert_int_equal(copied.count, metadata.count);
    assert_int_equal(copied.bytes.size, metadata.bytes.size);
    gguf_close(&file);
    gguf_metadata_free(&metadata);
    gguf_metadata_free(&copied);
    free(path);
    remove_folder(folder);
}

static void test_round_trip(void **state) {
    (void)state;
    round_trip(32);
    round_trip(8);
    round_trip(1024);
}

static void test_wrong_use(void **state) {
    (void)state;
    Error error = {0};
    char *folder = make_folder(), **names;
    size_t count;
    char *path = path_join(folder, "model.gguf");
    GgufMetadata metadata = GGUF_METADATA_EMPTY;
    GgufEntry entries[3];
    unsigned char data[200] = {0};
    put_example(&metadata, 32);
    entries_make(entries);
    GgufWriter *writer = gguf_create(path, &metadata, entries, 3, 32, &error);
    check(writer != NULL, &error);
    assert_false(gguf_write(writer, data, 13, &error)); // parts of two tensors
    assert_non_null(strstr(error.text, "more bytes than the tensors hold"));
    check(gguf_write(writer, data, 12, &error), &error);
    assert_false(gguf_finish(writer, &error));
    assert_non_null(strstr(error.text, "tensor \"second\" was not written completely"));
    check(directory_list(folder, &names, &count, &error), &error);
    assert_int_equal(count, 0);
    names_free(names, count);
    assert_null(gguf_create("/nonexistent/model.gguf", &metadata, entries, 3, 32, &error));
    assert_non_null(strstr(error.text, "/nonexistent/model.gguf"));
    entries[1].shape[0] = INT64_MAX;
    assert_null(gguf_create(path, &metadata, entries, 3, 32, &error));
    assert_string_equal(error.text, "tensor \"second\" is too large to be written");
    gguf_metadata_free(&metadata);
    free(path);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantise_as_gguf_py),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_wrong_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
