// test_tokenizer.c - ids against the tokenizers, transformers and sentencepiece libraries (make_tokenizer_golden.py),
// decoding, and time that is linear in the text.
#include "base/buffer.h"
#include "base/files.h"
#include "base/json.h"
#include "tests/support.h"
#include "tokenizer/tokenizer.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zlib.h>

#define LARGE_FILES "../shared/data" // real texts, used where they are there

static json_t *read_golden(void) {
    Error error;
    Buffer text = BUFFER_EMPTY;
    char bytes[65536];
    size_t got;
    TextStream *stream = text_stream_open("tests/golden/tokenizer.json.gz", &error);
    check(stream != NULL, &error);
    do {
        check(text_stream_read(stream, bytes, sizeof bytes, &got, &error), &error);
        check(buffer_append(&text, bytes, got, &error), &error);
    } while (got > 0);
    text_stream_close(stream);
    json_t *golden = json_parse(text.data, text.size, "tokenizer.json.gz", 1, 1, &error);
    check(golden != NULL, &error);
    buffer_free(&text);
    return golden;
}

static const json_t *find_case(const json_t *golden, const char *name) {
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(golden, "cases"), i, value) {
        if (!strcmp(json_string_value(json_object_get(value, "name")), name)) return value;
    }
    fail_msg("no case %s", name);
    return NULL;
}

static size_t decode_base64(const char *text, unsigned char *bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t count = 0;
    unsigned bits = 0, have = 0;
    for (; *text && *text != '='; text++) {
        bits = bits << 6 | (unsigned)(strchr(digits, *text) - digits);
        have += 6;
        if (have < 8) continue;
        have -= 8;
        bytes[count++] = (unsigned char)(bits >> have);
    }
    return count;
}

// A folder with the case's files. JSON files are objects in the golden file, tokenizer.model is base64.
static char *make_tokenizer_folder(const json_t *value) {
    char *folder = make_folder();
    const char *name;
    json_t *content;
    json_object_foreach(json_object_get(value, "files"), name, content) {
        char *text;
        size_t size;
        if (json_is_string(content)) {
            text = malloc(json_string_length(content) + 1);
            size = decode_base64(json_string_value(content), (unsigned char *)text);
        } else {
            text = json_dumps(content, 0);
            size = strlen(text);
        }
        free(write_file(folder, name, text, size));
        free(text);
    }
    return folder;
}

static Tokenizer *open_case(const json_t *golden, const char *name) {
    Error error;
    char *folder = make_tokenizer_folder(find_case(golden, name));
    Tokenizer *tokenizer = tokenizer_open(folder, 1 << 20, &error);
    check(tokenizer != NULL, &error);
    remove_folder(folder);
    return tokenizer;
}

static TokenList encode(const Tokenizer *tokenizer, const char *text, size_t size, TextPlace place) {
    Error error;
    TokenList ids = {0};
    check(tokenizer_encode(tokenizer, text, size, place, &ids, &error), &error);
    return ids;
}

static void compare_texts(const json_t *golden, const json_t *value, const Tokenizer *tokenizer) {
    const char *name = json_string_value(json_object_get(value, "name"));
    bool first = !strcmp(json_string_value(json_object_get(value, "place")), "first");
    const json_t *texts = json_object_get(golden, "texts"), *all = json_object_get(value, "ids");
    assert_true(json_array_size(texts) > 300 && json_array_size(all) == json_array_size(texts));
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(texts, i), *want = json_array_get(all, i);
        if (json_is_null(want)) continue;
        TokenList ids = encode(tokenizer, json_string_value(text), json_string_length(text),
                               first ? TEXT_FIRST : TEXT_AFTER_SPECIAL);
        bool same = (size_t)ids.count == json_array_size(want);
        for (int64_t k = 0; same && k < ids.count; k++)
            same = ids.ids[k] == json_integer_value(json_array_get(want, (size_t)k));
        token_list_free(&ids);
        if (!same) fail_msg("%s: text %zu has other ids: %s", name, i, json_string_value(text));
    }
}

