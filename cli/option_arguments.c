// option_arguments.c - the command line of a command, and the rules between options that hold for all of them.
#include "base/ending.h"
#include "cli/option_values.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

// Commands whose positional argument may be a model.
#define MODEL_COMMANDS                                                                                                 \
    (COMMAND_PLAN | COMMAND_EVAL | COMMAND_GENERATE | COMMAND_CHAT | COMMAND_INFO | COMMAND_BENCH | COMMAND_EXPORT)

typedef struct Arguments {
    char *const *next;
    char *const *end;
} Arguments;

static const OptionRow *row_of_letter(char letter, CommandSet command) {
    for (int i = 0; i < option_count; i++)
        if (option_table[i].letter == letter && (option_table[i].commands & command)) return &option_table[i];
    return NULL;
}

// Whether the option may stand alone, which means true.
static bool may_stand_alone(const OptionRow *row) {
    if (row->type == VALUE_FLAG) return true;
    for (int i = 0; row->type == VALUE_CHOICE && row->choices[i]; i++)
        if (!strcmp(row->choices[i], "true")) return true;
    return false;
}

static bool names_choice(const OptionRow *row, const char *text) {
    for (int i = 0; row->type == VALUE_CHOICE && row->choices[i]; i++)
        if (!strcasecmp(text, row->choices[i])) return true;
    return truth_of(text) >= 0;
}

// The value behind `name` on the command line: the next argument, or "true" for an option that may stand alone.
// row is NULL for a name that is not in the table; whatever may be its value is taken.
static bool take_value(Arguments *arguments, const OptionRow *row, const char *name, const char **value, Error *error) {
    bool more = arguments->next < arguments->end;
    bool alone = row ? may_stand_alone(row) && !(more && names_choice(row, *arguments->next))
                     : !more || (*arguments->next)[0] == '-';
    if (alone) {
        *value = "true";
        return true;
    }
    if (!more) return error_usage(error, "%s needs a value", name);
    *value = *arguments->next++;
    return true;
}

// --name value, --name=value, --no-name
static bool parse_long(Options *options, CommandSet command, Arguments *arguments, const char *text, Error *error) {
    char name[64];
    size_t length = strcspn(text, "=");
    if (length >= sizeof name) return error_usage(error, "unknown option --%s", text);
    memcpy(name, text, length);
    name[length] = 0;
    if (text[length] == '=') return options_set(options, command, name, text + length + 1, NULL, error);
    const OptionRow *row = option_find(name);
    if (!row && !strncasecmp(name, "no", 2) && (name[2] == '-' || name[2] == '_')) {
        const OptionRow *negated = option_find(name + 3);
        if (negated && may_stand_alone(negated))
            return options_set(options, command, negated->name, "false", NULL, error);
    }
    const char *value = NULL;
    return take_value(arguments, row, name, &value, error) && options_set(options, command, name, value, NULL, error);
}

static bool parse_short(Options *options, CommandSet command, Arguments *arguments, const char *text, Error *error) {
    const OptionRow *row = text[1] ? NULL : row_of_letter(text[0], command);
    if (!row) {
        error_usage(error, "unknown option -%s", text);
        return error_hint(error, "--help lists the options; long names start with two dashes");
    }
    const char *value = NULL;
    return take_value(arguments, row, row->name, &value, error) &&
           options_set(options, command, row->name, value, NULL, error);
}

static bool parse_positional(Options *options, CommandSet command, const char *text, Error *error) {
    size_t length = 0;
    while (isalnum((unsigned char)text[length]) || text[length] == '_' || text[length] == '-') length++;
    if (length && text[length] == '=') {
        Arguments none = {NULL, NULL};
        return parse_long(options, command, &none, text, error);
    }
    if (has_ending(text, ".yaml") || has_ending(text, ".yml")) return options_read_yaml(options, command, text, error);
    if (command & MODEL_COMMANDS) return options_set(options, command, "model_name_or_path", text, NULL, error);
    error_usage(error, "\"%s\" is neither a .yaml file nor option=value", text);
    return error_hint(error, "options are given as name=value or --name value");
}

// ---- rules between options

static void settle_strategies(Options *options) {
    TrainSettings *train = &options->train;
    if (options_given(options, "save_steps") && train->save_steps > 0 && !options_given(options, "save_strategy"))
        train->save_strategy = WHEN_STEPS;
    if (options_given(options, "eval_steps") && train->eval_steps > 0 && !options_given(options, "eval_strategy"))
        train->eval_strategy = WHEN_STEPS;
    if (train->save_strategy != WHEN_STEPS) train->save_steps = 0;
    if (train->eval_strategy != WHEN_STEPS) train->eval_steps = 0;
    // The Trainer's rule: warmup_steps 0 beside a warmup_ratio is no choice of its own.
    if (train->warmup_steps == 0 && options_given(options, "warmup_ratio")) train->warmup_steps = -1;
}

static bool check_settings(const Options *options, CommandSet command, Error *error) {
    const TrainSettings *train = &options->train;
    if (train->micro_batch_tokens % 128) {
        error_usage(error, "micro_batch_tokens: value out of range: %lld", (long long)train->micro_batch_tokens);
        return error_hint(error, "micro_batch_tokens is a multiple of 128, or 0");
    }
    if (train->save_strategy == WHEN_STEPS && !train->save_steps)
        return error_usage(error, "save_strategy: steps needs save_steps");
    if (train->eval_strategy == WHEN_STEPS && !train->eval_steps)
        return error_usage(error, "eval_strategy: steps needs eval_steps");
    if (command == COMMAND_TRAIN && train->eval_steps && options->data.val_size == 0 && !options->data.eval_dataset) {
        error_usage(error, "eval_steps is given, but there is nothing to evaluate on");
        return error_hint(error, "add val_size=0.1 or eval_dataset=FILE");
    }
    for (int i = 0; i < option_count; i++) {
        if (!(option_table[i].required & command) || options->given[i]) continue;
        error_usage(error, "%s is not given", option_table[i].name);
        return error_hint(error, "add %s=%s: %s", option_table[i].name, option_table[i].placeholder,
                          option_table[i].help);
    }
    return true;
}

bool options_parse(Options *options, CommandSet command, int count, char *const *arguments, Error *error) {
    Arguments rest = {arguments, arguments + count};
    while (rest.next < rest.end) {
        const char *text = *rest.next++;
        bool good;
        if (!strncmp(text, "--", 2) && text[2])
            good = parse_long(options, command, &rest, text + 2, error);
        else if (text[0] == '-' && text[1])
            good = parse_short(options, command, &rest, text + 1, error);
        else
            good = parse_positional(options, command, text, error);
        if (!good) return false;
        if (options->help) return true;
    }
    settle_strategies(options);
    return check_settings(options, command, error);
}
