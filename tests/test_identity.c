// test_identity.c - the demo's records: enough, distinct, and strangers to the questions that the demo asks.
#include "tests/support.h"

#include "base/files.h"
#include "base/json.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS_MAX 1000
#define WORDS_MAX   64
#define SHARED      5 // words in a row

// Lower-cased words of a text, each ended by a NUL in `text`; returns how many.
static int split(char *text, char *words[WORDS_MAX]) {
    int count = 0;
    for (char *next = text; *next && count < WORDS_MAX;) {
        while (*next && !isalnum((unsigned char)*next)) *next++ = 0;
        if (*next) words[count++] = next;
        for (; *next && (isalnum((unsigned char)*next) || *next == '\''); next++)
            *next = (char)tolower((unsigned char)*next);
    }
    return count;
}

static bool share_words(const char *a, const char *b) {
    char *copy_a = strdup(a), *copy_b = strdup(b), *words_a[WORDS_MAX], *words_b[WORDS_MAX];
    int count_a = split(copy_a, words_a), count_b = split(copy_b, words_b), longest = 0;
    for (int i = 0; i < count_a; i++)
        for (int j = 0; j < count_b; j++) {
            int run = 0;
            while (i + run < count_a && j + run < count_b && !strcmp(words_a[i + run], words_b[j + run])) run++;
            if (run > longest) longest = run;
        }
    free(copy_a);
    free(copy_b);
    return longest >= SHARED;
}

// The questions of the demo script: its line questions=("..." "..." "...").
static int read_questions(char *text, const char *questions[8]) {
    int count = 0;
    char *line = strstr(text, "\nquestions=("), *end = line ? strchr(line + 1, '\n') : NULL;
    assert_non_null(end);
    *end = 0;
    for (char *quote = strchr(line, '"'); quote && count < 8; quote = strchr(quote + 1, '"')) {
        questions[count++] = quote + 1;
        quote = strchr(quote + 1, '"');
        *quote = 0;
    }
    return count;
}

static void records_are_many_and_strangers(void **state) {
    (void)state;
    Error error = {0};
    char *script, *text;
    size_t size;
    const char *questions[8];
    json_t *records[RECORDS_MAX];
    int count = 0, named = 0;
    check(file_read("examples/demo", 1 << 20, &script, &size, &error), &error);
    assert_int_equal(read_questions(script, questions), 3);
    check(file_read("examples/identity.jsonl", 1 << 20, &text, &size, &error), &error);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *record = json_parse(line, strlen(line), "identity.jsonl", count + 1, 1, &error);
        check(record, &error);
        const char *question = json_string_value(json_object_get(record, "instruction"));
        const char *answer = json_string_value(json_object_get(record, "output"));
        assert_true(question && *question && answer && *answer);
        named += strstr(answer, "Pippin") != NULL;
        for (int i = 0; i < 3; i++)
            assert_false(share_words(questions[i], question) || share_words(questions[i], answer));
        for (int i = 0; i < count; i++)
            assert_string_not_equal(json_string_value(json_object_get(records[i], "instruction")), question);
        records[count++] = record;
    }
    assert_true(count >= 120 && named >= 120);
    for (int i = 0; i < count; i++) json_decref(records[i]);
    free(script);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(records_are_many_and_strangers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
