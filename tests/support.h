// support.h - what the tests share: cmocka, temporary folders, comparing arrays, running the program.
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>

#include "base/error.h"

// Fails the test with the error's text when ok is false.
void check(bool ok, const Error *error);

// A fresh folder under the system's temporary folder; removed by remove_folder. In memory of the caller's.
char *make_folder(void);
void remove_folder(char *folder); // removes it with its content and frees the name

// Writes text to folder/name and returns that path (caller's memory).
char *write_file(const char *folder, const char *name, const void *bytes, size_t size);
char *write_text(const char *folder, const char *name, const char *text);

// Whether this is a sanitizer's build: several times slower, and there for the host's memory, not for the bits of
// results.
bool built_with_sanitizer(void);

// Uniform in [-1, 1), a function of the two numbers.
float noise(uint64_t key, uint64_t index);

// Fails the test unless max|out - reference| <= tolerance * max|reference|; says where the worst element lies.
void check_close(const char *what, const float *out, const float *reference, int64_t count, double tolerance);

// Runs the program (environment variable LISA, default ./lisa) with a NULL-terminated list of arguments. Commands that
// compute are given --device=cpu.
typedef struct Run {
    int exit_code; // 128 + signal when a signal ended it
    char *out;     // stdout, caller's memory (run_free)
    char *err;     // stderr
} Run;
Run run_lisa(const char *const *arguments);
Run run_lisa_on(const char *input, const char *const *arguments); // with this text on stdin
void run_free(Run *run);

// The same in two parts, to do something meanwhile. A process that hangs is ended after some minutes (exit code 142).
typedef struct Child {
    int process;
    int out, err; // files
} Child;
Child start_lisa(const char *input, const char *const *arguments); // input NULL: the test's own stdin
Run finish_lisa(Child child);
// Runs a function in a process of its own, whose exit code it returns: for what it prints, and what it changes for
// good.
Run run_function(int (*function)(void *context), void *context);
// Runs a shell command in which $LISA is the program; its exit code is the shell's.
Run run_shell(const char *command);

// Fails the test unless both folders hold the same bytes under that name.
void assert_same_file(const char *a, const char *b, const char *name);
