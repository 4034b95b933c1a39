// test_dataset.c - files to tokens: order, blocks of text, bad records, limits.
#include "base/files.h"
#include "base/log.h"
#include "data/dataset.h"
#include "data/dataset_builder.h"
#include "tests/byte_encoder.h"
#include "tests/support.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static char *folder;
static DataSettings settings;
static RecordCounts counts;

static int set_up(void **state) {
    (void)state;
    folder = make_folder();
    settings = (DataSettings){.dataset_dir = folder, .cutoff_len = 1000};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

static void put(const char *name, const char *text) {
    free(write_text(folder, name, text));
}

static bool load_with(const RecordEncoder *with, const char *names, bool share_blocks, int threads, Dataset *dataset,
                      Error *error) {
    DataSources sources;
    ThreadPool *pool = thread_pool_create(threads, error);
    assert_non_null(pool);
    check(data_sources_open(&sources, names, &settings, error), error);
    LoadRequest request = {&sources, &settings, share_blocks, with, pool, NULL, NULL};
    bool ok = dataset_load(&request, dataset, &counts, error);
    data_sources_free(&sources);
    thread_pool_free(pool);
    return ok;
}

static Dataset load(const char *names) {
    Dataset dataset;
    Error error = {0};
    check(load_with(&byte_encoder, names, false, 3, &dataset, &error), &error);
    return dataset;
}

// Examples as text, "|" after each; a trained token is followed by "'", EOS is "$".
static void expect(const Dataset *dataset, const char *wanted) {
    Buffer out = BUFFER_EMPTY;
    Error error = {0};
    for (int64_t e = 0; e < dataset->count; e++) {
        for (int64_t t = dataset->starts[e]; t < dataset->starts[e + 1]; t++) {
            char text[3] = {dataset->ids[t] == BYTE_EOS ? '$' : (char)dataset->ids[t], dataset->trained[t] ? '\'' : 0,
                            0};
            check(buffer_text(&out, text, &error), &error);
        }
        check(buffer_text(&out, "|", &error), &error);
    }
    assert_string_equal(buffer_string(&out), wanted);
    buffer_free(&out);
}

// Loads what cannot be loaded; what was said on stderr meanwhile, without the folder, is the caller's.
static char *load_badly(const char *names, Error *error) {
    Dataset dataset;
    char *path = path_join(folder, "stderr"), *text;
    size_t size;
    int saved = dup(STDERR_FILENO), file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    dup2(file, STDERR_FILENO);
    bool ok = load_with(&byte_encoder, names, false, 2, &dataset, error);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(file);
    Error problem = {0};
    check(file_read(path, 1 << 20, &text, &size, &problem), &problem);
    free(path);
    if (ok) {
        error->text[0] = 0;
        dataset_free(&dataset);
    }
    char *from = text, *to = text;
    for (size_t skip = strlen(folder) + 1; *from;) {
        if (strncmp(from, folder, skip - 1) == 0)
            from += skip;
        else
            *to++ = *from++;
    }
    *to = 0;
    return text;
}

// ---- the tests

static void test_formats_together(void **state) {
    (void)state;
    put("a.json", "[{\"instruction\":\"i\",\"output\":\"o\"},{\"instruction\":\"j\",\"output\":\"pq\"}]");
    put("b.jsonl", "{\"prompt\":\"ab\",\"completion\":\"c\"}\n");
    put("c.jsonl", "{\"text\":\"xyz\"}\n{\"text\":\"w\"}\n");
    put("d.json", "{\"type\":\"text2text\",\"instances\":[{\"input\":\"m\",\"output\":\"n\"}]}");
    Dataset dataset = load("a.json,b.jsonl,c.jsonl,d.json");
    expect(&dataset, "io'$'|jp'q'$'|abc'$'|^'x'y'z'$'|^'w'$'|mn'$'|");
    assert_int_equal(dataset.sequences, 6);
    assert_int_equal(dataset.sequence_starts[6], 6);
    assert_int_equal(dataset.longest, 5);
    assert_int_equal(dataset.targets, 2 + 3 + 2 + 4 + 2 + 2);
    assert_int_equal(counts.records, 6);
    assert_int_equal(counts.bad, 0);
    assert_int_equal(counts.tokens, 3 + 4 + 4 + 4 + 2 + 3); // the EOS of texts is put in later
    dataset_free(&dataset);
}

static void test_text_blocks(void **state) {
    (void)state;
    Error error = {0};
    Dataset dataset;
    put("c.jsonl", "{\"text\":\"abcde\"}\n{\"text\":\"fg\"}\n{\"text\":\"h\"}");
    settings.cutoff_len = 4;
    dataset = load("c.jsonl"); // each text for itself; the lone end of one is left out
    expect(&dataset, "^'a'b'c'|d'e'$'|^'f'g'$'|^'h'$'|");
    dataset_free(&dataset);
    check(load_with(&byte_encoder, "c.jsonl", true, 1, &dataset, &error), &error);
    expect(&dataset, "^'a'b'c'|d'e'$'^'|f'g'$'^'|h'$'|");
    dataset_free(&dataset);
    RecordEncoder with_bos = byte_encoder;
    with_bos.text_bos = 'B';
    check(load_with(&with_bos, "c.jsonl", true, 2, &dataset, &error), &error);
    expect(&dataset, "B^'a'b'|Bc'd'e'|B$'^'f'|Bg'$'^'|Bh'$'|");
    dataset_free(&dataset);
    with_bos.text_eos = -1;
    settings.cutoff_len = 3;
    check(load_with(&with_bos, "c.jsonl", false, 2, &dataset, &error), &error);
    expect(&dataset, "B^'a'|Bb'c'|Bd'e'|B^'f'|Bg'|B^'h'|");
    dataset_free(&dataset);
}

static void test_plain_text(void **state) {
    (void)state;
    put("a.txt", "\xef\xbb\xbfone\ntwo\n");
    put("b.txt", "x");
    Dataset dataset = load("a.txt,b.txt");
    expect(&dataset, "^'o'n'e'\n't'w'o'\n'$'|^'x'$'|");
    assert_int_equal(counts.records, 2);
    dataset_free(&dataset);
}

// Many pieces, gzipped or not, give the bytes of the file in order, whatever the number of threads.
static void test_long_plain_text(void **state) {
    (void)state;
    Error error = {0};
    enum { SIZE = 3000001 };
    char *text = malloc(SIZE + 1);
    for (int i = 0; i < SIZE; i++) { // lines, words, and a stretch without any place to cut
        uint64_t bits = (uint64_t)((noise(5, (uint64_t)i) + 1) * 1000);
        text[i] = i > 1000000 && i < 1800000 ? 'q' : bits < 60 ? '\n' : bits < 400 ? ' ' : (char)('a' + bits % 26);
    }
    text[SIZE] = 0;
    put("long.txt", text);
    char *path = path_join(folder, "long.txt.gz");
    gzFile file = gzopen(path, "wb1");
    assert_int_equal(gzwrite(file, text, SIZE), SIZE);
    assert_int_equal(gzclose(file), Z_OK);
    settings.cutoff_len = 1000;
    const char *names[] = {"long.txt", "long.txt.gz"};
    for (int threads = 1; threads < 4; threads++) {
        Dataset dataset;
        check(load_with(&byte_encoder, names[threads % 2], true, threads, &dataset, &error), &error);
        assert_int_equal(dataset.starts[dataset.count], SIZE + 2);
        assert_int_equal(dataset.ids[0], '^');
        for (int i = 0; i < SIZE; i++)
            if (dataset.ids[i + 1] != text[i]) fail_msg("byte %d is %d", i, dataset.ids[i + 1]);
        dataset_free(&dataset);
    }
    free(path);
    free(text);
}

static void test_invalid_plain_text(void **state) {
    (void)state;
    Error error = {0};
    put("a.txt", "one\ntwo\nthr\xff\nfour\n");
    free(load_badly("a.txt", &error));
    assert_string_equal(error.text + strlen(folder) + 1, "a.txt:3: invalid UTF-8");
}

// More records than a chunk holds stay in order on any number of threads.
static void test_order_is_kept(void **state) {
    (void)state;
    Error error = {0};
    Buffer text = BUFFER_EMPTY;
    for (int i = 0; i < 5000; i++)
        check(buffer_format(&text, &error, "{\"prompt\":\"%d\",\"completion\":\"%0*d\"}\n", i, i % 97 + 1, 0), &error);
    put("many.jsonl", text.data);
    buffer_free(&text);
    for (int threads = 1; threads < 4; threads++) {
        Dataset dataset;
        check(load_with(&byte_encoder, "many.jsonl", false, threads, &dataset, &error), &error);
        assert_int_equal(dataset.count, 5000);
        for (int i = 0; i < 5000; i++) {
            char prompt[16] = "";
            for (int64_t t = dataset.starts[i]; !dataset.trained[t]; t++) prompt[strlen(prompt)] = (char)dataset.ids[t];
            assert_int_equal(atoi(prompt), i);
        }
        dataset_free(&dataset);
    }
}

static void test_limits(void **state) {
    (void)state;
    put("a1.jsonl", "{\"prompt\":\"a\",\"completion\":\"x\"}\n{\"prompt\":\"b\",\"completion\":\"x\"}\n");
    put("a2.jsonl", "{\"prompt\":\"c\",\"completion\":\"x\"}\n{\"prompt\":\"d\",\"completion\":\"x\"}\n");
    settings.max_samples = 3;
    Dataset dataset = load("a*.jsonl,a2.jsonl");
    expect(&dataset, "ax'$'|bx'$'|cx'$'|cx'$'|dx'$'|");
    dataset_free(&dataset);
    settings.max_samples = 1;
    dataset = load("a*.jsonl,a2.jsonl");
    expect(&dataset, "ax'$'|cx'$'|");
    dataset_free(&dataset);
}

static void test_bad_records(void **state) {
    (void)state;
    Error error = {0};
    put("a.jsonl",
        "{\"prompt\":\"a\",\"completion\":\"x\"}\n\n{\"prompt\":\"b\"}\n{\"prompt\":\"c\xff\",\"completion\":"
        "\"y\"}\n{\"prompt\":\"too long\",\"completion\":\"y\"}\n{\"prompt\":\"d\",\"completion\":\"z\"}\n");
    char *said = load_badly("a.jsonl", &error);
    assert_string_equal(said, "warning: a.jsonl:3: no answer: \"completion\" is missing\n"
                              "warning: a.jsonl:4: invalid UTF-8\n"
                              "warning: a.jsonl:5: every answer is truncated away\n");
    assert_string_equal(error.text, "3 of 5 records cannot be used");
    assert_string_equal(error.hint, "mend them, or leave them out: skip_bad_records: true");
    free(said);
    settings.skip_bad_records = true;
    Dataset dataset = load("a.jsonl");
    expect(&dataset, "ax'$'|dz'$'|");
    assert_int_equal(counts.bad, 3);
    dataset_free(&dataset);
}

static void test_many_bad_records(void **state) {
    (void)state;
    Error error = {0};
    Buffer text = BUFFER_EMPTY;
    check(buffer_text(&text, "{\"prompt\":\"a\",\"completion\":\"x\"}\n", &error), &error);
    for (int i = 0; i < 3000; i++) check(buffer_text(&text, "{\"prompt\":\"a\"}\n", &error), &error);
    put("a.jsonl", text.data);
    buffer_free(&text);
    char *said = load_badly("a.jsonl", &error);
    int lines = 0;
    for (const char *at = said; (at = strchr(at, '\n')); at++) lines++;
    assert_int_equal(lines, BAD_RECORDS_SHOWN);
    assert_string_equal(error.text, "3000 of 3001 records cannot be used; the first 20 are shown above");
    free(said);
    settings.skip_bad_records = true;
    said = load_badly("a.jsonl", &error);
    assert_string_equal(error.text, "");
    assert_non_null(strstr(said, "warning: 3000 of 3001 records cannot be used and are left out; the first 20 "
                                 "are shown above\n"));
    free(said);
}

static void test_failures(void **state) {
    (void)state;
    Error error = {0};
    settings.skip_bad_records = true;
    put("a.jsonl", "{\"prompt\":\"a\",\"completion\":\"x\"}\n{\"prompt\":\"a\",\n");
    free(load_badly("a.jsonl", &error));
    assert_string_equal(error.text + strlen(folder) + 1,
                        "a.jsonl:2:14: malformed JSON: string or '}' expected near end of file");
    put("a.jsonl", "{\"prompt\":\"a\",\"completion\":\"x\"}\n{\"prompt\":\"broken\",\"completion\":\"x\"}\n");
    free(load_badly("a.jsonl", &error));
    assert_string_equal(error.text + strlen(folder) + 1, "a.jsonl:2: no token");
    put("a.jsonl", "{\"prompt\":\"a\",\"completion\":\"\"}\n");
    free(load_badly("a.jsonl", &error));
    assert_string_equal(error.text + strlen("the data set ") + strlen(folder) + 1,
                        "a.jsonl is empty: it has no usable record");
    put("a.txt", "");
    free(load_badly("a.txt", &error));
    assert_string_equal(error.text + strlen("the data set ") + strlen(folder) + 1,
                        "a.txt is empty: it has no usable record");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_formats_together), TEST(test_text_blocks), TEST(test_plain_text),         TEST(test_long_plain_text),
        TEST(test_order_is_kept),    TEST(test_limits),      TEST(test_invalid_plain_text), TEST(test_bad_records),
        TEST(test_many_bad_records), TEST(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
