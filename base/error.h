// error.h - the one error path: a function that can fail returns false and leaves what happened here.
//
// The program ends with two lines made of it:   lisa: error: <text>     HINT: <hint>
// The text says what failed and where (file, line, tensor); the hint says what the person can do.
#pragma once
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ERROR_EXIT_FAILED 1 // the exit code of a failure
#define ERROR_EXIT_USAGE  2 // the exit code of a wrong command line or option value

typedef struct Error {
    char text[1536];
    char hint[768];
    int exit_code; // 0 is read as ERROR_EXIT_FAILED
} Error;

// Each of these returns false, so that a failing function can end with `return error_set(...)`. error is never NULL.

// Starts a new message; the hint is emptied.
bool error_set(Error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Starts a new message that ends the program with exit code 2.
bool error_usage(Error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Gives the message its hint: `error_set(...); return error_hint(...);`
bool error_hint(Error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Gives it a hint only where it has none: for a caller that knows what kind of thing went wrong.
bool error_hint_if_none(Error *error, const char *hint);
// Puts "context: " before the message, for a caller that knows more about where it happened.
bool error_context(Error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
// "what path: the text of errno", with a hint where the errno has an obvious one (no space, no permission, no such
// file).
bool error_system(Error *error, const char *what, const char *path);
// "out of memory: <what> needs <bytes>".
bool error_memory(Error *error, const char *what, size_t bytes);

#ifdef __cplusplus
}
#endif
