// test_records.c - each record format: what is read out of good records, and why bad ones are bad.
#include "base/buffer.h"
#include "data/records.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>

// A record in one line: "S:system|U:user(input)|A:answer|a:answer of weight 0|", "P:prompt|C:completion|" or "T:text|".
static void describe(const Record *record, Buffer *out) {
    Error error = {0};
    if (record->kind == RECORD_TEXT) {
        check(buffer_format(out, &error, "T:%s|", record->text), &error);
    } else if (record->kind == RECORD_COMPLETION) {
        check(buffer_format(out, &error, "P:%s|C:%s|", record->prompt, record->completion), &error);
    } else {
        for (int i = 0; i < record->count; i++) {
            Role role = record->messages[i].role;
            char letter = role == ROLE_SYSTEM ? 'S' : role == ROLE_USER ? 'U' : record->weights[i] ? 'A' : 'a';
            check(buffer_format(out, &error, "%c:%s", letter, record->messages[i].text), &error);
            if (record->messages[i].input) check(buffer_format(out, &error, "(%s)", record->messages[i].input), &error);
            check(buffer_text(out, "|", &error), &error);
        }
    }
}

static void expect_keys(DataFormat format, RecordKeys keys, const char *text, RecordResult result, const char *wanted) {
    Error error = {0};
    json_t *value = json_parse(text, strlen(text), "test", 1, 1, &error);
    assert_non_null(value);
    Record record = {0};
    Buffer out = BUFFER_EMPTY;
    assert_int_equal(record_from_json(format, &keys, value, &record, &error), result);
    if (result == RECORD_GOOD) describe(&record, &out);
    assert_string_equal(result == RECORD_GOOD ? buffer_string(&out) : error.text, wanted);
    buffer_free(&out);
    record_free(&record);
    json_decref(value);
}

static void good(DataFormat format, const char *text, const char *wanted) {
    expect_keys(format, record_keys(format), text, RECORD_GOOD, wanted);
}

static void bad(DataFormat format, const char *text, const char *reason) {
    expect_keys(format, record_keys(format), text, RECORD_BAD, reason);
}

static void test_alpaca(void **state) {
    (void)state;
    DataFormat f = FORMAT_ALPACA;
    good(f, "{\"instruction\":\"i\",\"input\":\"x\",\"output\":\"o\"}", "U:i(x)|A:o|");
    good(f, "{\"instruction\":\"i\",\"input\":\"\",\"output\":\"o\",\"system\":\"\",\"more\":1}", "U:i|A:o|");
    good(f,
         "{\"instruction\":\"i\",\"input\":null,\"output\":\" "
         "o\",\"system\":\"s\",\"history\":[[\"u\",\"a\"],[\"v\",\"b\"]]}",
         "S:s|U:u|A:a|U:v|A:b|U:i|A: o|");
    good(f, "{\"instruction\":\"i\",\"input\":\"x\",\"output\":\"o\",\"history\":[]}", "U:i(x)|A:o|");
    bad(f, "{\"input\":\"x\",\"output\":\"o\"}", "\"instruction\" is missing");
    bad(f, "{\"instruction\":\"i\"}", "no answer: \"output\" is missing");
    bad(f, "{\"instruction\":\"i\",\"output\":null}", "no answer: \"output\" is missing");
    bad(f, "{\"instruction\":\"i\",\"output\":\" \\n\"}", "empty answer (message 2)");
    bad(f, "{\"instruction\":\"i\",\"output\":[\"a\",\"b\"]}", "\"output\" is not a string");
    bad(f, "{\"instruction\":\"i\",\"output\":\"o\",\"history\":[[\"u\"]]}",
        "\"history\" is not a list of [user, assistant] pairs");
    bad(f, "{\"instruction\":\"i\",\"output\":\"o\",\"history\":[[\"u\",\"\"]]}", "empty answer (message 2)");
    bad(f, "{\"instruction\":\"i\",\"output\":\"o\",\"history\":\"h\"}", "\"history\" is not a list");
    bad(f, "[1]", "the record is not a JSON object");
    RecordKeys keys = {.prompt = "question", .response = "answer"};
    expect_keys(f, keys, "{\"question\":\"q\",\"answer\":\"a\",\"input\":\"unused\"}", RECORD_GOOD, "U:q|A:a|");
    expect_keys(f, keys, "{\"question\":\"q\"}", RECORD_BAD, "no answer: \"answer\" is missing");
}

