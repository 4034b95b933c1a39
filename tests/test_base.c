// test_base.c - buffers, numbers, random numbers, threads, files, JSON.
#include "base/utf8.h"
#include "tests/support.h"

#include "base/buffer.h"
#include "base/files.h"
#include "base/json.h"
#include "base/numbers.h"
#include "base/random.h"
#include "base/threads.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void buffer_grows_and_stays_terminated(void **state) {
    (void)state;
    Buffer buffer = BUFFER_EMPTY;
    Error error = {0};
    assert_string_equal(buffer_string(&buffer), "");
    for (int i = 0; i < 1000; i++) check(buffer_format(&buffer, &error, "%d,", i), &error);
    assert_int_equal(buffer.size, 3890);
    assert_int_equal(strlen(buffer.data), 3890);
    buffer_clear(&buffer);
    check(buffer_text(&buffer, "ab", &error) && buffer_byte(&buffer, 'c', &error), &error);
    assert_string_equal(buffer_string(&buffer), "abc");
    buffer_free(&buffer);
}

static void every_half_survives_the_way_through_float(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        fp16 half = (fp16)bits;
        float value = fp16_to_float(half);
        if (isnan(value))
            assert_true((fp16_from_float(value) & 0x7c00) == 0x7c00 && (fp16_from_float(value) & 0x3ff));
        else
            assert_int_equal(fp16_from_float(value), half);
        bf16 brain = (bf16)bits;
        if (!isnan(bf16_to_float(brain))) assert_int_equal(bf16_from_float(bf16_to_float(brain)), brain);
    }
    assert_int_equal(fp16_from_float(65519.0f), 0x7bff);
    assert_int_equal(fp16_from_float(65520.0f), 0x7c00);
    assert_int_equal(fp16_from_float(0x1p-25f), 0);   // a tie goes to even
    assert_int_equal(fp16_from_float(0x1.8p-24f), 2); // a tie among subnormal numbers
    assert_int_equal(fp16_from_float(1.0f + 0x1p-11f), 0x3c00);
    assert_int_equal(bf16_from_float(1.0f + 0x1p-8f), 0x3f80);
    assert_int_equal(bf16_from_float(1.0f + 0x3p-8f), 0x3f82);
}

static void sizes_are_read_and_written(void **state) {
    (void)state;
    uint64_t bytes;
    char text[16];
    assert_true(parse_bytes("8GiB", &bytes) && bytes == 8ull << 30);
    assert_true(parse_bytes("8G", &bytes) && bytes == 8ull << 30);
    assert_true(parse_bytes("1.5g", &bytes) && bytes == 3ull << 29);
    assert_true(parse_bytes("22.3 GiB", &bytes) && bytes == (uint64_t)(22.3 * 0x1p30));
    assert_true(parse_bytes("512MB", &bytes) && bytes == 512ull << 20);
    assert_true(parse_bytes("1000", &bytes) && bytes == 1000);
    assert_false(parse_bytes("8GiBs", &bytes));
    assert_false(parse_bytes("-1", &bytes));
    assert_false(parse_bytes("", &bytes));
    assert_false(parse_bytes("1e30", &bytes));
    assert_false(parse_bytes("nan", &bytes));
    assert_string_equal(format_bytes(text, 1023), "1023 B");
    assert_string_equal(format_bytes(text, 1536), "1.5 KiB");
    assert_string_equal(format_bytes(text, 23ull << 30), "23.0 GiB");
    assert_string_equal(format_bytes(text, (1ull << 40) - 1), "1024 GiB");
}

static void permutations_are_permutations(void **state) {
    (void)state;
    int64_t order[100], seen[100] = {0}, first[3] = {0};
    random_permutation(random_key(1, RANDOM_SHUFFLE, 0, 0), order, 100);
    for (int i = 0; i < 100; i++) seen[order[i]]++;
    for (int i = 0; i < 100; i++) assert_int_equal(seen[i], 1);
    for (uint64_t epoch = 0; epoch < 3000; epoch++) {
        random_permutation(random_key(1, RANDOM_SHUFFLE, epoch, 0), order, 3);
        first[order[0]]++;
    }
    for (int i = 0; i < 3; i++) assert_in_range(first[i], 900, 1100);
}

static void normal_numbers_have_their_moments(void **state) {
    (void)state;
    const int count = 200000;
    double sum = 0, squares = 0, fourth = 0;
    for (int i = 0; i < count; i++) {
        double x = (double)random_normal(7, (uint64_t)i);
        assert_true(x >= -6 && x <= 6);
        sum += x, squares += x * x, fourth += x * x * x * x;
    }
    // within four standard errors; the fourth moment of a sum of twelve is 2.9, that of a normal distribution 3
    assert_true(fabs(sum / count) < 4 / sqrt(count));
    assert_true(fabs(squares / count - 1) < 4 * sqrt(2.0 / count));
    assert_true(fabs(fourth / count - 2.9) < 4 * sqrt(96.0 / count));
    assert_true(random_normal(7, 0) != random_normal(7, 1) && random_normal(7, 0) != random_normal(8, 0));
}

typedef struct Visits {
    int *count;
    int largest_worker;
} Visits;

static void visit(void *context, int64_t index, int worker) {
    Visits *visits = context;
    visits->count[index]++;
    if (worker > visits->largest_worker) visits->largest_worker = worker;
}

