// test_safetensors.c - what the writer writes the reader reads, and what is wrong with a file is said.
#include "base/buffer.h"
#include "base/safetensors.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static void test_round_trip(void **state) {
    (void)state;
    Error error = {0};
    char *folder = make_folder(), *path = path_join(folder, "a.safetensors");
    const float floats[6] = {1, -2, 3.5f, 0, 1e30f, -0.0f};
    const int16_t shorts[3] = {-1, 2, 30000};
    const uint8_t bytes[4] = {0, 1, 254, 255};
    SafetensorsEntry entries[] = {
        {.name = "bytes", .type = SAFETENSORS_U8, .dimensions = 1, .shape = {4}, .tag = 0},
        {.name = "z \"quoted\"", .type = SAFETENSORS_F32, .dimensions = 2, .shape = {2, 3}, .tag = 1},
        {.name = "empty", .type = SAFETENSORS_I64, .dimensions = 2, .shape = {0, 7}, .tag = 2},
        {.name = "shorts", .type = SAFETENSORS_I16, .dimensions = 1, .shape = {3}, .tag = 3},
        {.name = "a", .type = SAFETENSORS_F32, .dimensions = 0, .tag = 4},
    };
    const void *contents[] = {bytes, floats, NULL, shorts, floats};
    uint64_t size;
    check(safetensors_file_size(entries, 5, &size, &error), &error);
    SafetensorsWriter *writer = safetensors_create(path, entries, 5, &error);
    if (!writer) fail_msg("%s", error.text);
    static const int ORDER[] = {2, 4, 1, 3, 0}; // element size, then name
    for (int i = 0; i < 5; i++) {
        assert_int_equal(entries[i].tag, ORDER[i]);
        size_t half = entries[i].bytes / 2; // in two pieces
        const char *content = contents[entries[i].tag];
        check(safetensors_write(writer, content, half, &error), &error);
        check(safetensors_write(writer, content ? content + half : NULL, entries[i].bytes - half, &error), &error);
    }
    assert_false(safetensors_write(writer, bytes, 1, &error));
    check(safetensors_finish(writer, &error), &error);
    assert_int_equal(path_size(path), size);

    SafetensorsFile file;
    check(safetensors_open(&file, path, &error), &error);
    assert_int_equal(file.count, 5);
    for (int i = 0; i < 5; i++) {
        const SafetensorsTensor *tensor = safetensors_find(&file, entries[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->type, entries[i].type);
        assert_int_equal(tensor->dimensions, entries[i].dimensions);
        assert_memory_equal(tensor->shape, entries[i].shape, sizeof tensor->shape);
        assert_int_equal(tensor->bytes, entries[i].bytes);
        if (tensor->bytes)
            assert_memory_equal(safetensors_data(&file, tensor), contents[entries[i].tag], tensor->bytes);
        assert_int_equal(safetensors_crc32(&file, tensor), entries[i].crc32);
    }
    assert_int_equal(safetensors_crc32(&file, safetensors_find(&file, "bytes")), crc32(0, bytes, 4));
    assert_null(safetensors_find(&file, "b"));
    safetensors_close(&file);
    free(path);
    remove_folder(folder);
}

static void test_incomplete_leaves_nothing(void **state) {
    (void)state;
    Error error = {0};
    char *folder = make_folder(), *path = path_join(folder, "a.safetensors");
    SafetensorsEntry entry = {.name = "a", .type = SAFETENSORS_F32, .dimensions = 1, .shape = {2}};
    SafetensorsWriter *writer = safetensors_create(path, &entry, 1, &error);
    assert_non_null(writer);
    check(safetensors_write(writer, "1234", 4, &error), &error);
    assert_false(safetensors_finish(writer, &error));
    assert_non_null(strstr(error.text, "tensor \"a\" was not written completely"));
    char **names;
    size_t count;
    check(directory_list(folder, &names, &count, &error), &error);
    assert_int_equal(count, 0);
    names_free(names, count);
    free(path);
    remove_folder(folder);
}

