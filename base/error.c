// error.c - see error.h.
#include "base/error.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void set(Error *error, int exit_code, const char *format, va_list arguments) {
    error->hint[0] = 0;
    error->exit_code = exit_code;
    vsnprintf(error->text, sizeof error->text, format, arguments);
}

bool error_set(Error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    set(error, ERROR_EXIT_FAILED, format, arguments);
    va_end(arguments);
    return false;
}

bool error_usage(Error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    set(error, ERROR_EXIT_USAGE, format, arguments);
    va_end(arguments);
    return false;
}

bool error_hint(Error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->hint, sizeof error->hint, format, arguments);
    va_end(arguments);
    return false;
}

bool error_hint_if_none(Error *error, const char *hint) {
    return *error->hint ? false : error_hint(error, "%s", hint);
}

bool error_context(Error *error, const char *format, ...) {
    char before[sizeof error->text], whole[2 * sizeof error->text + 4];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(before, sizeof before, format, arguments);
    va_end(arguments);
    snprintf(whole, sizeof whole, "%s: %s", before, error->text);
    memcpy(error->text, whole, sizeof error->text - 1);
    error->text[sizeof error->text - 1] = 0;
    return false;
}

bool error_system(Error *error, const char *what, const char *path) {
    int code = errno;
    error_set(error, "%s %s: %s", what, path, strerror(code));
    switch (code) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
        return error_hint(error, "check the path");
    case EACCES:
    case EPERM:
        return error_hint(error, "check the permissions of the file and its folders");
    case ENOSPC:
    case EDQUOT:
        return error_hint(error, "free some disk space, or name a folder on another disk");
    case EFBIG:
        return error_hint(error, "raise the limit on the size of files (`ulimit -f unlimited`), or name a folder on a "
                                 "disk that takes larger ones");
    case EIO:
        return error_hint(error, "the disk reports a fault; name a folder on another one");
    case EROFS:
        return error_hint(error, "the disk is mounted read-only; name a folder on another one");
    case EMFILE:
    case ENFILE:
        return error_hint(error, "too many files are open; raise the limit with `ulimit -n 4096`");
    default:
        return false;
    }
}

bool error_memory(Error *error, const char *what, size_t bytes) {
    error_set(error, "out of memory: %s needs %zu bytes", what, bytes);
    return error_hint(error, "close other programs, or train with a smaller model, batch or cutoff_len");
}