#define HUMAN(text) "{\"from\":\"human\",\"value\":\"" text "\"}"
#define GPT(text)   "{\"from\":\"gpt\",\"value\":\"" text "\"}"

static void test_sharegpt(void **state) {
    (void)state;
    DataFormat f = FORMAT_SHAREGPT;
    good(f, "{\"conversations\":[" HUMAN("h") "," GPT("g") "," HUMAN("i") "," GPT("j") "]}", "U:h|A:g|U:i|A:j|");
    good(f, "{\"system\":\"s\",\"tools\":\"[]\",\"conversations\":[" HUMAN("h") "," GPT("g") "]}", "S:s|U:h|A:g|");
    good(f, "{\"system\":\"s\",\"conversations\":[{\"from\":\"system\",\"value\":\"t\"}," HUMAN("h") "," GPT("g") "]}",
         "S:t|U:h|A:g|");
    good(f, "{\"conversations\":[{\"from\":\"user\",\"value\":\"h\"},{\"from\":\"assistant\",\"value\":\"g\"}]}",
         "U:h|A:g|");
    bad(f, "{}", "\"conversations\" is missing");
    bad(f, "{\"conversations\":{}}", "\"conversations\" is not a list");
    bad(f, "{\"conversations\":[]}", "the conversation has no turns");
    bad(f, "{\"conversations\":[{\"from\":\"system\",\"value\":\"t\"}]}", "the conversation has no turns");
    bad(f, "{\"conversations\":[" GPT("g") "," HUMAN("h") "]}", "the first turn is the assistant's");
    bad(f, "{\"conversations\":[" HUMAN("h") "]}", "no answer: the last turn is the user's");
    bad(f, "{\"conversations\":[" HUMAN("h") "," HUMAN("h") "," GPT("g") "]}",
        "two user turns in a row (messages 1 and 2)");
    bad(f, "{\"conversations\":[" HUMAN("h") "," GPT("g") "," GPT("g") "]}",
        "two assistant turns in a row (messages 2 and 3)");
    bad(f, "{\"conversations\":[" HUMAN("h") "," GPT("") "]}", "empty answer (message 2)");
    bad(f, "{\"conversations\":[" HUMAN("h") ",{\"from\":\"system\",\"value\":\"t\"}," GPT("g") "]}",
        "a system message after the first (message 2)");
    bad(f, "{\"conversations\":[" HUMAN("h") ",{\"from\":\"function_call\",\"value\":\"{}\"}]}",
        "tool role \"function_call\" (message 2): tool calls are not supported");
    bad(f, "{\"conversations\":[" HUMAN("h") "," GPT("g") ",{\"from\":\"observation\",\"value\":\"{}\"}]}",
        "tool role \"observation\" (message 3): tool calls are not supported");
    bad(f, "{\"tools\":\"[{}]\",\"conversations\":[" HUMAN("h") "," GPT("g") "]}",
        "\"tools\": tools are not supported");
    bad(f, "{\"conversations\":[{\"from\":\"bing\",\"value\":\"h\"}]}",
        "unknown role \"bing\" (message 1); known are \"system\", \"human\", \"gpt\"");
    bad(f, "{\"conversations\":[{\"from\":\"human\"}]}", "\"value\" is missing (message 1)");
    bad(f, "{\"conversations\":[{\"value\":\"x\"}]}", "\"from\" is missing (message 1)");
    bad(f, "{\"conversations\":[" HUMAN("h") ",3]}", "message 2 is not an object");
}

#define USER(text)      "{\"role\":\"user\",\"content\":\"" text "\"}"
#define ASSISTANT(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"

