// records.h - parsed JSON as records: the formats of record files, each in a file of its own.
#pragma once
#include "base/json.h"
#include "data/record.h"
#include "data/settings.h"

// What the parts of a record are called in its file; NULL where the format or the file has no such part.
typedef struct RecordKeys {
    // the record's own keys
    const char *prompt;   // alpaca, prompt/completion: what the user says
    const char *query;    // alpaca: its input
    const char *response; // alpaca, prompt/completion: the answer
    const char *history;  // alpaca: earlier turns as [user, assistant] pairs
    const char *messages; // sharegpt, openai: the list of messages
    const char *system;   // the system text
    const char *tools;    // tool descriptions; a record that has any is refused
    const char *text;     // text
    // the keys and roles of a message
    const char *role_tag, *content_tag;
    const char *user_tag, *assistant_tag, *system_tag;
    const char *function_tag, *observation_tag; // tool roles; a record that has any is refused
} RecordKeys;

// The names that a format has when nobody says otherwise.
RecordKeys record_keys(DataFormat format);

// Reads and checks one record; its texts are borrowed from value. format is neither FORMAT_AUTO nor FORMAT_PLAIN.
RecordResult record_from_json(DataFormat format, const RecordKeys *keys, const json_t *value, Record *record,
                              Error *error);
