// test_training_data.c - a run's data from files to sequences, with the small vocabularies of tests/golden/templates.
#include "base/files.h"
#include "base/json.h"
#include "data/plain_stream.h"
#include "data/preview.h"
#include "data/training_data.h"
#include "tests/support.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *folder;
static DataSettings settings;

static int set_up(void **state) {
    (void)state;
    folder = make_folder();
    settings = (DataSettings){.dataset_dir = folder, .cutoff_len = 64};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

static Tokenizer *open_tokenizer(const char *path) {
    Error error = {0};
    Tokenizer *tokenizer = tokenizer_open(path, 1000, &error);
    if (!tokenizer) fail_msg("%s", error.text);
    return tokenizer;
}

static bool load(TrainingData *data, const char *vocabulary, Error *error) {
    Tokenizer *tokenizer = open_tokenizer(vocabulary);
    ThreadPool *pool = thread_pool_create(2, error);
    assert_non_null(pool);
    bool ok = training_data_load(data, &settings, 42, tokenizer, pool, NULL, NULL, error);
    thread_pool_free(pool);
    tokenizer_close(tokenizer);
    return ok;
}

#define BPE "tests/golden/templates/bpe"
#define SPM "tests/golden/templates/spm"

static void write_records(const char *name, int count) {
    Error error = {0};
    Buffer text = BUFFER_EMPTY;
    for (int i = 0; i < count; i++)
        check(buffer_format(&text, &error, "{\"instruction\":\"say %d\",\"output\":\"%d\"}\n", i, i), &error);
    free(write_text(folder, name, text.data));
    buffer_free(&text);
}

static void test_held_out(void **state) {
    (void)state;
    Error error = {0};
    TrainingData data;
    char names[] = "a.jsonl", eval_names[] = "b.jsonl", alpaca[] = "alpaca";
    write_records("a.jsonl", 20);
    write_records("b.jsonl", 3);
    settings.dataset = names;
    settings.template_name = alpaca;
    settings.cutoff_len = 512;
    settings.val_size = 0.25;
    check(load(&data, SPM, &error), &error);
    assert_int_equal(data.train.sequences, 15);
    assert_int_equal(data.eval.sequences, 5);
    assert_int_equal(data.counts.records, 20);
    assert_string_equal(template_name(data.chat), "alpaca");
    assert_null(data.system);
    assert_false(data.packing);
    training_data_free(&data);

    settings.eval_dataset = eval_names;
    assert_false(load(&data, SPM, &error));
    assert_string_equal(error.text, "val_size and eval_dataset are both given");
    assert_int_equal(error.exit_code, ERROR_EXIT_USAGE);
    settings.val_size = 0;
    check(load(&data, SPM, &error), &error);
    assert_int_equal(data.train.sequences, 20);
    assert_int_equal(data.eval.sequences, 3);
    assert_int_equal(data.eval_counts.records, 3);
    training_data_free(&data);

    char missing[] = "none.jsonl";
    settings.eval_dataset = missing;
    assert_false(load(&data, SPM, &error));
    assert_string_equal(error.text, "cannot read none.jsonl: No such file or directory");
    settings.eval_dataset = settings.dataset = NULL;
    assert_false(load(&data, SPM, &error));
    assert_string_equal(error.text, "no data set is named");
}

// A model without a template: alpaca data goes into Stanford's, other conversations are not guessed at.
static void test_no_template_is_guessed(void **state) {
    (void)state;
    Error error = {0};
    TrainingData data;
    char alpaca[] = "a.jsonl", mixed[] = "a.jsonl,s.jsonl", messages[] = "s.jsonl";
    write_records("a.jsonl", 3);
    free(write_text(folder, "s.jsonl",
                    "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"}]}"));
    settings.cutoff_len = 512;
    settings.dataset = alpaca;
    check(load(&data, SPM, &error), &error);
    assert_string_equal(template_name(data.chat), "alpaca");
    training_data_free(&data);
    settings.dataset = mixed;
    assert_false(load(&data, SPM, &error));
    assert_string_equal(error.text, "the model has no chat template");
    settings.dataset = alpaca;
    settings.eval_dataset = messages;
    assert_false(load(&data, SPM, &error));
    assert_string_equal(error.text, "the model has no chat template");
}

