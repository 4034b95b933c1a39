// test_tokenizer_files.c - what tokenizer_write leaves, and the messages for tokenizers that cannot be read.
#include "base/files.h"
#include "base/json.h"
#include "tests/support.h"
#include "tokenizer/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// GPT-2's kind with the letters a, b and space, the merges "a b" and "Ġ ab", and a special token.
static const char small_bpe[] =
    "{\"added_tokens\":[{\"id\":5,\"content\":\"<|end|>\",\"special\":true,\"normalized\":false}],"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"\\u0120\":2,\"ab\":3,\"\\u0120ab\":4},"
    "\"merges\":[\"a b\",\"\\u0120 ab\"]}}";

static char *read_text(const char *folder, const char *name) {
    Error error;
    char *path = path_join(folder, name), *text = NULL;
    size_t size;
    if (path_exists(path)) check(file_read(path, 1 << 24, &text, &size, &error), &error);
    free(path);
    return text;
}

// Opens a tokenizer and fails the test when its ids for text differ from the expected ones, written "1 2 3".
static void check_encoding(const char *path, const char *text, const char *expected) {
    Error error;
    Tokenizer *tokenizer = tokenizer_open(path, 1000, &error);
    check(tokenizer != NULL, &error);
    TokenList ids = {0};
    check(tokenizer_encode(tokenizer, text, strlen(text), TEXT_FIRST, &ids, &error), &error);
    Buffer got = BUFFER_EMPTY;
    for (int64_t i = 0; i < ids.count; i++) check(buffer_format(&got, &error, i ? " %d" : "%d", ids.ids[i]), &error);
    assert_string_equal(buffer_string(&got), expected);
    buffer_free(&got);
    token_list_free(&ids);
    tokenizer_close(tokenizer);
}

static void write_copy(const char *from, const char *to, const char *chat_template) {
    Error error;
    Tokenizer *tokenizer = tokenizer_open(from, 1000, &error);
    check(tokenizer != NULL, &error);
    check(tokenizer_write(tokenizer, to, chat_template, &error), &error);
    tokenizer_close(tokenizer);
}

static void test_copies(void **state) {
    (void)state;
    static const char config[] = "{\"model_max_length\": 1000000000000000019884624838656, \"note\": "
                                 "\"12345678901234567890\", \"eos_token\": \"<|end|>\", \"chat_template\": \"old\"}";
    char *from = make_folder(), *to = make_folder();
    free(write_text(from, "tokenizer.json", small_bpe));
    free(write_text(from, "tokenizer_config.json", config));
    free(write_text(from, "special_tokens_map.json", "{}"));
    write_copy(from, to, NULL);
    char *json = read_text(to, "tokenizer.json"), *copied = read_text(to, "tokenizer_config.json");
    assert_string_equal(json, small_bpe);
    assert_string_equal(copied, config);
    free(copied);
    write_copy(from, to, "new {{ x }}");
    copied = read_text(to, "tokenizer_config.json");
    assert_non_null(strstr(copied, "\"chat_template\": \"new {{ x }}\""));
    assert_non_null(strstr(copied, "\"note\": \"12345678901234567890\""));
    assert_null(strstr(copied, "old"));
    char *jinja = read_text(to, "chat_template.jinja");
    assert_null(jinja);
    check_encoding(to, "ab ab<|end|>", "3 4");
    free(json);
    free(copied);
    remove_folder(from);
    remove_folder(to);
}

// With chat_template.jinja in the source the template stands there and nowhere else.
static void test_template_file(void **state) {
    (void)state;
    Error error;
    char *from = make_folder(), *to = make_folder();
    free(write_text(from, "tokenizer.json", small_bpe));
    free(write_text(from, "tokenizer_config.json", "{\"chat_template\": \"config\"}"));
    free(write_text(from, "chat_template.jinja", "file"));
    Tokenizer *tokenizer = tokenizer_open(from, 1000, &error);
    check(tokenizer != NULL, &error);
    assert_string_equal(tokenizer_chat_template(tokenizer), "file");
    check(tokenizer_write(tokenizer, to, "new", &error), &error);
    tokenizer_close(tokenizer);
    char *config = read_text(to, "tokenizer_config.json"), *jinja = read_text(to, "chat_template.jinja");
    assert_string_equal(jinja, "new");
    assert_null(strstr(config, "chat_template"));
    free(config);
    free(jinja);
    remove_folder(from);
    remove_folder(to);
}

