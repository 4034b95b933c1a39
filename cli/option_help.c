// option_help.c - --help and docs/options.md, from the option table.
#include "cli/command.h"
#include <stdio.h>
#include <string.h>

#define HELP_COLUMN 40 // where the explanation starts
#define HELP_WIDTH  100

// "N", "X", "SIZE", "a|b|c" or the row's own word.
static bool append_placeholder(Buffer *text, const OptionRow *row, Error *error) {
    static const char *const words[] = {
        [VALUE_FLAG] = "true|false", [VALUE_INTEGER] = "N",      [VALUE_SEED] = "N",   [VALUE_NUMBER] = "X",
        [VALUE_SIZE] = "SIZE",       [VALUE_SIZES] = "SIZE,...", [VALUE_TEXT] = "TEXT"};
    if (row->placeholder) return buffer_text(text, row->placeholder, error);
    if (row->type != VALUE_CHOICE) return buffer_text(text, words[row->type], error);
    for (int i = 0; row->choices[i]; i++)
        if (!buffer_format(text, error, "%s%s", i ? "|" : "", row->choices[i])) return false;
    return true;
}

static bool append_spaces(Buffer *text, size_t count, Error *error) {
    return buffer_format(text, error, "%*s", (int)count, "");
}

// Appends words, which start at column `column` of the line, broken before HELP_WIDTH.
static bool append_wrapped(Buffer *text, const char *words, Error *error) {
    size_t column = HELP_COLUMN;
    while (*words) {
        size_t length = strcspn(words, " ");
        if (column > HELP_COLUMN && column + 1 + length > HELP_WIDTH) {
            if (!buffer_byte(text, '\n', error) || !append_spaces(text, HELP_COLUMN, error)) return false;
            column = HELP_COLUMN;
        }
        bool first = column == HELP_COLUMN;
        if (!buffer_format(text, error, "%s%.*s", first ? "" : " ", (int)length, words)) return false;
        column += length + !first;
        words += length + (words[length] == ' ');
    }
    return buffer_byte(text, '\n', error);
}

static bool append_explanation(Buffer *words, const OptionRow *row, CommandSet command, Error *error) {
    if (!buffer_text(words, row->help, error)) return false;
    if (row->required & command) return buffer_text(words, " (needed)", error);
    if (row->initial && row->type != VALUE_FLAG) return buffer_format(words, error, " (%s)", row->initial);
    return true;
}

static bool append_option(Buffer *text, const OptionRow *row, CommandSet command, Error *error) {
    Buffer line = BUFFER_EMPTY, words = BUFFER_EMPTY;
    bool good = row->letter ? buffer_format(&line, error, "  -%c, ", row->letter) : buffer_text(&line, "      ", error);
    good = good && buffer_format(&line, error, "--%s", row->name);
    if (good && row->type != VALUE_FLAG) good = buffer_byte(&line, ' ', error) && append_placeholder(&line, row, error);
    good = good && buffer_text(text, buffer_string(&line), error);
    if (good && line.size + 2 > HELP_COLUMN) good = buffer_byte(text, '\n', error), line.size = 0;
    good = good && append_spaces(text, HELP_COLUMN - line.size, error);
    good = good && append_explanation(&words, row, command, error);
    good = good && append_wrapped(text, buffer_string(&words), error);
    buffer_free(&line);
    buffer_free(&words);
    return good;
}

bool options_help(Buffer *text, CommandSet command, Error *error) {
    for (int group = 0; group < GROUP_COUNT; group++) {
        bool titled = false;
        for (int i = 0; i < option_count; i++) {
            const OptionRow *row = &option_table[i];
            if (row->group != (OptionGroup)group || !(row->commands & command)) continue;
            if (!titled && !buffer_format(text, error, "\n%s\n", option_group_title(row->group))) return false;
            titled = true;
            if (!append_option(text, row, command, error)) return false;
        }
    }
    return true;
}

// ---- docs/options.md

static bool append_aliases(Buffer *text, const OptionRow *row, Error *error) {
    bool first = true;
    if (row->letter) {
        if (!buffer_format(text, error, "`-%c`", row->letter)) return false;
        first = false;
    }
    for (const char *at = row->aliases; at && *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        if (!buffer_format(text, error, "%s`%.*s`", first ? "" : " ", (int)length, at)) return false;
        first = false;
        at += length;
    }
    return true;
}

// What values are allowed: a range, the choices, or a word.
static bool append_values(Buffer *text, const OptionRow *row, Error *error) {
    if (row->type == VALUE_INTEGER || row->type == VALUE_NUMBER || row->type == VALUE_SEED)
        return row->most >= 1e9 ? buffer_format(text, error, "%.10g or more", row->least)
                                : buffer_format(text, error, "%.10g to %.10g", row->least, row->most);
    if (row->type == VALUE_FLAG) return buffer_text(text, "true, false", error);
    if (row->type != VALUE_CHOICE) return append_placeholder(text, row, error);
    for (int i = 0; row->choices[i]; i++)
        if (!buffer_format(text, error, "%s%s", i ? ", " : "", row->choices[i])) return false;
    return true;
}

static bool append_commands(Buffer *text, const OptionRow *row, Error *error) {
    static const char *const names[] = {"train", "plan", "preview", "eval",  "generate",
                                        "chat",  "info", "bench",   "export"};
    const unsigned count = sizeof names / sizeof names[0], all = (1u << count) - 1;
    if ((row->commands & all) == all) return buffer_text(text, "all", error);
    bool first = true;
    for (unsigned i = 0; i < count; i++) {
        if (!(row->commands & 1u << i)) continue;
        if (!buffer_format(text, error, "%s%s", first ? "" : " ", names[i])) return false;
        first = false;
    }
    return true;
}

static bool append_markdown_row(Buffer *text, const OptionRow *row, Error *error) {
    return buffer_format(text, error, "| `%s` | ", row->name) && append_aliases(text, row, error) &&
           buffer_text(text, " | ", error) && append_values(text, row, error) &&
           buffer_format(text, error, " | %s | %s | ", row->initial ? row->initial : "", row->help) &&
           append_commands(text, row, error) && buffer_text(text, " |\n", error);
}

bool options_markdown(Buffer *text, Error *error) {
    if (!buffer_text(
            text,
            "# Options\n\n"
            "This page is written by `lisa options > docs/options.md` from the option table, and a test holds\n"
            "the two together. An option is given as `name: value` in a YAML file, as `name=value` or as\n"
            "`--name value`; what comes later wins; `-` and `_` are alike.\n",
            error))
        return false;
    for (int group = 0; group < GROUP_COUNT; group++) {
        if (!buffer_format(text, error,
                           "\n## %s\n\n| option | also | values | default | meaning | commands |\n"
                           "|---|---|---|---|---|---|\n",
                           option_group_title((OptionGroup)group)))
            return false;
        for (int i = 0; i < option_count; i++)
            if (option_table[i].group == (OptionGroup)group && !append_markdown_row(text, &option_table[i], error))
                return false;
    }
    return true;
}

int command_options(const Options *options, Error *error) {
    (void)options;
    Buffer text = BUFFER_EMPTY;
    bool good = options_markdown(&text, error);
    if (good) fputs(buffer_string(&text), stdout);
    buffer_free(&text);
    return good ? 0 : ERROR_EXIT_FAILED;
}