static void test_packing(void **state) {
    (void)state;
    Error error = {0};
    TrainingData data;
    char names[] = "a.jsonl", texts[] = "t.jsonl", chatml[] = "chatml", system[] = "Be brief.";
    write_records("a.jsonl", 40);
    settings.dataset = names;
    settings.template_name = chatml;
    settings.default_system = system;
    settings.cutoff_len = 400;
    settings.packing = PACKING_ON;
    check(load(&data, BPE, &error), &error);
    assert_true(data.packing);
    assert_int_equal(data.train.count, 40);
    assert_true(data.train.sequences < 20);
    assert_true(data.train.longest <= 400);
    assert_string_equal(data.system, "Be brief.");
    training_data_free(&data);

    // texts are packed unless packing is off, and need no template
    free(write_text(folder, "t.jsonl", "{\"text\":\"one two\"}\n{\"text\":\"three\"}\n"));
    settings.dataset = texts;
    settings.template_name = NULL;
    settings.packing = PACKING_AUTO;
    check(load(&data, BPE, &error), &error);
    assert_true(data.packing);
    assert_int_equal(data.train.sequences, 1);
    assert_null(data.chat);
    training_data_free(&data);
    settings.packing = PACKING_OFF;
    check(load(&data, BPE, &error), &error);
    assert_int_equal(data.train.sequences, 2);
    training_data_free(&data);
}

static void test_everything_truncated_away(void **state) {
    (void)state;
    Error error = {0};
    TrainingData data;
    char names[] = "a.jsonl", chatml[] = "chatml";
    Buffer text = BUFFER_EMPTY;
    check(buffer_text(&text, "{\"messages\":[{\"role\":\"system\",\"content\":\"", &error), &error);
    for (int i = 0; i < 5000; i++) check(buffer_text(&text, "words ", &error), &error);
    check(buffer_text(&text, "\"},{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"a\"}]}\n",
                      &error),
          &error);
    free(write_text(folder, "a.jsonl", text.data));
    buffer_free(&text);
    settings.dataset = names;
    settings.template_name = chatml;
    settings.cutoff_len = 2;
    assert_false(load(&data, BPE, &error));
    assert_string_equal(error.text, "1 of 1 records cannot be used");
}

static void test_preview(void **state) {
    (void)state;
    Error error = {0};
    TrainingData data;
    char names[] = "a.jsonl", chatml[] = "chatml";
    free(write_text(folder, "a.jsonl",
                    "{\"messages\":[{\"role\":\"user\",\"content\":\"u\\u00e4\"},{\"role\":\"assistant\",\"content\":"
                    "\"a\"},{\"role\":\"user\",\"content\":\"v\"},{\"role\":\"assistant\",\"content\":\"b\"}]}"));
    settings.dataset = names;
    settings.template_name = chatml;
    check(load(&data, BPE, &error), &error);
    Tokenizer *tokenizer = open_tokenizer(BPE);
    Buffer text = BUFFER_EMPTY;
    for (int64_t token = 0; token < data.train.starts[1];) {
        bool trained;
        Buffer run = BUFFER_EMPTY;
        check(preview_run(&data.train, tokenizer, &token, data.train.starts[1], &run, &trained, &error), &error);
        check(buffer_format(&text, &error, trained ? "[%s]" : "%s", buffer_string(&run)), &error);
        buffer_free(&run);
    }
    assert_string_equal(buffer_string(&text),
                        "<|im_start|>user\nu\xc3\xa4<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]\n"
                        "<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]\n");
    buffer_free(&text);
    tokenizer_close(tokenizer);
    training_data_free(&data);
}

