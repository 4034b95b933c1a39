// command.h - what a command is, and the frame around all of them: help, options, errors, exit codes.
#pragma once
#include "cli/options.h"

#define EXIT_SAVED 130 // stopped by a signal, everything saved

typedef struct Command {
    const char *name;
    CommandSet set;        // its bit, which picks its options
    const char *arguments; // for the usage line
    const char *summary;   // half a line, for `lisa --help`
    const char *about;     // what it does, for its own --help: lines of at most 100 characters, no newline at the end
    // Returns the exit code: 0, EXIT_SAVED, or another one with error filled in.
    int (*run)(const Options *options, Error *error);
} Command;

// Runs the program: argv[1] names a command, --help or --version. version is what --version prints. Returns the exit
// code; errors are printed to stderr as two lines.
int program_run(const Command *commands, int count, const char *version, int argc, char *const *argv);

// The commands, each in the file of its name (options: option_help.c).
int command_train(const Options *options, Error *error);
int command_preview(const Options *options, Error *error);
int command_plan(const Options *options, Error *error);
int command_eval(const Options *options, Error *error);
int command_generate(const Options *options, Error *error);
int command_chat(const Options *options, Error *error);
int command_bench(const Options *options, Error *error);
int command_export(const Options *options, Error *error);
int command_info(const Options *options, Error *error);
int command_options(const Options *options, Error *error);
