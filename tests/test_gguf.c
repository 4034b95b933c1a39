// test_gguf.c - the GGUF reader on a file of gguf-py's and on damaged bytes, and every tensor type's floats.
#include "base/buffer.h"
#include "base/gguf.h"
#include "tests/support.h"
#include <stdlib.h>

#define GOLDEN "tests/golden/gguf_blocks.gguf" // made by tests/golden/make_gguf_blocks.py

static void test_dequantize_as_gguf_py(void **state) {
    (void)state;
    static const char *const TYPES[] = {"F32",  "F16",  "BF16", "Q8_0", "Q4_0", "Q4_1",
                                        "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"};
    Error error = {0};
    GgufFile file;
    check(gguf_open(&file, GOLDEN, &error), &error);
    assert_int_equal(file.tensor_count, 22);
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s.float", TYPES[i]);
        const GgufTensor *tensor = gguf_tensor(&file, TYPES[i]), *reference = gguf_tensor(&file, name);
        assert_non_null(tensor);
        assert_non_null(reference);
        assert_string_equal(tensor->type->name, TYPES[i]);
        assert_int_equal(tensor->dimensions, 2);
        assert_int_equal(tensor->shape[0], 3);
        assert_int_equal(tensor->shape[1], 256);
        float out[3 * 256];
        tensor->type->read(out, file.map.data + tensor->offset, tensor->elements / tensor->type->block);
        assert_memory_equal(out, file.map.data + reference->offset, sizeof out);
    }
    assert_null(gguf_tensor(&file, "F64"));
    gguf_close(&file);
}

static void test_metadata(void **state) {
    (void)state;
    Error error = {0};
    GgufFile file;
    check(gguf_open(&file, GOLDEN, &error), &error);
    int64_t integer = 7;
    check(gguf_get_integer(&file, "test.absent", &integer, &error), &error);
    assert_int_equal(integer, 7);
    check(gguf_get_integer(&file, "test.u32", &integer, &error), &error);
    assert_int_equal(integer, 4000000000);
    check(gguf_get_integer(&file, "test.i8", &integer, &error), &error);
    assert_int_equal(integer, -5);
    check(gguf_get_integer(&file, "test.u64", &integer, &error), &error);
    assert_int_equal(integer, (int64_t)1 << 40);
    double number = 0;
    check(gguf_get_number(&file, "test.f32", &number, &error), &error);
    assert_true(number == 0.5);
    check(gguf_get_number(&file, "test.f64", &number, &error), &error);
    assert_true(number == 1e-300);
    check(gguf_get_number(&file, "test.i8", &number, &error), &error);
    assert_true(number == -5);
    bool flag = false;
    check(gguf_get_boolean(&file, "test.bool", &flag, &error), &error);
    assert_true(flag);
    GgufString string = {0};
    check(gguf_get_string(&file, "test.string", &string, &error), &error);
    assert_true(gguf_string_equals(string, "h\xc3\xa9llo"));
    assert_false(gguf_string_equals(string, "h\xc3\xa9ll"));

    const GgufValue *array;
    check(gguf_get_array(&file, "test.strings", true, &array, &error), &error);
    assert_int_equal(array->count, 3);
    size_t position = 0;
    assert_true(gguf_string_equals(gguf_array_next(array, &position), "one"));
    assert_int_equal(gguf_array_next(array, &position).size, 0);
    assert_true(gguf_string_equals(gguf_array_next(array, &position), "three"));
    assert_int_equal(position, array->size);
    check(gguf_get_array(&file, "test.integers", false, &array, &error), &error);
    assert_int_equal(gguf_array_integer(array, 2), -3);
    check(gguf_get_array(&file, "test.floats", false, &array, &error), &error);
    assert_true(gguf_array_number(array, 1) == -1.5);

    assert_false(gguf_get_integer(&file, "test.string", &integer, &error));
    assert_string_equal(error.text, GOLDEN ": metadata key \"test.string\" must be an integer");
    assert_false(gguf_get_array(&file, "test.integers", true, &array, &error));
    assert_string_equal(error.text, GOLDEN ": metadata key \"test.integers\" must be an array of strings");
    gguf_close(&file);
}

// ---- files made by hand ----

static void put_u32(Buffer *file, uint32_t value) {
    Error error = {0};
    check(buffer_append(file, &value, sizeof value, &error), &error);
}

static void put_u64(Buffer *file, uint64_t value) {
    Error error = {0};
    check(buffer_append(file, &value, sizeof value, &error), &error);
}

static void put_string(Buffer *file, const char *text) {
    Error error = {0};
    put_u64(file, strlen(text));
    check(buffer_text(file, text, &error), &error);
}

static void put_header(Buffer *file, uint32_t version, uint64_t tensors, uint64_t values) {
    Error error = {0};
    check(buffer_text(file, "GGUF", &error), &error);
    put_u32(file, version);
    put_u64(file, tensors);
    put_u64(file, values);
}

static void put_integer(Buffer *file, const char *key, uint32_t value) {
    put_string(file, key);
    put_u32(file, GGUF_UINT32);
    put_u32(file, value);
}

static void put_tensor(Buffer *file, const char *name, uint64_t columns, uint64_t rows, uint32_t type,
                       uint64_t offset) {
    put_string(file, name);
    put_u32(file, 2);
    put_u64(file, columns);
    put_u64(file, rows);
    put_u32(file, type);
    put_u64(file, offset);
}

static void put_data(Buffer *file, size_t bytes) {
    Error error = {0};
    while (file->size % 32) check(buffer_byte(file, 0, &error), &error);
    for (size_t i = 0; i < bytes; i++) check(buffer_byte(file, 0, &error), &error);
}