// Text in pieces has the ids of the whole text, wherever white space, line ends and odd characters stand.
static void check_pieces(const char *vocabulary, const char *path, const char *text, size_t size) {
    Error error = {0};
    Tokenizer *tokenizer = open_tokenizer(vocabulary);
    TokenList whole = {0}, parts = {0};
    check(tokenizer_encode(tokenizer, text, size, TEXT_FIRST, &whole, &error), &error);
    PlainStream *stream = plain_stream_open(path, &error);
    assert_non_null(stream);
    Buffer piece = BUFFER_EMPTY;
    int count = 0;
    for (bool found = true; found; count++) {
        int64_t line;
        buffer_clear(&piece);
        check(plain_stream_next(stream, &piece, &line, &found, &error), &error);
        if (found)
            check(tokenizer_encode(tokenizer, piece.data, piece.size, count ? TEXT_CONTINUES : TEXT_FIRST, &parts,
                                   &error),
                  &error);
    }
    assert_true(count > 3);
    assert_int_equal(parts.count, whole.count);
    assert_memory_equal(parts.ids, whole.ids, (size_t)whole.count * sizeof *whole.ids);
    buffer_free(&piece);
    plain_stream_close(stream);
    token_list_free(&whole);
    token_list_free(&parts);
    tokenizer_close(tokenizer);
}

// Writes the small BPE vocabulary to the test's folder with tokens for runs of white space, which a cut could tear.
static void write_spaced_vocabulary(void) {
    static const char *const merges[][2] = {{"\xc4\x8a", "\xc4\x8a"},  // two line feeds, as byte-level BPE writes them
                                            {"\xc4\x8d", "\xc4\x8a"},  // carriage return and line feed
                                            {"\xc4\xa0", "\xc4\xa0"},  // two spaces
                                            {"\xc4\xa0", "\xc4\x8a"},  // space and line feed
                                            {"\xc4\x8a", "\xc4\xa0"}}; // line feed and space
    Error error = {0};
    json_t *json = json_read_file(BPE "/tokenizer.json", 1 << 20, &error);
    json_t *model = json_object_get(json, "model"), *vocabulary = json_object_get(model, "vocab");
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) {
        char token[8];
        snprintf(token, sizeof token, "%s%s", merges[i][0], merges[i][1]);
        if (json_object_get(vocabulary, token)) continue;
        json_object_set_new(vocabulary, token, json_integer((json_int_t)json_object_size(vocabulary)));
        json_array_append_new(json_object_get(model, "merges"), json_pack("[ss]", merges[i][0], merges[i][1]));
    }
    char *text = json_to_text(json);
    free(write_text(folder, "tokenizer.json", text));
    free(text);
    json_decref(json);
    size_t size;
    check(file_read(BPE "/tokenizer_config.json", 1 << 20, &text, &size, &error), &error);
    free(write_text(folder, "tokenizer_config.json", text));
    free(text);
}

static void test_pieces_of_text(void **state) {
    (void)state;
    write_spaced_vocabulary();
    static const char *const parts[] = {"word",
                                        " word",
                                        " ",
                                        "  ",
                                        "\n",
                                        "\n",
                                        "\n\n",
                                        "\r\n",
                                        "\xe3\x80\x80",
                                        "\xe4\xb8\xad",
                                        "1234",
                                        "'s",
                                        "!?",
                                        "\t",
                                        "\xc3\xa9",
                                        "\xf0\x9f\x99\x82",
                                        "\xc2\xa0",
                                        "x",
                                        " (",
                                        ".\n",
                                        "e\xcc\x81",
                                        " 7"};
    Error error = {0};
    for (uint64_t round = 0; round < 3; round++) {
        Buffer text = BUFFER_EMPTY;
        for (uint64_t i = 0; text.size < 5 * PIECE_BYTES; i++) {
            float at = (noise(11 + round, i) + 1) / 2 * (float)(sizeof parts / sizeof *parts);
            check(buffer_text(&text, parts[(size_t)at], &error), &error);
        }
        char *path = write_text(folder, "t.txt", text.data);
        check_pieces(folder, path, text.data, text.size);
        check_pieces(SPM, path, text.data, text.size);
        free(path);
        buffer_free(&text);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_no_template_is_guessed),    TEST(test_held_out), TEST(test_packing),
        TEST(test_everything_truncated_away), TEST(test_preview),  TEST(test_pieces_of_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