// Parses a header (its length in front) followed by `data` zero bytes.
static void expect(const char *header, int64_t length, size_t data, const char *message) {
    Error error = {0};
    Buffer bytes = BUFFER_EMPTY;
    uint64_t size = length < 0 ? strlen(header) : (uint64_t)length;
    check(buffer_append(&bytes, &size, sizeof size, &error) && buffer_text(&bytes, header, &error), &error);
    for (size_t i = 0; i < data; i++) check(buffer_byte(&bytes, 0, &error), &error);
    SafetensorsFile file;
    bool ok = safetensors_parse(&file, bytes.data, bytes.size, "m.safetensors", &error);
    if (message) {
        assert_false(ok);
        assert_string_equal(error.text, message);
        assert_string_equal(error.hint,
                            strstr(message, "dtype F8_NEW")
                                ? "save the model again as bf16, f16 or f32"
                                : "the file is damaged or was not downloaded completely; download it again");
    } else {
        check(ok, &error);
        safetensors_close(&file);
    }
    buffer_free(&bytes);
}

#define ENTRY(name, shape, begin, end)                                                                                 \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" begin "," end "]}"

static void test_damaged_files(void **state) {
    (void)state;
    expect("{}", -1, 0, NULL);
    expect("{\"__metadata__\":{\"format\":\"pt\"}}  ", -1, 0, NULL);
    expect("{" ENTRY("b", "1", "8", "12") "," ENTRY("a", "2", "0", "8") "}", -1, 12, NULL);
    expect("{" ENTRY("a", "2", "0", "8") "," ENTRY("e", "0", "0", "0") "," ENTRY("f", "0", "8", "8") "}", -1, 8, NULL);

    expect("{" ENTRY("a", "2", "0", "8") "}", -1, 7,
           "m.safetensors: the file is truncated: its tensors need 8 bytes, 7 are there");
    expect("{" ENTRY("a", "2", "0", "8") "}", -1, 9, "m.safetensors: 1 bytes follow the last tensor");
    expect("{}", 3, 0, "m.safetensors: the header should be 3 bytes long, but only 2 bytes follow");
    expect("{}", INT64_MAX, 0,
           "m.safetensors: the header should be 9223372036854775807 bytes long, but only 2 bytes follow");
    expect("", -1, 0, "m.safetensors: not a safetensors file: it does not start with a header");
    expect("[1]", -1, 0, "m.safetensors: not a safetensors file: it does not start with a header");
    expect("{" ENTRY("a", "2", "4", "12") "}", -1, 12,
           "m.safetensors: there is a hole before tensor \"a\" (offset 4, the tensor before ends at 0)");
    expect("{" ENTRY("a", "2", "0", "8") "," ENTRY("b", "2", "4", "12") "}", -1, 12,
           "m.safetensors: there is an overlap before tensor \"b\" (offset 4, the tensor before ends at 8)");
    expect("{" ENTRY("a", "3", "0", "8") "}", -1, 8,
           "m.safetensors: tensor \"a\" spans 8 bytes, but its shape and dtype need 12");
    expect("{" ENTRY("a", "2", "8", "0") "}", -1, 8, "m.safetensors: tensor \"a\" has impossible data_offsets");
    expect("{" ENTRY("a", "-2", "0", "8") "}", -1, 8, "m.safetensors: tensor \"a\" has an impossible shape");
    expect("{" ENTRY("a", "4611686018427387904,4611686018427387904", "0", "8") "}", -1, 8,
           "m.safetensors: tensor \"a\" has an impossible shape");
    expect("{" ENTRY("a", "1,1,1,1,1,1,1,1,1", "0", "4") "}", -1, 4,
           "m.safetensors: tensor \"a\" has an impossible shape");
    expect("{\"a\":{\"dtype\":\"F8_NEW\",\"shape\":[1],\"data_offsets\":[0,1]}}", -1, 1,
           "m.safetensors: tensor \"a\" has the unknown dtype F8_NEW");
    expect("{\"a\":7}", -1, 0, "m.safetensors: the header's entry \"a\" is not an object");
    expect("{" ENTRY("a", "0", "0", "0") "," ENTRY("a", "0", "0", "0") "}", -1, 0,
           "safetensors header: m.safetensors:1:57: malformed JSON: duplicate object key near '\"a\"'");
}

static void test_too_short(void **state) {
    (void)state;
    Error error = {0};
    SafetensorsFile file;
    assert_false(safetensors_parse(&file, "1234567", 7, "m.safetensors", &error));
    assert_string_equal(error.text, "m.safetensors: not a safetensors file: it has only 7 bytes");
    assert_false(safetensors_open(&file, "/nonexistent/m.safetensors", &error));
    assert_non_null(strstr(error.text, "/nonexistent/m.safetensors"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_incomplete_leaves_nothing),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_too_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
