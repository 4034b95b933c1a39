// json_stream.h - the records of a JSON file one at a time, in flat memory however large the file is.
//
// A file is a JSON array of values, or JSON lines: one value per line, blank lines allowed. Only the extent of each
// value is found here; parsing is the caller's, so that it can be shared out to threads.
#pragma once
#include "base/buffer.h"
#include <stdint.h>

#define JSON_RECORD_LIMIT ((size_t)64 << 20) // bytes of one record

typedef struct JsonStream JsonStream;

// Where a value starts in its file, from 1; columns are characters. For json_parse.
typedef struct JsonPlace {
    int64_t line, column;
} JsonPlace;

JsonStream *json_stream_open(const char *path, Error *error);
// Appends the bytes of the next value to text and says where it starts; *found is false at the end of the file.
// Errors: a record above the limit, an array that is not well formed (file:line:column), a damaged gzip file.
bool json_stream_next(JsonStream *stream, Buffer *text, JsonPlace *place, bool *found, Error *error);
// LMFlow's type, "" when the file is none of its; known once a value was asked for. Borrowed from the stream.
const char *json_stream_type(const JsonStream *stream);
void json_stream_close(JsonStream *stream); // NULL is allowed
