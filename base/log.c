// log.c - see log.h. The level is one of the program's two global variables.
#include "base/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define CLEAR_LINE "\r\x1b[K"

static LogLevel current_level = LOG_NOTE;

void log_set_level(LogLevel level) {
    current_level = level;
}

LogLevel log_get_level(void) {
    return current_level;
}

// One write for the whole line, so that lines of two threads never mix.
static void write_line(LogLevel level, const char *prefix, const char *format, va_list arguments) {
    if (level > current_level) return;
    char text[4096];
    vsnprintf(text, sizeof text, format, arguments);
    fprintf(stderr, "%s%s%s\n", isatty(STDERR_FILENO) ? CLEAR_LINE : "", prefix, text);
}

void log_note(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(LOG_NOTE, "", format, arguments);
    va_end(arguments);
}

void log_warning(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(LOG_WARNING, "warning: ", format, arguments);
    va_end(arguments);
}

void log_debug(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    write_line(LOG_DEBUG, "", format, arguments);
    va_end(arguments);
}

void log_progress(const char *line) {
    if (current_level == LOG_QUIET || !isatty(STDERR_FILENO)) return;
    fprintf(stderr, CLEAR_LINE "%s", line ? line : "");
    fflush(stderr);
}
