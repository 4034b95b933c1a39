// test_export_tokenizer.c - a tokenizer as GGUF metadata gives the same ids, and says what llama.cpp goes by.
#include "base/files.h"
#include "base/gguf_write.h"
#include "tests/loaded_model.h"
#include "tests/support.h"
#include "tokenizer/write_gguf.h"
#include <stdlib.h>
#include <string.h>

#define TOKENIZERS "tests/golden/templates/"

// A tokenizer of a folder, and what became of it in a GGUF file without tensors.
typedef struct Pair {
    char *folder;
    Tokenizer *from;
    Tokenizer *to;
    GgufFile file;
} Pair;

static void open_pair(Pair *pair, const char *name, int64_t vocabulary, const TokenizerFacts *facts) {
    Error error = {0};
    char from[96];
    snprintf(from, sizeof from, TOKENIZERS "%s", name);
    *pair = (Pair){.folder = make_folder(), .from = tokenizer_open(from, vocabulary, &error)};
    check(pair->from != NULL, &error);
    GgufMetadata metadata = GGUF_METADATA_EMPTY;
    check(tokenizer_put_metadata(pair->from, facts, vocabulary, &metadata, &error), &error);
    char *path = path_join(pair->folder, "tokenizer.gguf");
    GgufWriter *writer = gguf_create(path, &metadata, NULL, 0, 32, &error);
    check(writer && gguf_finish(writer, &error), &error);
    check(gguf_open(&pair->file, path, &error), &error);
    pair->to = tokenizer_open(path, vocabulary, &error);
    check(pair->to != NULL, &error);
    gguf_metadata_free(&metadata);
    free(path);
}

static void close_pair(Pair *pair) {
    tokenizer_close(pair->from);
    tokenizer_close(pair->to);
    gguf_close(&pair->file);
    remove_folder(pair->folder);
}

static int64_t integer(const Pair *pair, const char *key) {
    Error error = {0};
    char name[96];
    int64_t value = -1;
    snprintf(name, sizeof name, "tokenizer.ggml.%s", key);
    check(gguf_get_integer(&pair->file, name, &value, &error), &error);
    return value;
}

static bool flag(const Pair *pair, const char *key) {
    Error error = {0};
    char name[96];
    bool value = false;
    snprintf(name, sizeof name, "tokenizer.ggml.%s", key);
    check(gguf_get_boolean(&pair->file, name, &value, &error), &error);
    return value;
}

static void assert_same_ids(const Pair *pair, const char *text, TextPlace place) {
    Error error = {0};
    TokenList a = {0}, b = {0};
    check(tokenizer_encode(pair->from, text, strlen(text), place, &a, &error), &error);
    check(tokenizer_encode(pair->to, text, strlen(text), place, &b, &error), &error);
    assert_int_equal(a.count, b.count);
    assert_memory_equal(a.ids, b.ids, (size_t)a.count * sizeof *a.ids);
    token_list_free(&a);
    token_list_free(&b);
}

static const char *const TEXTS[] = {"Hello there", "the capital of France is", "1234 + 5 = 1239\n\n",
                                    "na\xc3\xafve \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80", "it's <|im_end|> [INST]"};

static void test_byte_level(void **state) {
    (void)state;
    const int32_t ends[] = {6};
    Pair pair;
    open_pair(
        &pair, "bpe", 410,
        &(TokenizerFacts){.chat = template_by_name("chatml"), .chat_template = "x", .ends = ends, .end_count = 1});
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++)
        for (int place = TEXT_FIRST; place <= TEXT_CONTINUES; place++)
            assert_same_ids(&pair, TEXTS[i], (TextPlace)place);
    assert_int_equal(tokenizer_special(pair.to, "<|im_end|>"), 6);
    assert_int_equal(integer(&pair, "bos_token_id"), 0);
    assert_int_equal(integer(&pair, "eos_token_id"), 1);
    assert_int_equal(integer(&pair, "eot_token_id"), 6);
    assert_int_equal(integer(&pair, "eom_token_id"), -1);
    assert_false(flag(&pair, "add_space_prefix"));
    assert_false(flag(&pair, "add_bos_token")); // chatml starts with none
    assert_string_equal(tokenizer_chat_template(pair.to), "x");
    close_pair(&pair);
}