// ---- GGUF ----

static void put(Buffer *file, const void *bytes, size_t size) {
    Error error;
    check(buffer_append(file, bytes, size, &error), &error);
}

static void put_number(Buffer *file, uint64_t value, size_t size) {
    put(file, &value, size);
}

static void put_string(Buffer *file, const char *text) {
    put_number(file, strlen(text), 8);
    put(file, text, strlen(text));
}

static void put_texts(Buffer *file, const char *key, const char *const *texts, size_t count) {
    put_string(file, key);
    put_number(file, 9, 4); // array
    put_number(file, 8, 4); // of strings
    put_number(file, count, 8);
    for (size_t i = 0; i < count; i++) put_string(file, texts[i]);
}

static void put_text(Buffer *file, const char *key, const char *text) {
    put_string(file, key);
    put_number(file, 8, 4);
    put_string(file, text);
}

static void put_types(Buffer *file, const int32_t *types, size_t count) {
    put_string(file, "tokenizer.ggml.token_type");
    put_number(file, 9, 4);
    put_number(file, 5, 4); // of int32
    put_number(file, count, 8);
    put(file, types, count * sizeof *types);
}

static void put_header(Buffer *file, uint64_t values) {
    put(file, "GGUF", 4);
    put_number(file, 3, 4);
    put_number(file, 0, 8);
    put_number(file, values, 8);
}

static char *write_gguf(const char *folder, Buffer *file) {
    char *path = write_file(folder, "model.gguf", file->data, file->size);
    buffer_free(file);
    return path;
}

// Opens the GGUF file, writes its tokenizer out and checks that the folder gives the same ids.
static void check_gguf(const char *folder, char *path, const char *text, const char *expected, const char *file) {
    char *to = path_join(folder, "out");
    Error error;
    check(directory_create(to, &error), &error);
    check_encoding(path, text, expected);
    write_copy(path, to, "template");
    check_encoding(to, text, expected);
    char *there = read_text(to, file), *config = read_text(to, "tokenizer_config.json");
    assert_non_null(there);
    assert_non_null(strstr(config, "\"chat_template\": \"template\""));
    free(there);
    free(config);
    free(to);
    free(path);
}

static void test_gguf_bpe(void **state) {
    (void)state;
    static const char *const tokens[] = {"a",
                                         "b",
                                         "\xc4\xa0",
                                         "ab",
                                         "\xc4\xa0"
                                         "ab",
                                         "<|end|>",
                                         "1"};
    static const char *const merges[] = {"a b", "\xc4\xa0 ab"};
    static const int32_t types[] = {1, 1, 1, 1, 1, 3, 1};
    char *folder = make_folder();
    Buffer file = BUFFER_EMPTY;
    put_header(&file, 5);
    put_text(&file, "tokenizer.ggml.model", "gpt2");
    put_text(&file, "tokenizer.ggml.pre", "smollm");
    put_texts(&file, "tokenizer.ggml.tokens", tokens, 7);
    put_texts(&file, "tokenizer.ggml.merges", merges, 2);
    put_types(&file, types, 7);
    check_gguf(folder, write_gguf(folder, &file), "ab ab1 1<|end|>", "3 4 6 2 6", "tokenizer.json");
    remove_folder(folder);
}

static void test_gguf_pieces(void **state) {
    (void)state;
    static const char *const tokens[] = {"<unk>",
                                         "<s>",
                                         "</s>",
                                         "a",
                                         "b",
                                         "\xe2\x96\x81",
                                         "ab",
                                         "\xe2\x96\x81"
                                         "ab"};
    static const int32_t types[] = {2, 3, 3, 1, 1, 1, 1, 1};
    static const float scores[] = {0, 0, 0, -3, -4, -5, -1, -2};
    char *folder = make_folder();
    Buffer file = BUFFER_EMPTY;
    put_header(&file, 4);
    put_text(&file, "tokenizer.ggml.model", "llama");
    put_texts(&file, "tokenizer.ggml.tokens", tokens, 8);
    put_types(&file, types, 8);
    put_string(&file, "tokenizer.ggml.scores");
    put_number(&file, 9, 4);
    put_number(&file, 6, 4); // of float32
    put_number(&file, 8, 8);
    put(&file, scores, sizeof scores);
    check_gguf(folder, write_gguf(folder, &file), "ab b<s>ab", "7 5 4 0 6", "tokenizer.model");
    remove_folder(folder);
}

