// test_real_data.c - the data readers on data sets that people train on, where they are at hand (../shared/data).
#include "base/files.h"
#include "data/dataset.h"
#include "tests/byte_encoder.h"
#include "tests/support.h"
#include <stdio.h>
#include <stdlib.h>

// The folder with the data, or the test is skipped.
static const char *shared_data(void) {
    static const char *const folders[] = {"../shared/data", "../../shared/data"};
    for (int i = 0; i < 2; i++)
        if (path_is_directory(folders[i])) return folders[i];
    skip();
    return NULL;
}

static bool load(const char *folder, const char *names, bool skip_bad, Dataset *dataset, RecordCounts *counts,
                 Error *error) {
    char dataset_dir[512];
    snprintf(dataset_dir, sizeof dataset_dir, "%s", folder);
    DataSettings settings = {.dataset_dir = dataset_dir, .cutoff_len = 2048, .skip_bad_records = skip_bad};
    DataSources sources;
    check(data_sources_open(&sources, names, &settings, error), error);
    ThreadPool *pool = thread_pool_create(2, error);
    assert_non_null(pool);
    LoadRequest request = {&sources, &settings, true, &byte_encoder, pool, NULL, NULL};
    bool ok = dataset_load(&request, dataset, counts, error);
    thread_pool_free(pool);
    data_sources_free(&sources);
    return ok;
}

static void expect(const char *folder, const char *names, int64_t records, int64_t tokens, int64_t targets) {
    Dataset dataset;
    RecordCounts counts;
    Error error = {0};
    check(load(folder, names, false, &dataset, &counts, &error), &error);
    assert_int_equal(counts.records, records);
    assert_int_equal(counts.tokens, tokens);
    assert_int_equal(dataset.targets, targets);
    dataset_free(&dataset);
}

static void test_alpaca(void **state) {
    (void)state;
    // bytes of instruction and output, and one EOS per record
    expect(shared_data(), "alpaca_en_demo.json", 999, 761914 + 999, 701777 + 999);
}

static void test_wikipedia(void **state) {
    (void)state;
    // the file's bytes and '^'; each of the 503 blocks of 2048 has a first token that nothing predicts, EOS is one more
    expect(shared_data(), "wiki_demo.txt", 1, 1028326 + 1, 1028326 + 2 - 503);
}

static void test_dataset_info(void **state) {
    (void)state;
    const char *data = shared_data();
    char *folder = make_folder(), *here = realpath(data, NULL), *text;
    assert_true(asprintf(&text,
                         "{\"gsm8k\": {\"file_name\": \"%s/gsm8k/test.jsonl\", \"columns\": {\"prompt\": \"question\", "
                         "\"response\": \"answer\"}}}",
                         here) > 0);
    free(write_text(folder, "dataset_info.json", text));
    expect(folder, "gsm8k", 1319, 703180 + 1319, 386628 + 1319);
    free(text);
    free(here);
    remove_folder(folder);
}

static void test_tool_calls(void **state) {
    (void)state;
    Dataset dataset;
    RecordCounts counts;
    Error error = {0};
    const char *folder = shared_data();
    assert_false(load(folder, "sharegpt_toolcall_demo.json", false, &dataset, &counts, &error));
    assert_string_equal(error.text, "191 of 300 records cannot be used; the first 20 are shown above");
    check(load(folder, "sharegpt_toolcall_demo.json", true, &dataset, &counts, &error), &error);
    assert_int_equal(dataset.count, 109);
    dataset_free(&dataset);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alpaca),
        cmocka_unit_test(test_wikipedia),
        cmocka_unit_test(test_dataset_info),
        cmocka_unit_test(test_tool_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