static void every_index_is_visited_once(void **state) {
    (void)state;
    Error error = {0};
    int count[257];
    for (int threads = 1; threads <= 5; threads++) {
        ThreadPool *pool = thread_pool_create(threads, &error);
        check(pool, &error);
        assert_int_equal(thread_pool_size(pool), threads);
        for (int round = 0; round < 200; round++) {
            memset(count, 0, sizeof count);
            Visits visits = {count, 0};
            thread_pool_run(pool, round + 1, visit, &visits);
            for (int i = 0; i < 257; i++) assert_int_equal(count[i], i <= round);
            assert_true(visits.largest_worker < threads);
        }
        thread_pool_free(pool);
    }
    assert_null(thread_pool_create(-1, &error));
    assert_string_equal(error.text, "threads: -1 is out of range (1 to 1024)");
}

static void files_appear_complete_or_not_at_all(void **state) {
    (void)state;
    Error error = {0};
    char *folder = make_folder(), *path = path_join(folder, "a/b/file.txt"), *parent = path_join(folder, "a/b");
    assert_false(file_write_atomic(path, "x", 1, &error));
    assert_string_equal(error.hint, "check the path");
    check(directory_create(parent, &error), &error);
    check(directory_create(parent, &error), &error);
    check(file_write_atomic(path, "first", 5, &error), &error);
    AtomicFile *file = atomic_file_create(path, &error);
    check(file && atomic_file_write(file, "second", 6, &error), &error);
    char *text;
    size_t size;
    check(file_read(path, 100, &text, &size, &error), &error);
    assert_string_equal(text, "first");
    free(text);
    atomic_file_abandon(file);
    char **names;
    size_t count;
    check(directory_list(parent, &names, &count, &error), &error);
    assert_int_equal(count, 1);
    assert_string_equal(names[0], "file.txt");
    names_free(names, count);
    assert_false(file_read(path, 4, &text, &size, &error));
    assert_false(file_read(parent, 4, &text, &size, &error));
    assert_non_null(strstr(error.text, "it is a folder, not a file"));
    assert_false(directory_create("", &error));
    assert_string_equal(error.text, "a folder without a name");
    assert_false(directory_create(path, &error));
    assert_non_null(strstr(error.text, "is a file, not a folder"));
    uint64_t bytes;
    char *absent = path_join(folder, "not/there/yet");
    check(disk_free_bytes(absent, &bytes, &error), &error);
    assert_true(bytes > 0);
    check(disk_free_bytes("relative/not/there", &bytes, &error), &error);
    free(absent);
    free(parent);
    free(path);
    remove_folder(folder);
}

static void json_errors_name_the_place(void **state) {
    (void)state;
    Error error = {0};
    const char *text = "{\"a\": 1,\n \"b\": }";
    assert_null(json_parse(text, strlen(text), "x.json", 10, 1, &error));
    assert_non_null(strstr(error.text, "x.json:11:"));
    text = "{\"a\": 1, \"a\": 2}";
    assert_null(json_parse(text, strlen(text), "x.json", 1, 1, &error));
    text = "{\"a\": 1, \"b\": \"text\", \"c\": null, \"d\": 4.0}";
    json_t *object = json_parse(text, strlen(text), "x.json", 1, 1, &error);
    check(object, &error);
    int64_t integer = 7;
    check(json_get_integer(object, "c", &integer, "x.json", &error), &error);
    assert_int_equal(integer, 7);
    check(json_get_integer(object, "d", &integer, "x.json", &error), &error);
    assert_int_equal(integer, 4);
    assert_false(json_get_integer(object, "b", &integer, "x.json", &error));
    assert_string_equal(error.text, "x.json: \"b\" must be an integer");
    json_decref(object);
}

static void shell_words_are_quoted_where_needed(void **state) {
    (void)state;
    static const char *const words[][2] = {{"lr=1e-3", "lr=1e-3"},
                                           {"/a/b_c.json,d", "/a/b_c.json,d"},
                                           {"", "''"},
                                           {"two words", "'two words'"},
                                           {"it's", "'it'\\''s'"},
                                           {"$HOME", "'$HOME'"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        Error error = {0};
        Buffer buffer = BUFFER_EMPTY;
        check(buffer_shell_word(&buffer, words[i][0], &error), &error);
        assert_string_equal(buffer_string(&buffer), words[i][1]);
        buffer_free(&buffer);
    }
}

// What is no character becomes U+FFFD, byte by byte; a surrogate, an overlong form and a cut character are none.
static void text_is_mended(void **state) {
    (void)state;
#define BAD "\xef\xbf\xbd"
    static const char *const texts[][2] = {
        {"", ""},
        {"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xff"
         "a\x80",
         BAD "a" BAD},
        {"\xc0\xaf", BAD BAD},
        {"\xed\xa0\x80", BAD BAD BAD},
        {"x\xe2\x82", "x" BAD BAD}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        Error error = {0};
        Buffer buffer = BUFFER_EMPTY;
        check(utf8_append(&buffer, texts[i][0], strlen(texts[i][0]), &error), &error);
        assert_string_equal(buffer_string(&buffer), texts[i][1]);
        assert_true(utf8_valid(buffer_string(&buffer), buffer.size));
        assert_int_equal(utf8_valid(texts[i][0], strlen(texts[i][0])), !strcmp(texts[i][0], texts[i][1]));
        buffer_free(&buffer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shell_words_are_quoted_where_needed),
        cmocka_unit_test(text_is_mended),
        cmocka_unit_test(buffer_grows_and_stays_terminated),
        cmocka_unit_test(every_half_survives_the_way_through_float),
        cmocka_unit_test(sizes_are_read_and_written),
        cmocka_unit_test(permutations_are_permutations),
        cmocka_unit_test(normal_numbers_have_their_moments),
        cmocka_unit_test(every_index_is_visited_once),
        cmocka_unit_test(files_appear_complete_or_not_at_all),
        cmocka_unit_test(json_errors_name_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