static void test_openai(void **state) {
    (void)state;
    DataFormat f = FORMAT_OPENAI;
    good(f, "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"}," USER("u") "," ASSISTANT("a") "]}",
         "S:s|U:u|A:a|");
    good(f, "{\"messages\":[{\"role\":\"developer\",\"content\":\"s\"}," USER("u") "," ASSISTANT("a") "]}",
         "S:s|U:u|A:a|");
    good(f,
         "{\"messages\":[" USER("u") ",{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0}," USER(
             "v") ",{\"role\":\"assistant\",\"content\":\"b\",\"weight\":1.0,\"tool_calls\":[]}]}",
         "U:u|a:a|U:v|A:b|");
    good(f, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"}]}," ASSISTANT("a") "]}",
         "U:u|A:a|");
    bad(f, "{\"messages\":[" USER("u") ",{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0}]}",
        "every answer has weight 0");
    bad(f, "{\"messages\":[" USER("u") ",{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0.5}]}",
        "\"weight\" is neither 0 nor 1 (message 2)");
    bad(f, "{\"messages\":[" USER("u") ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{}]}]}",
        "tool calls of \"assistant\" (message 2): tool calls are not supported");
    bad(f, "{\"messages\":[" USER("u") ",{\"role\":\"tool\",\"content\":\"r\"}]}",
        "tool role \"tool\" (message 2): tool calls are not supported");
    bad(f, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}," ASSISTANT("a") "]}",
        "\"content\" has parts that are not one text (message 1)");
    bad(f, "{\"messages\":[{\"role\":\"user\",\"content\":5}," ASSISTANT("a") "]}",
        "\"content\" is not a string (message 1)");
    bad(f, "{\"messages\":[" USER("u") ",{\"role\":\"assistant\"}]}", "\"content\" is missing (message 2)");
    bad(f, "{\"messages\":[{\"role\":\"narrator\",\"content\":\"x\"}]}",
        "unknown role \"narrator\" (message 1); known are \"system\", \"user\", \"assistant\"");
    bad(f, "{\"messages\":[{\"content\":\"x\"}]}", "\"role\" is missing (message 1)");
    bad(f, "{\"messages\":[" USER("u") "," ASSISTANT("a") "],\"tools\":[{}]}", "\"tools\": tools are not supported");
}

static void test_prompt_completion(void **state) {
    (void)state;
    DataFormat f = FORMAT_PROMPT_COMPLETION;
    good(f, "{\"prompt\":\"\",\"completion\":\"c\"}", "P:|C:c|");
    bad(f, "{\"completion\":\"c\"}", "\"prompt\" is missing");
    bad(f, "{\"prompt\":\"p\"}", "no answer: \"completion\" is missing");
    bad(f, "{\"prompt\":\"p\",\"completion\":\"\"}", "empty answer: \"completion\"");
    bad(f, "{\"prompt\":[],\"completion\":\"c\"}", "\"prompt\" is not a string");
}

static void test_text(void **state) {
    (void)state;
    good(FORMAT_TEXT, "{\"text\":\"t\",\"meta\":{}}", "T:t|");
    bad(FORMAT_TEXT, "{\"text\":\"\"}", "\"text\" is empty");
    bad(FORMAT_TEXT, "{\"content\":\"t\"}", "\"text\" is missing");
}

// A conversation longer than the first allocation.
static void test_many_turns(void **state) {
    (void)state;
    Error error = {0};
    Record record = {0};
    for (int i = 0; i < 1000; i++)
        check(record_add(&record, i % 2 ? ROLE_ASSISTANT : ROLE_USER, "x", true, &error), &error);
    assert_int_equal(record_check_chat(&record, &error), RECORD_GOOD);
    assert_int_equal(record.count, 1000);
    record_clear(&record);
    assert_int_equal(record.count, 0);
    record_free(&record);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alpaca), cmocka_unit_test(test_sharegpt),
        cmocka_unit_test(test_openai), cmocka_unit_test(test_prompt_completion),
        cmocka_unit_test(test_text),   cmocka_unit_test(test_many_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
