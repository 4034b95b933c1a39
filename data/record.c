// record.c - see record.h.
#include "data/record.h"
#include <stdio.h>
#include <stdlib.h>

RecordResult record_bad(Error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char reason[256];
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    error_set(error, "%s", reason);
    return RECORD_BAD;
}

void record_clear(Record *record) {
    *record = (Record){.messages = record->messages, .weights = record->weights, .capacity = record->capacity};
}

void record_free(Record *record) {
    free(record->messages);
    free(record->weights);
    *record = (Record){0};
}

static bool grow(Record *record, Error *error) {
    int capacity = record->capacity ? 2 * record->capacity : 16;
    Message *messages = realloc(record->messages, (size_t)capacity * sizeof *messages);
    if (!messages) return error_memory(error, "a conversation", (size_t)capacity * sizeof *messages);
    record->messages = messages;
    uint8_t *weights = realloc(record->weights, (size_t)capacity);
    if (!weights) return error_memory(error, "a conversation", (size_t)capacity);
    record->weights = weights;
    record->capacity = capacity;
    return true;
}

bool record_add(Record *record, Role role, const char *text, bool target, Error *error) {
    if (record->count == record->capacity && !grow(record, error)) return false;
    record->messages[record->count] = (Message){.role = role, .text = text};
    record->weights[record->count++] = role == ROLE_ASSISTANT && target;
    return true;
}

static bool is_blank(const char *text) {
    while (*text == ' ' || *text == '\t' || *text == '\n' || *text == '\r') text++;
    return !*text;
}

RecordResult record_check_chat(const Record *record, Error *error) {
    const Message *messages = record->messages;
    int first = record->count && messages[0].role == ROLE_SYSTEM ? 1 : 0; // the first turn
    bool target = false;
    for (int i = first; i < record->count; i++) {
        bool assistant = messages[i].role == ROLE_ASSISTANT;
        if (messages[i].role == ROLE_SYSTEM)
            return record_bad(error, "a system message after the first (message %d)", i + 1);
        if (i == first && assistant) return record_bad(error, "the first turn is the assistant's");
        if (i > first && messages[i].role == messages[i - 1].role)
            return record_bad(error, "two %s turns in a row (messages %d and %d)", assistant ? "assistant" : "user", i,
                              i + 1);
        if (assistant && is_blank(messages[i].text)) return record_bad(error, "empty answer (message %d)", i + 1);
        target |= record->weights[i] != 0;
    }
    if (first == record->count) return record_bad(error, "the conversation has no turns");
    if (messages[record->count - 1].role == ROLE_USER)
        return record_bad(error, "no answer: the last turn is the user's");
    return target ? RECORD_GOOD : record_bad(error, "every answer has weight 0");
}
