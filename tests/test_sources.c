// test_sources.c - which files a list of data sets means, and what they hold.
#include "base/files.h"
#include "data/sources.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *folder;
static DataSettings settings;

static int set_up(void **state) {
    (void)state;
    folder = make_folder();
    settings = (DataSettings){.dataset_dir = folder};
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

// The text with each name of the test's folder replaced by "DIR".
static char *without_folder(const char *text) {
    Buffer out = BUFFER_EMPTY;
    Error error = {0};
    for (const char *at; (at = strstr(text, folder)); text = at + strlen(folder)) {
        check(buffer_append(&out, text, (size_t)(at - text), &error), &error);
        check(buffer_text(&out, "DIR", &error), &error);
    }
    check(buffer_text(&out, text, &error), &error);
    return out.data;
}

static void expect_failure(const char *names, const char *text, const char *hint) {
    DataSources sources;
    Error error = {0};
    assert_false(data_sources_open(&sources, names, &settings, &error));
    char *got = without_folder(error.text), *got_hint = without_folder(error.hint);
    assert_string_equal(got, text);
    if (hint) assert_string_equal(got_hint, hint);
    free(got);
    free(got_hint);
    assert_int_equal(sources.count, 0);
}

static DataSources open_sources(const char *names) {
    DataSources sources;
    Error error = {0};
    check(data_sources_open(&sources, names, &settings, &error), &error);
    return sources;
}

static void expect_format(const char *name, const char *text, DataFormat format, const char *messages_key) {
    put(name, text);
    DataSources sources = open_sources(name);
    assert_int_equal(sources.count, 1);
    assert_int_equal(sources.items[0].format, format);
    if (messages_key) assert_string_equal(sources.items[0].keys.messages, messages_key);
    data_sources_free(&sources);
}

static void test_formats_from_content(void **state) {
    (void)state;
    expect_format("a.json", "[{\"instruction\":\"i\",\"output\":\"o\"}]", FORMAT_ALPACA, NULL);
    expect_format("a.jsonl", "{\"output\":\"o\",\"instruction\":\"i\"}\n", FORMAT_ALPACA, NULL);
    expect_format("a.json", "[{\"conversations\":[]}]", FORMAT_SHAREGPT, "conversations");
    expect_format("a.json", "[{\"conversations\":[{\"role\":\"user\",\"content\":\"x\"}]}]", FORMAT_OPENAI,
                  "conversations");
    expect_format("a.json", "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", FORMAT_OPENAI, "messages");
    expect_format("a.json", "{\"messages\":[{\"from\":\"human\",\"value\":\"x\"}]}", FORMAT_SHAREGPT, "messages");
    expect_format("a.json", "{\"prompt\":\"\",\"completion\":\"\"}", FORMAT_PROMPT_COMPLETION, NULL);
    expect_format("a.json", "{\"text\":\"\"}", FORMAT_TEXT, NULL);
    expect_format("a.txt", "{\"text\":\"\"}", FORMAT_PLAIN, NULL);
    expect_format("a.json", "{\"type\":\"text_only\",\"instances\":[{\"text\":\"\"}]}", FORMAT_TEXT, NULL);
    expect_format("a.json", "{\"type\":\"text2text\",\"instances\":[{}]}", FORMAT_PROMPT_COMPLETION, NULL);
    expect_format("a.json", "{\"type\":\"conversation\",\"instances\":[{}]}", FORMAT_OPENAI, "messages");
    expect_format("a.json", "{\"instruction\":\"no answer\"}", FORMAT_ALPACA, NULL);
    expect_format("a.json", "{\"text\":\"caf\xe9\"}\n{\"text\":\"\"}", FORMAT_TEXT, NULL);
    settings.formatting = FORMAT_TEXT;
    expect_format("a.json", "[{\"instruction\":\"i\",\"output\":\"o\"}]", FORMAT_TEXT, NULL);
}

static void test_what_is_not_read(void **state) {
    (void)state;
    put("a.parquet", "PAR1");
    expect_failure("a.parquet", "DIR/a.parquet: Parquet files are not read",
                   "convert it: python3 -c \"import pandas; pandas.read_parquet('DIR/a.parquet').to_json("
                   "'DIR/a.parquet.jsonl', orient='records', lines=True, force_ascii=False)\"");
    put("a.csv", "a,b\n");
    expect_failure("a.csv", "DIR/a.csv: CSV files are not read",
                   "convert it: python3 -c \"import pandas; pandas.read_csv('DIR/a.csv').to_json("
                   "'DIR/a.csv.jsonl', orient='records', lines=True, force_ascii=False)\"");
    put("a.tsv", "a\tb\n");
    expect_failure("a.tsv", "DIR/a.tsv: TSV files are not read", NULL);
    put("a.jsonl.zst", "");
    expect_failure("a.jsonl.zst", "DIR/a.jsonl.zst: .zst files are not read",
                   "unpack it: zstd -d 'DIR/a.jsonl.zst' (gzip is read as it is)");
    settings.formatting = FORMAT_ALPACA;
    expect_failure("a.csv", "DIR/a.csv: CSV files are not read", NULL);
}

static void test_bad_first_records(void **state) {
    (void)state;
    put("a.json", "");
    expect_failure("a.json", "DIR/a.json: the file has no records", NULL);
    put("a.json", "[]");
    expect_failure("a.json", "DIR/a.json: the file has no records", NULL);
    put("a.json", "\n[3]");
    expect_failure("a.json", "DIR/a.json:2: the first record is not a JSON object", NULL);
    put("a.json", "{\"question\": \"q\", \"answer\": \"a\"}");
    expect_failure(
        "a.json",
        "DIR/a.json:1: the first record has the keys \"question\", \"answer\", which belong to no known format",
        "known are instruction + output, conversations, messages, prompt + completion, and text; name other "
        "keys in dataset_info.json, see docs/data.md");
    put("a.json", "[\n{\"text\": x}]");
    expect_failure("a.json", "DIR/a.json:2:10: malformed JSON: invalid token near 'x'", NULL);
    put("a.json", "{\"text\": \"caf\xe9\"}");
    expect_failure("a.json", "DIR/a.json: no record is valid UTF-8", NULL);
    put("a.json", "{\"type\":\"video\",\"instances\":[{}]}");
    expect_failure("a.json", "DIR/a.json: LMFlow's type \"video\" is not read", NULL);
}

static void test_missing(void **state) {
    (void)state;
    expect_failure("none.json", "cannot read none.json: No such file or directory", NULL);
    expect_failure("alpaca",
                   "the data set \"alpaca\" is not a file, not a glob that matches one, and not a name in "
                   "DIR/dataset_info.json",
                   "there is no such dataset_info.json; give a file (dataset: my.jsonl), or its folder (dataset_dir)");
    expect_failure(" , ", "no data set is named", NULL);
    put("dataset_info.json", "{\"one\": {\"file_name\": \"x.json\"}, \"two\": {}}");
    expect_failure("alpaca",
                   "the data set \"alpaca\" is not a file, not a glob that matches one, and not a name in "
                   "DIR/dataset_info.json",
                   "its names are: one, two");
    expect_failure("one", "DIR/dataset_info.json: one: cannot read DIR/x.json: No such file or directory", NULL);
    expect_failure("two", "DIR/dataset_info.json: two: \"file_name\" is missing", NULL);
}

static void test_lists_globs_folders(void **state) {
    (void)state;
    Error error = {0};
    char *sub = path_join(folder, "sub"), *pattern = path_join(folder, "b*.jsonl");
    check(directory_create(sub, &error), &error);
    put("b2.jsonl", "{\"text\":\"\"}");
    put("b1.jsonl", "{\"text\":\"\"}");
    put("c.txt", "text");
    free(write_text(sub, "d.jsonl", "{\"text\":\"\"}"));
    free(write_text(sub, ".hidden", "x"));
    char *list;
    assert_true(asprintf(&list, " %s , c.txt,%s, b2.jsonl", pattern, sub) > 0);
    settings.max_samples = 7;
    DataSources sources = open_sources(list);
    const char *names[] = {"b1.jsonl", "b2.jsonl", "c.txt", "d.jsonl", "b2.jsonl"};
    const int entries[] = {0, 0, 1, 2, 3};
    assert_int_equal(sources.count, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(path_name(sources.items[i].path), names[i]);
        assert_int_equal(sources.items[i].entry, entries[i]);
        assert_int_equal(sources.items[i].limit, 7);
    }
    assert_true(data_sources_are_texts(&sources));
    assert_true(data_sources_have(&sources, FORMAT_PLAIN));
    assert_false(data_sources_have(&sources, FORMAT_ALPACA));
    data_sources_free(&sources);
    free(list);
    free(sub);
    free(pattern);
}

static void test_dataset_info(void **state) {
    (void)state;
    put("x.json", "[{\"q\":\"\",\"a\":\"\"}]");
    put("y.txt", "text");
    put("z.json", "[{\"instruction\":\"i\",\"output\":\"o\"}]");
    put("dataset_info.json",
        "{\"qa\": {\"file_name\": \"x.json\", \"num_samples\": 5, \"columns\": {\"prompt\": \"q\", \"response\": "
        "\"a\"}},"
        "\"chat\": {\"file_name\": \"x.json\", \"formatting\": \"sharegpt\", \"columns\": {\"messages\": \"m\"},"
        "           \"tags\": {\"role_tag\": \"r\", \"user_tag\": \"u\"}},"
        "\"texts\": {\"file_name\": \"x.json\", \"columns\": {\"prompt\": \"content\"}},"
        "\"wiki\": {\"file_name\": \"y.txt\", \"columns\": {\"prompt\": \"text\"}},"
        "\"plain\": {\"file_name\": \"z.json\"},"
        "\"hub\": {\"hf_hub_url\": \"org/name\"},"
        "\"pairs\": {\"file_name\": \"x.json\", \"ranking\": true},"
        "\"odd\": {\"file_name\": \"x.json\", \"formatting\": \"xml\"},"
        "\"typo\": {\"file_name\": 3}}");
    settings.max_samples = 9;
    DataSources sources = open_sources("qa,chat,texts,wiki,plain");
    assert_int_equal(sources.count, 5);
    const DataSource *items = sources.items;
    assert_int_equal(items[0].format, FORMAT_ALPACA);
    assert_string_equal(items[0].keys.prompt, "q");
    assert_null(items[0].keys.query);
    assert_int_equal(items[0].limit, 5);
    assert_int_equal(items[1].format, FORMAT_SHAREGPT);
    assert_string_equal(items[1].keys.messages, "m");
    assert_string_equal(items[1].keys.role_tag, "r");
    assert_string_equal(items[1].keys.user_tag, "u");
    assert_string_equal(items[1].keys.assistant_tag, "gpt");
    assert_int_equal(items[1].limit, 9);
    assert_int_equal(items[2].format, FORMAT_TEXT);
    assert_string_equal(items[2].keys.text, "content");
    assert_int_equal(items[3].format, FORMAT_PLAIN);
    assert_int_equal(items[4].format, FORMAT_ALPACA);
    assert_string_equal(items[4].keys.query, "input");
    data_sources_free(&sources);
    expect_failure("hub", "DIR/dataset_info.json: hub: the data is not in a local file (hf_hub_url: org/name)",
                   "download it (hf download --repo-type dataset org/name --local-dir data) and give the entry a "
                   "\"file_name\"");
    expect_failure("pairs", "DIR/dataset_info.json: pairs: preference data (\"ranking\") cannot be trained on", NULL);
    expect_failure("odd", "DIR/dataset_info.json: odd: the formatting \"xml\" is unknown",
                   "known are alpaca, sharegpt and openai");
    expect_failure("typo", "DIR/dataset_info.json: typo: \"file_name\" must be a string", NULL);
    put("dataset_info.json", "[]");
    expect_failure("qa", "DIR/dataset_info.json: it must hold a JSON object", NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_formats_from_content), TEST(test_what_is_not_read), TEST(test_bad_first_records), TEST(test_missing),
        TEST(test_lists_globs_folders),  TEST(test_dataset_info),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