static void test_sentencepiece(void **state) {
    (void)state;
    Error error = {0};
    const int32_t ends[] = {2, 5, 7};
    Pair pair;
    open_pair(&pair, "spm_inst", 425, &(TokenizerFacts){.ends = ends, .end_count = 3});
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        assert_same_ids(&pair, TEXTS[i], TEXT_FIRST);
        assert_same_ids(&pair, TEXTS[i], TEXT_CONTINUES);
    }
    const GgufValue *scores, *types;
    check(gguf_get_array(&pair.file, "tokenizer.ggml.scores", false, &scores, &error), &error);
    check(gguf_get_array(&pair.file, "tokenizer.ggml.token_type", false, &types, &error), &error);
    assert_int_equal(scores->count, 425);
    assert_int_equal(gguf_array_integer(types, 0), 2);   // <unk>
    assert_int_equal(gguf_array_integer(types, 1), 3);   // <s>
    assert_int_equal(gguf_array_integer(types, 3), 6);   // <0x00>
    assert_int_equal(gguf_array_integer(types, 300), 1); // a piece
    assert_int_equal(gguf_array_integer(types, 420), 3); // [INST]
    assert_int_equal(gguf_array_integer(types, 424), 5); // no token has it
    assert_true(gguf_array_number(scores, 420) == -1000);
    assert_true(gguf_array_number(scores, 424) == -10000);
    assert_int_equal(integer(&pair, "eos_token_id"), 2);
    assert_int_equal(integer(&pair, "eot_token_id"), -1); // no chat: no turns
    assert_int_equal(integer(&pair, "eom_token_id"), 5);  // and one more, for which there is no room
    assert_true(flag(&pair, "add_bos_token"));
    assert_true(flag(&pair, "add_space_prefix")); // plain text: the first has a space
    close_pair(&pair);
}

// A tokenizer that puts a space before the first text alone: in a chat that starts with BOS no text has one.
static void test_space_in_a_chat(void **state) {
    (void)state;
    Pair pair;
    open_pair(&pair, "spm", 420, &(TokenizerFacts){.chat = template_by_name("llama2"), .chat_template = "x"});
    assert_false(flag(&pair, "add_space_prefix"));
    assert_true(flag(&pair, "add_bos_token"));
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) assert_same_ids(&pair, TEXTS[i], TEXT_AFTER_SPECIAL);
    close_pair(&pair);
    open_pair(&pair, "spm", 420, &(TokenizerFacts){.chat = template_by_name("zephyr"), .chat_template = "x"});
    assert_false(flag(&pair, "add_bos_token")); // zephyr's chats were trained without
    close_pair(&pair);
}

static void test_two_tokens_of_one_text(void **state) {
    (void)state;
    Error error = {0};
    char *folder = make_folder();
    copy_file(TOKENIZERS "bpe/tokenizer.json", folder, "tokenizer.json", -1);
    // in GPT-2's alphabet the byte of a space is spelt as this character
    free(write_text(folder, "tokenizer_config.json",
                    "{\"added_tokens_decoder\": {\"405\": {\"content\": \"\xc4\xa0\", \"special\": true}}}"));
    Tokenizer *tokenizer = tokenizer_open(folder, 410, &error);
    check(tokenizer != NULL, &error);
    GgufMetadata metadata = GGUF_METADATA_EMPTY;
    assert_false(tokenizer_put_metadata(tokenizer, &(TokenizerFacts){0}, 410, &metadata, &error));
    assert_non_null(strstr(error.text, "and 405 have the same text \"\xc4\xa0\", which llama.cpp does not load"));
    gguf_metadata_free(&metadata);
    tokenizer_close(tokenizer);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_sentencepiece),
        cmocka_unit_test(test_space_in_a_chat),
        cmocka_unit_test(test_two_tokens_of_one_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
