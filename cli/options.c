// options.c - option values: names, defaults, and setting one by name.
#include "cli/options.h"
#include "cli/option_values.h"
#include "cli/suggest.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_SIZE 64

// The table's spelling of a name: `_` for `-`, lower case. false when it cannot be a name.
static bool spell_name(char spelled[NAME_MAX_SIZE], const char *name, size_t length) {
    if (length == 0 || length >= NAME_MAX_SIZE) return false;
    for (size_t i = 0; i < length; i++) {
        int c = name[i] == '-' ? '_' : tolower((unsigned char)name[i]);
        if (!isalnum(c) && c != '_') return false;
        spelled[i] = (char)c;
    }
    spelled[length] = 0;
    return true;
}

static const OptionRow *find_row(const char *spelled) {
    for (int i = 0; i < option_count; i++)
        if (!strcmp(option_table[i].name, spelled) || has_word(option_table[i].aliases, spelled))
            return &option_table[i];
    return NULL;
}

const OptionRow *option_find(const char *name) {
    char spelled[NAME_MAX_SIZE];
    return spell_name(spelled, name, strlen(name)) ? find_row(spelled) : NULL;
}

bool options_given(const Options *options, const char *name) {
    const OptionRow *row = find_row(name);
    return row && options->given[row - option_table];
}

bool options_defaults(Options *options, Error *error) {
    *options = (Options){0};
    for (int i = 0; i < option_count; i++) {
        const OptionRow *row = &option_table[i];
        if (row->initial && !option_store(options, row, row->initial, error)) {
            options_free(options);
            return false;
        }
    }
    return true;
}

void options_free(Options *options) {
    for (int i = 0; i < option_count; i++) {
        if (option_table[i].type != VALUE_TEXT) continue;
        char **text = option_place(options, &option_table[i]);
        free(*text);
        *text = NULL;
    }
    buffer_free(&options->command_line);
    buffer_free(&options->without_effect);
}

// ---- setting by name

static bool is_nothing(const char *value) {
    char *end;
    bool zero = strtod(value, &end) == 0 && end != value && *end == 0;
    return !*value || zero || truth_of(value) == 0 || !strcasecmp(value, "none") || !strcasecmp(value, "null");
}

// Sets what ForeignOption.becomes says for a true or false value; *set tells whether that is anything.
static bool set_instead(Options *options, CommandSet command, const char *becomes, bool yes, const char *where,
                        bool *set, Error *error) {
    const char *assignment = yes ? becomes : strchr(becomes, ' ');
    *set = assignment != NULL;
    if (!assignment) return true;
    assignment += strspn(assignment, " ");
    char name[NAME_MAX_SIZE], value[NAME_MAX_SIZE];
    if (sscanf(assignment, "%63[^=]=%63[^ ]", name, value) != 2) return error_usage(error, "not set: %s", assignment);
    return options_set(options, command, name, value, where, error);
}

// Notes a name that has no effect, once.
static bool note_without_effect(Options *options, const char *name, Error *error) {
    const char *known = buffer_string(&options->without_effect);
    size_t length = strlen(name);
    for (const char *at = known; *at; at += strspn(at, ", ")) {
        size_t size = strcspn(at, ",");
        if (size == length && !memcmp(at, name, size)) return true;
        at += size;
    }
    return buffer_format(&options->without_effect, error, "%s%s", *known ? ", " : "", name);
}

static bool set_foreign(Options *options, CommandSet command, const ForeignOption *foreign, const char *name,
                        const char *value, const char *where, Error *error) {
    if (foreign->becomes && *value) { // nothing behind the colon of a YAML line says nothing
        int is = is_nothing(value) ? 0 : truth_of(value);
        if (is < 0) return error_usage(error, "%s: \"%s\" is neither true nor false", name, value);
        bool set;
        if (!set_instead(options, command, foreign->becomes, is == 1, where, &set, error)) return false;
        if (set) return true;
        return note_without_effect(options, name, error);
    }
    bool any = foreign->harmless && !strcmp(foreign->harmless, "*");
    if (!any && !is_nothing(value) && !has_word(foreign->harmless, value)) {
        error_usage(error, "%s: %s: %s", name, value, foreign->reason);
        return error_hint(error, "remove %s", name);
    }
    return note_without_effect(options, name, error);
}

static bool unknown_option(CommandSet command, const char *name, Error *error) {
    Suggestion suggestion;
    suggestion_start(&suggestion, name);
    for (int i = 0; i < option_count; i++) {
        if (!(option_table[i].commands & command)) continue;
        suggestion_try(&suggestion, option_table[i].name, strlen(option_table[i].name));
        for (const char *at = option_table[i].aliases; at && *at; at += strspn(at, " ")) {
            suggestion_try(&suggestion, at, strcspn(at, " "));
            at += strcspn(at, " ");
        }
    }
    error_usage(error, "unknown option %s", name);
    if (suggestion.best) return error_hint(error, "did you mean %.*s?", suggestion.best_length, suggestion.best);
    return error_hint(error, "--help lists the options");
}

bool options_set(Options *options, CommandSet command, const char *name, const char *value, const char *where,
                 Error *error) {
    char spelled[NAME_MAX_SIZE];
    const OptionRow *row = NULL;
    const ForeignOption *foreign = NULL;
    if (spell_name(spelled, name, strlen(name))) {
        row = find_row(spelled);
        foreign = row ? NULL : foreign_option_find(spelled);
    }
    bool good;
    if (row && (row->commands & command)) {
        good = option_store(options, row, value, error);
        if (good) options->given[row - option_table] = true;
    } else if (row && where) {
        good = true; // a file made for training serves the other commands as well
    } else if (row) {
        error_usage(error, "%s is not an option of this command", row->name);
        good = error_hint(error, "--help lists its options");
    } else if (foreign) {
        good = set_foreign(options, command, foreign, spelled, value, where, error);
    } else {
        good = unknown_option(command, name, error);
    }
    return good || (where ? error_context(error, "%s", where) : false);
}
