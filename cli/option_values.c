// option_values.c - see option_values.h.
#include "cli/option_values.h"
#include "base/buffer.h"
#include "base/numbers.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int truth_of(const char *value) {
    if (!strcasecmp(value, "true") || !strcasecmp(value, "yes") || !strcasecmp(value, "on") || !strcmp(value, "1"))
        return 1;
    if (!strcasecmp(value, "false") || !strcasecmp(value, "no") || !strcasecmp(value, "off") || !strcmp(value, "0"))
        return 0;
    return -1;
}

bool has_word(const char *words, const char *word) {
    size_t length = strlen(word);
    for (const char *at = words; at && *at;) {
        size_t size = strcspn(at, " ");
        if (size == length && !memcmp(at, word, length)) return true;
        at += size + (at[size] == ' ');
    }
    return false;
}

void *option_place(const Options *options, const OptionRow *row) {
    return (char *)options + row->offset;
}

static bool parse_flag(bool *flag, const OptionRow *row, const char *value, Error *error) {
    int is = truth_of(value);
    if (is < 0) return error_usage(error, "%s: \"%s\" is neither true nor false", row->name, value);
    *flag = is == 1;
    return true;
}

static bool parse_choice(int *choice, const OptionRow *row, const char *value, Error *error) {
    int is = truth_of(value);
    for (int i = 0; row->choices[i]; i++) {
        const char *name = row->choices[i];
        bool same = !strcasecmp(name, value) || (is >= 0 && truth_of(name) == is);
        if (same) {
            *choice = i;
            return true;
        }
    }
    error_usage(error, "%s: \"%s\" is not there", row->name, value);
    char names[256] = "";
    for (int i = 0; row->choices[i]; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", row->choices[i]);
    }
    return error_hint(error, "%s is one of %s", row->name, names);
}

static bool parse_number(double *number, const OptionRow *row, const char *value, Error *error) {
    bool whole = row->type == VALUE_INTEGER || row->type == VALUE_SEED;
    char *end = NULL;
    errno = 0;
    *number = whole ? (double)strtoll(value, &end, 10) : strtod(value, &end);
    bool complete = end != value && *end == 0 && !isspace((unsigned char)*value);
    if (!complete || isnan(*number))
        return error_usage(error, "%s: \"%s\" is not a %snumber", row->name, value, whole ? "whole " : "");
    if (errno == ERANGE && fabs(*number) < 1) errno = 0; // a denormal
    if (errno == ERANGE || *number < row->least || *number > row->most) {
        error_usage(error, "%s: value out of range: %s", row->name, value);
        return error_hint(error, "%s is between %g and %g", row->name, row->least, row->most);
    }
    return true;
}

static bool parse_size(uint64_t *bytes, const OptionRow *row, const char *value, Error *error) {
    if (!parse_bytes(value, bytes)) {
        error_usage(error, "%s: \"%s\" is not a size", row->name, value);
        return error_hint(error, "sizes are numbers with an optional unit, such as 8GiB, 8G, 512M");
    }
    if ((double)*bytes < row->least || (double)*bytes > row->most)
        return error_usage(error, "%s: value out of range: %s", row->name, value);
    return true;
}

static bool parse_sizes(SizeList *list, const OptionRow *row, const char *value, Error *error) {
    char piece[32];
    SizeList sizes = {.count = 0};
    for (const char *at = value;; at++) {
        size_t length = strcspn(at, ",");
        if (sizes.count == SIZES_MAX) return error_usage(error, "%s: more than %d sizes", row->name, SIZES_MAX);
        if (length >= sizeof piece) length = sizeof piece - 1; // no size is so long: it is refused
        memcpy(piece, at, length);
        piece[length] = 0;
        uint64_t bytes;
        if (!parse_size(&bytes, row, piece, error)) return false;
        if (bytes > 0) sizes.bytes[sizes.count++] = bytes;
        at += length;
        if (*at != ',') break;
    }
    *list = sizes;
    return true;
}

// A path as a shell would give it: "~/" at its start, or at the start of one in a list, is the home folder.
static bool expand_home(Buffer *text, const char *value, Error *error) {
    const char *home = getenv("HOME");
    for (const char *at = value; *at; at++) {
        bool start = at == value || at[-1] == ',';
        bool good = start && home && at[0] == '~' && at[1] == '/' ? buffer_text(text, home, error)
                                                                  : buffer_byte(text, *at, error);
        if (!good) return false;
    }
    return true;
}

static bool store_text(char **place, const OptionRow *row, const char *value, Error *error) {
    static const char *const paths[] = {"MODEL", "FOLDER", "FILE,..."};
    bool path = false;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) path |= !strcmp(row->placeholder, paths[i]);
    Buffer expanded = BUFFER_EMPTY;
    if (path && !expand_home(&expanded, value, error)) {
        buffer_free(&expanded);
        return false;
    }
    char *copy = strdup(path ? buffer_string(&expanded) : value);
    buffer_free(&expanded);
    if (!copy) return error_memory(error, row->name, strlen(value) + 1);
    free(*place);
    *place = copy;
    return true;
}

bool option_store(Options *options, const OptionRow *row, const char *value, Error *error) {
    void *place = option_place(options, row);
    double number;
    switch (row->type) {
    case VALUE_FLAG:
        return parse_flag(place, row, value, error);
    case VALUE_CHOICE:
        return parse_choice(place, row, value, error);
    case VALUE_SIZE:
        return parse_size(place, row, value, error);
    case VALUE_SIZES:
        return parse_sizes(place, row, value, error);
    case VALUE_NUMBER:
        if (!parse_number(&number, row, value, error)) return false;
        *(double *)place = number;
        return true;
    case VALUE_INTEGER:
    case VALUE_SEED:
        if (!parse_number(&number, row, value, error)) return false;
        if (row->type == VALUE_INTEGER)
            *(int64_t *)place = (int64_t)number;
        else
            *(uint64_t *)place = (uint64_t)number;
        return true;
    case VALUE_TEXT:
        break;
    }
    return store_text(place, row, value, error);
}