// Fails the test unless the ids of text are as many, and have the CRC-32, as stored.
static void compare_digest(const json_t *digest, const Tokenizer *tokenizer, const char *name, const char *text,
                           size_t size) {
    TokenList ids = encode(tokenizer, text, size, TEXT_FIRST);
    if (ids.count != json_integer_value(json_object_get(digest, "count")) ||
        crc32(0, (const unsigned char *)ids.ids, (unsigned)(ids.count * 4)) !=
            (unsigned long)json_integer_value(json_object_get(digest, "crc32")))
        fail_msg("%s: %s gives other ids", name, tokenizer_kind(tokenizer));
    token_list_free(&ids);
}

// The large files that are there; with sanitizers, which look at memory, the fuzzer's texts say more than a megabyte.
static void compare_files(const json_t *digests, const Tokenizer *tokenizer) {
    Error error;
    const char *name;
    json_t *digest;
    if (built_with_sanitizer()) return;
    json_object_foreach((json_t *)digests, name, digest) {
        char *path = path_join(LARGE_FILES, name), *text;
        size_t size;
        if (path_exists(path)) {
            check(file_read(path, 1 << 26, &text, &size, &error), &error);
            compare_digest(digest, tokenizer, name, text, size);
            free(text);
        }
        free(path);
    }
}

static void test_ids(void **state) {
    json_t *golden = *state, *value;
    size_t i;
    json_array_foreach(json_object_get(golden, "cases"), i, value) {
        Tokenizer *tokenizer = open_case(golden, json_string_value(json_object_get(value, "name")));
        compare_texts(golden, value, tokenizer);
        compare_files(json_object_get(value, "large"), tokenizer);
        tokenizer_close(tokenizer);
    }
}

static void test_llama2(void **state) {
    Error error;
    char *model;
    size_t size;
    if (!path_exists(LARGE_FILES "/llama2_tokenizer.model")) skip();
    check(file_read(LARGE_FILES "/llama2_tokenizer.model", 1 << 24, &model, &size, &error), &error);
    char *folder = make_folder();
    free(write_file(folder, "tokenizer.model", model, size));
    Tokenizer *tokenizer = tokenizer_open(folder, 32000, &error);
    check(tokenizer != NULL, &error);
    compare_files(json_object_get(*state, "llama2"), tokenizer);
    assert_int_equal(tokenizer_bos(tokenizer), 1);
    assert_int_equal(tokenizer_eos(tokenizer), 2);
    tokenizer_close(tokenizer);
    remove_folder(folder);
    free(model);
}

// The whole vocabulary of a real model, read from its GGUF file.
static void test_smollm2(void **state) {
    Error error;
    const char *path = getenv("LISA_TEST_MODEL");
    if (!path) skip();
    Tokenizer *tokenizer = tokenizer_open(path, 49152, &error);
    check(tokenizer != NULL, &error);
    const json_t *texts = json_object_get(*state, "texts"), *digests = json_object_get(*state, "smollm2_texts");
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const char *text = json_string_value(json_array_get(texts, i));
        compare_digest(json_array_get(digests, i), tokenizer, text, text, strlen(text));
    }
    compare_files(json_object_get(*state, "smollm2"), tokenizer);
    tokenizer_close(tokenizer);
}

// What is encoded is read back byte for byte, SentencePiece's space before it aside.
static void test_decode(void **state) {
    static const char *const names[] = {"gpt-2", "llama-bpe", "sentencepiece bpe", "converted",
                                        "sentencepiece unigram"};
    Error error;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        Tokenizer *tokenizer = open_case(*state, names[n]);
        size_t i;
        json_t *text;
        json_array_foreach(json_object_get(*state, "texts"), i, text) {
            if (strstr(json_string_value(text), "\xe2\x96\x81")) continue; // SentencePiece's own mark reads as a space
            TokenList ids = encode(tokenizer, json_string_value(text), json_string_length(text), TEXT_CONTINUES);
            Buffer back = BUFFER_EMPTY;
            for (int64_t k = 0; k < ids.count; k++)
                check(tokenizer_decode(tokenizer, ids.ids[k], false, &back, &error), &error);
            assert_string_equal(buffer_string(&back), json_string_value(text));
            buffer_free(&back);
            token_list_free(&ids);
        }
        tokenizer_close(tokenizer);
    }
}