// ---- messages ----

// The folder holds one file of that name and content; %s in the expected text stands for the folder.
static void check_refused(const char *name, const char *text, const char *expected, const char *hint) {
    Error error = {0};
    char *folder = make_folder();
    if (name) free(write_text(folder, name, text));
    assert_null(tokenizer_open(folder, 5, &error));
    Buffer wanted = BUFFER_EMPTY;
    const char *rest = expected;
    for (const char *at; (at = strstr(rest, "%s")) != NULL; rest = at + 2) {
        check(buffer_append(&wanted, rest, (size_t)(at - rest), &error), &error);
        check(buffer_text(&wanted, folder, &error), &error);
    }
    Error unused;
    check(buffer_text(&wanted, rest, &unused), &unused);
    assert_string_equal(error.text, buffer_string(&wanted));
    if (hint) assert_string_equal(error.hint, hint);
    buffer_free(&wanted);
    remove_folder(folder);
}

static void test_messages(void **state) {
    (void)state;
    check_refused(NULL, NULL, "%s has no tokenizer: neither tokenizer.json nor tokenizer.model is there",
                  "copy tokenizer.json or tokenizer.model, and tokenizer_config.json, into it from where the model "
                  "came from");
    check_refused("tokenizer.json", small_bpe, "%s: the tokenizer has 6 ids, the model's vocabulary only 5 rows",
                  "use the tokenizer files that came with this model, or resize the model's embedding");
    check_refused("tokenizer.model", "\x0a\xff", "%s/tokenizer.model: not a SentencePiece model, or a damaged one",
                  "get the file again from where the model came from");
    check_refused("tokenizer.model", "\x1a\x02\x20\x01",
                  "%s/tokenizer.model: remove_extra_whitespaces=true is not supported",
                  "models of the LLaMA family are trained with remove_extra_whitespaces=false");
    check_refused("tokenizer.model", "\x1a\x03\x12\x01\x41",
                  "%s/tokenizer.model: normalisation by a character map is not supported",
                  "models of the LLaMA family use normalization_rule_name=identity");
    check_refused("tokenizer.json", "{\"model\":{\"type\":\"WordPiece\"}}",
                  "%s/tokenizer.json: a model of a type that is not supported: \"WordPiece\"", NULL);
    check_refused("tokenizer.json",
                  "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}},\"pre_tokenizer\":{\"type\":\"Whitespace\"}}",
                  "%s/tokenizer.json: a pre-tokeniser that is not supported: {\"type\":\"Whitespace\"}", NULL);
    check_refused("tokenizer.json",
                  "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]},"
                  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}",
                  "%s/tokenizer.json: merge 0 needs \"b\", which is no token", NULL);
    check_refused("tokenizer.json",
                  "{\"model\":", "%s/tokenizer.json:1:9: malformed JSON: unexpected token near end of file", NULL);
}

static void test_unknown_pretokenizer(void **state) {
    (void)state;
    static const char *const tokens[] = {"a"};
    Error error = {0};
    char *folder = make_folder();
    Buffer file = BUFFER_EMPTY;
    put_header(&file, 3);
    put_text(&file, "tokenizer.ggml.model", "gpt2");
    put_text(&file, "tokenizer.ggml.pre", "deepseek-llm");
    put_texts(&file, "tokenizer.ggml.tokens", tokens, 1);
    char *path = write_gguf(folder, &file);
    assert_null(tokenizer_open(path, 5, &error));
    assert_non_null(
        strstr(error.text, "tokenizer.ggml.pre is \"deepseek-llm\", a pre-tokeniser that is not supported"));
    assert_string_equal(error.hint, "supported are gpt-2 (default), smollm, llama-bpe and qwen2; use a model of these "
                                    "families");
    free(path);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies),   cmocka_unit_test(test_template_file),
        cmocka_unit_test(test_gguf_bpe), cmocka_unit_test(test_gguf_pieces),
        cmocka_unit_test(test_messages), cmocka_unit_test(test_unknown_pretokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
