// ending.h - what kind of file a name says it is.
#pragma once
#include <stdbool.h>
#include <string.h>
#include <strings.h>

// Whether a file's name or path ends with e.g. ".gguf"; the case of ASCII letters is ignored.
static inline bool has_ending(const char *name, const char *ending) {
    size_t size = strlen(name), tail = strlen(ending);
    return size >= tail && !strcasecmp(name + size - tail, ending);
}
