// record.h - one record of a data set, whatever its format was: a conversation, a text, or a prompt with completion.
//
// A Record made by a reader is valid: a conversation has an optional system message first, then user and assistant in
// turn, user first, and ends with an assistant message that is not empty; every text is UTF-8 without NUL.
#pragma once
#include "tokenizer/template.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { RECORD_CHAT, RECORD_TEXT, RECORD_COMPLETION } RecordKind;

typedef struct Record {
    RecordKind kind;

    // RECORD_CHAT
    Message *messages; // [count], the record's own array; the texts are borrowed from what was parsed
    uint8_t *weights;  // [count]: 0 for an assistant message that is no target ("weight": 0), else 1
    int count;
    int capacity;

    // RECORD_COMPLETION, both not NULL
    const char *prompt;
    const char *completion;

    // RECORD_TEXT
    const char *text;
} Record;

// What became of a record: with RECORD_BAD the error's text is the reason it cannot be used, in words that follow
// "file:line: "; RECORD_FAILED ends the program.
typedef enum { RECORD_GOOD, RECORD_BAD, RECORD_FAILED } RecordResult;

// Sets the reason and returns RECORD_BAD.
RecordResult record_bad(Error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Empties a record, its memory kept for the next one; a zeroed Record is empty.
void record_clear(Record *record);
void record_free(Record *record);
// Appends a message; target: whether an assistant message is trained. false when memory runs out.
bool record_add(Record *record, Role role, const char *text, bool target, Error *error);
// Checks what the head of this file promises of a conversation. Reasons count messages from 1.
RecordResult record_check_chat(const Record *record, Error *error);
