// program.c - see command.h.
#include "cli/command.h"
#include "cli/suggest.h"
#include <stdio.h>
#include <string.h>

static void print_error(const Error *error) {
    fprintf(stderr, "lisa: error: %s\n", error->text);
    if (*error->hint) fprintf(stderr, "HINT: %s\n", error->hint);
}

static int exit_code_of(const Error *error) {
    return error->exit_code ? error->exit_code : ERROR_EXIT_FAILED;
}

static void print_usage(FILE *stream, const Command *commands, int count) {
    fprintf(stream, "lisa fine-tunes LLaMA-family models by LISA.\n\n"
                    "usage: lisa COMMAND [config.yaml] [option=value ...] [--option value ...]\n\n");
    for (int i = 0; i < count; i++) fprintf(stream, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(stream, "\nlisa COMMAND --help lists a command's options; lisa --version says what was built.\n");
}

static bool print_help(const Command *command, Error *error) {
    Buffer text = BUFFER_EMPTY;
    bool good = buffer_format(&text, error, "lisa %s: %s\n\nusage: lisa %s %s\n\n%s\n", command->name, command->summary,
                              command->name, command->arguments, command->about) &&
                options_help(&text, command->set, error);
    if (good) fputs(buffer_string(&text), stdout);
    buffer_free(&text);
    return good;
}

static int unknown_command(const Command *commands, int count, const char *name) {
    Error error = {0};
    Suggestion suggestion;
    suggestion_start(&suggestion, name);
    for (int i = 0; i < count; i++) suggestion_try(&suggestion, commands[i].name, strlen(commands[i].name));
    error_usage(&error, "unknown command %s", name);
    if (suggestion.best)
        error_hint(&error, "did you mean lisa %.*s?", suggestion.best_length, suggestion.best);
    else
        error_hint(&error, "lisa --help lists the commands");
    print_error(&error);
    return exit_code_of(&error);
}

static bool write_command_line(Buffer *line, int argc, char *const *argv, Error *error) {
    bool good = true;
    for (int i = 0; i < argc && good; i++)
        good = buffer_text(line, i ? " " : "", error) && buffer_shell_word(line, argv[i], error);
    return good;
}

static bool run_command(const Command *command, int argc, char *const *argv, int *exit_code, Error *error) {
    Options options;
    if (!options_defaults(&options, error)) return false;
    bool good = options_parse(&options, command->set, argc - 2, argv + 2, error) &&
                write_command_line(&options.command_line, argc, argv, error);
    if (good && options.help) {
        good = print_help(command, error);
        *exit_code = 0;
    } else if (good) {
        log_set_level((LogLevel)options.log_level);
        if (options.without_effect.size) log_note("without effect here: %s", buffer_string(&options.without_effect));
        *exit_code = command->run(&options, error);
        good = *exit_code == 0 || *exit_code == EXIT_SAVED;
    }
    options_free(&options);
    return good;
}

static void hint_at_help(const char *command, Error *error) {
    char hint[128];
    snprintf(hint, sizeof hint, "lisa %s --help lists the options and their values", command);
    error_hint_if_none(error, hint);
}

int program_run(const Command *commands, int count, const char *version, int argc, char *const *argv) {
    if (argc < 2) {
        print_usage(stderr, commands, count);
        return ERROR_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        print_usage(stdout, commands, count);
        return 0;
    }
    if (!strcmp(name, "--version")) {
        fputs(version, stdout);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        if (strcmp(commands[i].name, name) != 0) continue;
        Error error = {0};
        int exit_code = ERROR_EXIT_FAILED;
        bool good = run_command(&commands[i], argc, argv, &exit_code, &error);
        if ((fflush(stdout) || ferror(stdout)) && good) good = error_system(&error, "cannot write to", "stdout");
        if (good) return exit_code;
        log_progress(NULL);
        if (error.exit_code == ERROR_EXIT_USAGE) hint_at_help(name, &error);
        print_error(&error);
        return exit_code_of(&error);
    }
    return unknown_command(commands, count, name);
}
