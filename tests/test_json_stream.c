// test_json_stream.c - records out of JSON arrays and JSON lines: extents, places, gzip, broken files.
#include "base/files.h"
#include "base/json.h"
#include "data/json_stream.h"
#include "tests/support.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static char *folder;

static int set_up(void **state) {
    (void)state;
    folder = make_folder();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

// Reads a file of this text; the records as "line:column text|", or the error's text without the folder.
static char *read_all(const char *text) {
    Buffer out = BUFFER_EMPTY, record = BUFFER_EMPTY;
    Error error = {0};
    char *path = write_text(folder, "f.json", text);
    JsonStream *stream = json_stream_open(path, &error);
    assert_non_null(stream);
    for (;;) {
        JsonPlace place;
        bool found;
        buffer_clear(&record);
        if (!json_stream_next(stream, &record, &place, &found, &error)) {
            buffer_clear(&out);
            check(buffer_text(&out, error.text + strlen(folder) + 1, &error), &error);
            break;
        }
        if (!found) break;
        check(buffer_format(&out, &error, "%d:%d %s|", (int)place.line, (int)place.column, buffer_string(&record)),
              &error);
    }
    json_stream_close(stream);
    buffer_free(&record);
    free(path);
    return out.data ? out.data : strdup("");
}

static void expect(const char *text, const char *wanted) {
    char *got = read_all(text);
    assert_string_equal(got, wanted);
    free(got);
}

static void test_lines(void **state) {
    (void)state;
    expect("", "");
    expect(" \n\n", "");
    expect("{\"a\":1}", "1:1 {\"a\":1}|");
    expect("{\"a\":1}\n\n  {\"b\":[2]}\n", "1:1 {\"a\":1}|3:3 {\"b\":[2]}|");
    expect("\xef\xbb\xbf{}\r\n{}", "1:1 {}\r|2:1 {}|");
}

static void test_arrays(void **state) {
    (void)state;
    expect("[]", "");
    expect(" [ ] \n", "");
    expect("[{\"a\":1},{\"b\":2}]", "1:2 {\"a\":1}|1:10 {\"b\":2}|");
    expect("[\n  {\n    \"a\": \"x,]}\\\"[\"\n  },\n  3 , \"s\"\n]\n",
           "2:3 {\n    \"a\": \"x,]}\\\"[\"\n  }|5:3 3|5:7 \"s\"|");
    expect("\xef\xbb\xbf[[1],[[2],3]]", "1:2 [1]|1:6 [[2],3]|");
    expect("[\"\xc3\xa4\xe2\x82\xac\", 1]", "1:2 \"\xc3\xa4\xe2\x82\xac\"|1:8 1|"); // columns are characters
}

static void test_malformed(void **state) {
    (void)state;
    expect("[", "f.json:1:2: malformed JSON: the array has no closing ']'");
    expect("[1", "f.json:1:3: malformed JSON: the array has no closing ']'");
    expect("[1,", "f.json:1:4: malformed JSON: the array has no closing ']'");
    expect("[1,\n]", "f.json:2:1: malformed JSON: a value is missing after the comma");
    expect("[,1]", "f.json:1:2: malformed JSON: a value is missing before the comma");
    expect("[1\n 2]", "f.json:2:2: malformed JSON: ',' or ']' expected");
    expect("[1] x", "f.json:1:5: malformed JSON: nothing may follow the array");
    // what is wrong inside a value is left to the parser: the value ends where the array would make no sense any more
    expect("[{\"a\": \"x\n\"},\n{}]", "f.json:2:1: malformed JSON: ',' or ']' expected");
}

static void test_instances(void **state) {
    (void)state;
    expect("{\"type\": \"text_only\", \"instances\": [{\"text\": \"a\"},\n{}]}\n", "1:37 {\"text\": \"a\"}|2:1 {}|");
    expect("{\n \"type\" : \"x\",\n \"instances\":\n[\n] }", "");
    expect("{\"type\": \"x\", \"instances\": [] ]", "f.json:1:31: malformed JSON: '}' expected after the instances");
    expect("{\"type\": \"x\", \"instances\": []} 1", "f.json:1:32: malformed JSON: nothing may follow the array");
    // no more than a line that looks alike
    expect("{\"type\": \"x\", \"text\": \"a\"}", "1:1 {\"type\": \"x\", \"text\": \"a\"}|");
    expect("{\"type\": \"x", "1:1 {\"type\": \"x|");
    expect("{", "1:1 {|");
}

static void test_parser_sees_the_place(void **state) {
    (void)state;
    Error error = {0};
    Buffer record = BUFFER_EMPTY;
    JsonPlace place;
    bool found;
    char *path = write_text(folder, "f.json", "[{\"a\": 1},   {\"a\": x}]");
    JsonStream *stream = json_stream_open(path, &error);
    for (int i = 0; i < 2; i++) {
        buffer_clear(&record);
        check(json_stream_next(stream, &record, &place, &found, &error), &error);
    }
    assert_null(json_parse(record.data, record.size, "f.json", place.line, place.column, &error));
    assert_string_equal(error.text, "f.json:1:20: malformed JSON: invalid token near 'x'");
    json_stream_close(stream);
    buffer_free(&record);
    free(path);
}

static void test_missing_file(void **state) {
    (void)state;
    Error error = {0};
    assert_null(json_stream_open("/nonexistent/x.json", &error));
    assert_string_equal(error.text, "cannot read /nonexistent/x.json: No such file or directory");
}

// A compressed array much larger than its records: every record comes, in order, and no buffer grows with the file.
static void test_long_gzip_file(void **state) {
    (void)state;
    enum { RECORDS = 20000 };
    Error error = {0};
    char *path = path_join(folder, "long.json.gz");
    gzFile file = gzopen(path, "wb1");
    for (int i = 0; i < RECORDS; i++)
        gzprintf(file, "%c{\"n\": %d, \"pad\": \"%0*d\"}\n", i ? ',' : '[', i, i % 900 + 1, 0);
    gzprintf(file, "]");
    assert_int_equal(gzclose(file), Z_OK);

    JsonStream *stream = json_stream_open(path, &error);
    assert_non_null(stream);
    Buffer record = BUFFER_EMPTY;
    for (int64_t i = 0;; i++) {
        JsonPlace place;
        bool found;
        buffer_clear(&record);
        check(json_stream_next(stream, &record, &place, &found, &error), &error);
        if (!found) {
            assert_int_equal(i, RECORDS);
            break;
        }
        assert_int_equal(place.line, i + 1);
        json_t *value = json_parse(record.data, record.size, path, place.line, place.column, &error);
        assert_non_null(value);
        assert_int_equal(json_integer_value(json_object_get(value, "n")), i);
        json_decref(value);
    }
    assert_true(record.capacity <= 4096);
    json_stream_close(stream);
    buffer_free(&record);
    free(path);
}

static void test_cut_gzip_file(void **state) {
    (void)state;
    Error error = {0};
    char *path = path_join(folder, "cut.json.gz");
    gzFile file = gzopen(path, "wb1");
    for (int i = 0; i < 1000; i++) gzprintf(file, "{\"n\": %d}\n", i * 7919);
    assert_int_equal(gzclose(file), Z_OK);
    char *bytes;
    size_t size;
    check(file_read(path, 1 << 20, &bytes, &size, &error), &error);
    free(write_file(folder, "cut.json.gz", bytes, size / 2));
    free(bytes);
    JsonStream *stream = json_stream_open(path, &error);
    Buffer record = BUFFER_EMPTY;
    JsonPlace place;
    bool found = true, ok = true;
    while (ok && found) ok = json_stream_next(stream, &record, &place, &found, &error);
    assert_false(ok);
    assert_non_null(strstr(error.text, "cut.json.gz: "));
    assert_string_equal(error.hint, "the file is damaged or cut short; `gzip -t` checks a compressed one");
    json_stream_close(stream);
    buffer_free(&record);
    free(path);
}

static void test_record_limit(void **state) {
    (void)state;
    Error error = {0};
    size_t size = JSON_RECORD_LIMIT + 100;
    char *text = malloc(size);
    memset(text, ' ', size);
    memcpy(text, "[1,\n {", 6);
    char *path = write_file(folder, "big.json", text, size);
    free(text);
    JsonStream *stream = json_stream_open(path, &error);
    Buffer record = BUFFER_EMPTY;
    JsonPlace place;
    bool found;
    check(json_stream_next(stream, &record, &place, &found, &error), &error);
    assert_false(json_stream_next(stream, &record, &place, &found, &error));
    assert_string_equal(error.text + strlen(folder) + 1,
                        "big.json:2:2: the record that starts here is longer than 64 MiB");
    json_stream_close(stream);
    buffer_free(&record);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arrays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_instances, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_malformed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parser_sees_the_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_gzip_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_gzip_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_record_limit, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
