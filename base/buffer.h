// buffer.h - a growing run of bytes, always followed by a NUL so that text can be used as a C string.
#pragma once
#include "base/error.h"
#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Buffer {
    char *data;      // NULL when empty and never grown; use buffer_string for a string that is never NULL
    size_t size;     // bytes in use, the NUL not counted
    size_t capacity; // bytes allocated
} Buffer;

#define BUFFER_EMPTY ((Buffer){0})

// The functions that grow it fail only when memory runs out; the buffer is then as it was.
bool buffer_reserve(Buffer *buffer, size_t more, Error *error); // room for `more` further bytes
bool buffer_append(Buffer *buffer, const void *bytes, size_t size, Error *error);
bool buffer_text(Buffer *buffer, const char *text, Error *error); // appends a C string
bool buffer_byte(Buffer *buffer, char byte, Error *error);
// Appends a word for a shell: in single quotes where it is not plain.
bool buffer_shell_word(Buffer *buffer, const char *word, Error *error);
bool buffer_format(Buffer *buffer, Error *error, const char *format, ...) __attribute__((format(printf, 3, 4)));
// The content as a C string, "" when there is none. Valid until the next change.
const char *buffer_string(const Buffer *buffer);
void buffer_clear(Buffer *buffer); // size 0, memory kept
void buffer_free(Buffer *buffer);

#ifdef __cplusplus
}
#endif