static void check_ids(const Tokenizer *tokenizer, const char *text, TextPlace place, const char *pieces) {
    Error error;
    Buffer back = BUFFER_EMPTY;
    TokenList ids = encode(tokenizer, text, strlen(text), place);
    for (int64_t i = 0; i < ids.count; i++) {
        if (i > 0) check(buffer_byte(&back, '|', &error), &error);
        check(tokenizer_decode(tokenizer, ids.ids[i], true, &back, &error), &error);
    }
    assert_string_equal(buffer_string(&back), pieces);
    buffer_free(&back);
    token_list_free(&ids);
}

static void test_places(void **state) {
    Tokenizer *tokenizer = open_case(*state, "sentencepiece bpe");
    check_ids(tokenizer, "the", TEXT_FIRST, " the");
    check_ids(tokenizer, "the", TEXT_AFTER_SPECIAL, " the");
    check_ids(tokenizer, "the", TEXT_CONTINUES, "t|he");
    tokenizer_close(tokenizer);
    tokenizer = open_case(*state, "LlamaTokenizer legacy=False");
    check_ids(tokenizer, "the", TEXT_FIRST, " the");
    check_ids(tokenizer, " the", TEXT_FIRST, " the");
    check_ids(tokenizer, "the", TEXT_AFTER_SPECIAL, "t|he");
    tokenizer_close(tokenizer);
}

static void test_special_tokens(void **state) {
    Error error;
    Tokenizer *tokenizer = open_case(*state, "qwen2");
    int32_t end = tokenizer_special(tokenizer, "<|im_end|>"), call = tokenizer_special(tokenizer, "<tool_call>");
    assert_true(end >= 0 && call >= 0);
    assert_int_equal(tokenizer_special(tokenizer, "<|im_end|"), -1);
    assert_int_equal(tokenizer_size(tokenizer), 607);
    assert_string_equal(tokenizer_kind(tokenizer), "BPE (qwen2)");
    Buffer text = BUFFER_EMPTY;
    check(tokenizer_decode(tokenizer, end, false, &text, &error), &error);
    assert_string_equal(buffer_string(&text), "");
    check(tokenizer_decode(tokenizer, end, true, &text, &error), &error);
    assert_string_equal(buffer_string(&text), "<|im_end|>");
    buffer_clear(&text);
    check(tokenizer_decode(tokenizer, call, false, &text, &error), &error); // added, but not special
    assert_string_equal(buffer_string(&text), "<tool_call>");
    buffer_free(&text);
    TokenList ids = encode(tokenizer, "<|im_end|>", 10, TEXT_FIRST);
    for (int64_t i = 0; i < ids.count; i++) assert_int_not_equal(ids.ids[i], end);
    token_list_free(&ids);
    assert_false(tokenizer_encode(tokenizer, "a\xff", 2, TEXT_FIRST, &ids, &error));
    assert_string_equal(error.text, "text is not valid UTF-8");
    tokenizer_close(tokenizer);
}

static double seconds(const Tokenizer *tokenizer, const char *text, size_t size) {
    struct timespec start, end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    TokenList ids = encode(tokenizer, text, size, TEXT_FIRST);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    token_list_free(&ids);
    return (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
}

// A word 32 times as long may take 32 times as long, or with a logarithm 50 times; a quadratic engine takes 1000 times.
static void test_long_words(void **state) {
    static const char *const names[] = {"gpt-2", "smollm", "llama-bpe", "sentencepiece bpe"};
    static const char letters[] = "a \n1";
    size_t size = 1 << 20;
    char *text = malloc(size);
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        Tokenizer *tokenizer = open_case(*state, names[n]);
        for (const char *letter = letters; *letter; letter++) {
            memset(text, *letter, size);
            double small = seconds(tokenizer, text, size / 32), large = seconds(tokenizer, text, size);
            if (large > 0.5 && large > 200 * small)
                fail_msg("%s: %g s for 32 KiB of '%c', %g s for 1 MiB", names[n], small, *letter, large);
        }
        tokenizer_close(tokenizer);
    }
    free(text);
}

static int setup(void **state) {
    *state = read_golden();
    return 0;
}

static int teardown(void **state) {
    json_decref(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),        cmocka_unit_test(test_llama2), cmocka_unit_test(test_smollm2),
        cmocka_unit_test(test_decode),     cmocka_unit_test(test_places), cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_long_words),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