// Parses what was put together, expects `message` (NULL: success) and empties the buffer.
static void expect(Buffer *bytes, const char *message) {
    Error error = {0};
    GgufFile file;
    bool ok = gguf_parse(&file, bytes->data, bytes->size, "m.gguf", &error);
    if (message) {
        assert_false(ok);
        assert_string_equal(error.text, message);
        assert_true(error.hint[0] != 0);
    } else {
        check(ok, &error);
        gguf_close(&file);
    }
    buffer_clear(bytes);
}

static void test_damaged_headers(void **state) {
    (void)state;
    Error error = {0};
    Buffer file = BUFFER_EMPTY;
    check(buffer_text(&file, "PK\x03\x04 and so on", &error), &error);
    expect(&file, "m.gguf: not a GGUF file (it does not start with \"GGUF\")");
    put_header(&file, 1, 0, 0);
    expect(&file, "m.gguf: GGUF version 1 is not supported (2 and 3 are)");
    put_header(&file, 2, 0, 0);
    expect(&file, NULL);
    put_header(&file, 3, 0, UINT64_MAX / 2);
    expect(&file, "m.gguf: the file ends inside its metadata (24 bytes in all)");
    put_header(&file, 3, 1, 0);
    expect(&file, "m.gguf: the file ends inside its list of tensors (24 bytes in all)");
    put_header(&file, 3, 0, 2);
    put_integer(&file, "a", 1);
    put_integer(&file, "a", 1);
    expect(&file, "m.gguf: metadata key \"a\" occurs twice");
    put_header(&file, 3, 0, 1);
    put_string(&file, "a");
    put_u32(&file, 13);
    put_u32(&file, 0);
    expect(&file, "m.gguf: metadata key \"a\" has a value of unknown type 13");
    put_header(&file, 3, 0, 1);
    put_string(&file, "a");
    put_u32(&file, GGUF_ARRAY);
    put_u32(&file, GGUF_UINT64);
    put_u64(&file, UINT64_MAX / 4); // its bytes overflow
    expect(&file, "m.gguf: the file ends inside its metadata (49 bytes in all)");
    put_header(&file, 3, 0, 1);
    put_integer(&file, "general.alignment", 12);
    expect(&file, "m.gguf: general.alignment is 12, not a multiple of 8");
    buffer_free(&file);
}

static void test_damaged_tensors(void **state) {
    (void)state;
    Buffer file = BUFFER_EMPTY;
    put_header(&file, 3, 2, 0);
    put_tensor(&file, "a", 8, 2, GGML_F32, 0);
    put_tensor(&file, "b", 32, 1, GGML_Q8_0, 64);
    put_data(&file, 98);
    expect(&file, NULL);
    put_header(&file, 3, 1, 0);
    put_tensor(&file, "a", 8, 2, GGML_F32, 0);
    put_data(&file, 63);
    expect(&file, "m.gguf: the data of tensor \"a\" (64 bytes) does not lie inside the file (159 bytes)");
    put_header(&file, 3, 2, 0);
    put_tensor(&file, "a", 8, 2, GGML_F32, 0);
    put_tensor(&file, "b", 8, 2, GGML_F32, 32);
    put_data(&file, 96);
    expect(&file, "m.gguf: tensors \"a\" and \"b\" overlap");
    put_header(&file, 3, 2, 0);
    put_tensor(&file, "a", 8, 1, GGML_F32, 0);
    put_tensor(&file, "a", 8, 1, GGML_F32, 32);
    put_data(&file, 64);
    expect(&file, "m.gguf: tensor \"a\" occurs twice");
    put_header(&file, 3, 1, 0);
    put_tensor(&file, "a", 8, UINT64_MAX / 16, GGML_F32, 0);
    put_data(&file, 64);
    expect(&file, "m.gguf: tensor \"a\" has an impossible shape");
    put_header(&file, 3, 1, 0);
    put_tensor(&file, "a", 48, 1, GGML_Q4_0, 0);
    put_data(&file, 64);
    expect(&file, "m.gguf: tensor \"a\" has rows of 48 elements, not a multiple of Q4_0's block of 32");
    put_header(&file, 3, 1, 0);
    put_tensor(&file, "a", 256, 1, 10, 0);
    put_data(&file, 84);
    expect(&file, "m.gguf: tensor \"a\" is stored as Q2_K, which is not supported");
    put_header(&file, 3, 1, 0);
    put_tensor(&file, "a", 8, 1, GGML_F32, 8);
    put_data(&file, 64);
    expect(&file, "m.gguf: the data of tensor \"a\" does not start on a multiple of 32 bytes");
    buffer_free(&file);
}

// Every prefix of a good file is refused, or is good when only trailing data is cut.
static void test_every_truncation(void **state) {
    (void)state;
    Buffer bytes = BUFFER_EMPTY;
    put_header(&bytes, 3, 1, 1);
    put_integer(&bytes, "general.alignment", 32);
    put_tensor(&bytes, "weight", 8, 2, GGML_F32, 0);
    put_data(&bytes, 64);
    for (size_t size = 0; size < bytes.size; size++) {
        Error error = {0};
        GgufFile file;
        char *exact = malloc(size ? size : 1); // exact, so that the sanitizer sees a read beyond it
        assert_non_null(exact);
        memcpy(exact, bytes.data, size);
        assert_false(gguf_parse(&file, exact, size, "m.gguf", &error));
        free(exact);
    }
    buffer_free(&bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dequantize_as_gguf_py), cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_damaged_headers),       cmocka_unit_test(test_damaged_tensors),
        cmocka_unit_test(test_every_truncation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
