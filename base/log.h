// log.h - words to the person on stderr. Results go to stdout and are printed by cli/ alone.
//
// Lower folders use it for what a person should know once (weights were rounded, a template was recognised).
#pragma once

typedef enum { LOG_QUIET, LOG_WARNING, LOG_NOTE, LOG_DEBUG } LogLevel;

void log_set_level(LogLevel level);
LogLevel log_get_level(void);

// One line each; the newline is added. A progress line on the terminal is cleared first and drawn again by its owner.
void log_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2))); // starts with "warning: "
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Replaces the progress line, the last line of a terminal that is rewritten in place. Does nothing when stderr is not a
// terminal or the level is LOG_QUIET. NULL or "" removes it.
void log_progress(const char *line);
