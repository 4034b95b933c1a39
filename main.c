// main.c - the command table and nothing that computes.
#include "cli/command.h"
#include "version.h"

#ifdef __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static const Command commands[] = {
    {"options", COMMAND_OPTIONS, "", "print docs/options.md", "Prints every option of every command as Markdown.",
     command_options},
};

int main(int argc, char **argv) {
    static const char version[] = "lisa " LISA_COMMIT "\ncompiler: " COMPILER "\nbackends: cpu\n";
    return program_run(commands, sizeof commands / sizeof commands[0], version, argc, argv);
}
