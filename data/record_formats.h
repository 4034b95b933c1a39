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
// The list of messages, not empty; *list is borrowed.
RecordResult record_messages(const RecordKeys *keys, const json_t *value, const json_t **list, Error *error);
// Tools would have to be shown to the model, which we do not do.
RecordResult record_refuse_tools(const RecordKeys *keys, const json_t *value, Error *error);
