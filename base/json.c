// json.c - see json.h.
#include "base/json.h"
#include "base/files.h"
#include <stdlib.h>
#include <string.h>

// Whether an odd number of backslashes stands before text[at].
static bool escaped(const char *text, size_t at) {
    size_t start = at;
    while (start > 0 && text[start - 1] == '\\') start--;
    return (at - start) % 2 == 1;
}

// Integers too long for 64 bits get a ".0", which makes reals of them: Hugging Face writes 10^30 for "no limit".
static json_t *load_with_long_integers(const char *text, size_t size, size_t flags, json_error_t *problem) {
    char *longer = malloc(size + 2 * (size / 18) + 1); // one for every 18 digits at most
    if (!longer) return NULL;
    size_t out = 0, digits = 0;
    bool in_string = false, integer = false;
    for (size_t i = 0; i <= size; i++) {
        char byte = i < size ? text[i] : ' ';
        bool digit = !in_string && byte >= '0' && byte <= '9';
        if (!in_string && !digit) {
            if (integer && digits > 18 && byte != '.' && byte != 'e' && byte != 'E') {
                memcpy(longer + out, ".0", 2);
                out += 2;
            }
            integer = byte != '.' && byte != 'e' && byte != 'E' && byte != '+'; // what digits after it would be
            digits = 0;
        }
        digits += digit;
        if (byte == '"' && !(in_string && escaped(text, i))) in_string = !in_string;
        if (i < size) longer[out++] = byte;
    }
    json_t *value = json_loadb(longer, out, flags, problem);
    free(longer);
    return value;
}

json_t *json_parse(const char *text, size_t size, const char *where, int64_t line, int64_t column, Error *error) {
    json_error_t problem, second;
    size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
    json_t *value = json_loadb(text, size, flags, &problem);
    if (!value && json_error_code(&problem) == json_error_numeric_overflow)
        value = load_with_long_integers(text, size, flags, &second);
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
    // 15 digits keep 1e-05 short; where a number needs 17 to come back as it was, all have them
    const size_t flags = JSON_INDENT(2) | JSON_ENCODE_ANY;
    char *text = json_dumps(value, flags | JSON_REAL_PRECISION(15));
    json_t *back = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    if (text && !json_equal(value, back)) {
        free(text);
        text = json_dumps(value, flags);
    }
    json_decref(back);
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
