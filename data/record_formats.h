// record_formats.h - what the readers of the record formats share. Inside data/ only; users see records.h.
#pragma once
#include "data/records.h"

// The readers: value is an object, record is empty. What they return as good is checked by record_from_json.
RecordResult record_read_alpaca(const RecordKeys *keys, const json_t *value, Record *record, Error *error);
RecordResult record_read_sharegpt(const RecordKeys *keys, const json_t *value, Record *record, Error *error);
RecordResult record_read_openai(const RecordKeys *keys, const json_t *value, Record *record, Error *error);
RecordResult record_read_prompt_completion(const RecordKeys *keys, const json_t *value, Record *record, Error *error);
RecordResult record_read_text(const RecordKeys *keys, const json_t *value, Record *record, Error *error);

// A string member. Missing, null or without a key: *text is NULL. Another type is a reason.
RecordResult record_string(const json_t *object, const char *key, const char **text, Error *error);

// One message of a list.
typedef struct RecordMessage {
    Role role;
    const char *text; // borrowed
    bool target;      // whether an assistant message is trained; true unless the reader says otherwise
} RecordMessage;

// Reads message `number` (from 1), an object.
typedef RecordResult ReadMessage(const RecordKeys *keys, const json_t *value, size_t number, RecordMessage *message,
                                 Error *error);
// Reads a record that is a list of messages, with the system text beside it where no system message is in front.
RecordResult record_read_messages(const RecordKeys *keys, const json_t *value, ReadMessage *read, Record *record,
                                  Error *error);
RecordResult record_unknown_role(const RecordKeys *keys, const char *role, size_t number, Error *error);
// Tools would have to be shown to the model, which we do not do.
RecordResult record_refuse_tools(const RecordKeys *keys, const json_t *value, Error *error);
