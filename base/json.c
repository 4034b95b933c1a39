// json.c - see json.h.
#include "base/json.h"
#include "base/files.h"
#include <stdlib.h>
#include <string.h>

json_t *json_parse(const char *text, size_t size, const char *where, int64_t line, int64_t column, Error *error) {
    json_error_t problem;
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
    if (value) return value;
    int64_t in_line = problem.line == 1 ? column - 1 : 0; // what stands before the text in its first line
    error_set(error, "%s:%lld:%lld: malformed JSON: %s", where, (long long)(line + problem.line - 1),
              (long long)(in_line + problem.column), problem.text);
    error_hint(error, "mend the file at that place; `python3 -m json.tool FILE` checks it");
    return NULL;
}

json_t *json_read_file(const char *path, size_t limit, Error *error) {
    char *text;
    size_t size;
    if (!file_read(path, limit, &text, &size, error)) return NULL;
    json_t *value = json_parse(text, size, path, 1, 1, error);
    free(text);
    return value;
}

// The member, or NULL when it is missing or null.
static const json_t *member(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static bool wrong_type(const char *key, const char *kind, const char *where, Error *error) {
    return error_set(error, "%s: \"%s\" must be %s", where, key, kind);
}

bool json_get_integer(const json_t *object, const char *key, int64_t *value, const char *where, Error *error) {
    const json_t *found = member(object, key);
    if (!found) return true;
    if (json_is_integer(found)) {
        *value = json_integer_value(found);
        return true;
    }
    double number = json_number_value(found);
    if (!json_is_real(found) || !(number >= -0x1p53 && number <= 0x1p53) || number != (double)(int64_t)number)
        return wrong_type(key, "an integer", where, error);
    *value = (int64_t)number;
    return true;
}

bool json_get_number(const json_t *object, const char *key, double *value, const char *where, Error *error) {
    const json_t *found = member(object, key);
    if (!found) return true;
    if (!json_is_number(found)) return wrong_type(key, "a number", where, error);
    *value = json_number_value(found);
    return true;
}

bool json_get_boolean(const json_t *object, const char *key, bool *value, const char *where, Error *error) {
    const json_t *found = member(object, key);
    if (!found) return true;
    if (!json_is_boolean(found)) return wrong_type(key, "true or false", where, error);
    *value = json_is_true(found);
    return true;
}

bool json_get_string(const json_t *object, const char *key, const char **value, const char *where, Error *error) {
    const json_t *found = member(object, key);
    if (!found) return true;
    if (!json_is_string(found)) return wrong_type(key, "a string", where, error);
    *value = json_string_value(found);
    return true;
}

char *json_to_text(const json_t *value) {
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
    if (!text) return NULL;
    size_t size = strlen(text);
    char *whole = realloc(text, size + 2);
    if (!whole) {
        free(text);
        return NULL;
    }
    memcpy(whole + size, "\n", 2);
    return whole;
}
