// json.h - the one JSON reader: jansson, with errors that name file, line and column.
#pragma once
#include "base/error.h"
#include <jansson.h>
#include <stdint.h>

// Parses one JSON value of `size` bytes; nothing but white space may follow it. `where` names the source in errors,
// (line, column), from 1, is where the text starts in it. NULL on failure. The caller owns the value (json_decref).
// Duplicate keys, invalid UTF-8 and NUL characters are refused; nesting is limited by jansson (2048). An integer that
// does not fit 64 bits is read as a real.
json_t *json_parse(const char *text, size_t size, const char *where, int64_t line, int64_t column, Error *error);
// Parses a whole file of at most `limit` bytes.
json_t *json_read_file(const char *path, size_t limit, Error *error);

// Members of an object, borrowed. A missing key or null leaves *value as it was and is no error; a value of another
// type is one ("<where>: \"key\" must be a number"). `where` names the source.
bool json_get_integer(const json_t *object, const char *key, int64_t *value, const char *where, Error *error);
bool json_get_number(const json_t *object, const char *key, double *value, const char *where, Error *error);
bool json_get_boolean(const json_t *object, const char *key, bool *value, const char *where, Error *error);
bool json_get_string(const json_t *object, const char *key, const char **value, const char *where, Error *error);

// Serialised with two spaces of indent and a final newline, as Hugging Face writes it. free() it; NULL without memory.
char *json_to_text(const json_t *value);
