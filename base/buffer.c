// buffer.c - see buffer.h.
#include "base/buffer.h"
#include "base/numbers.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool buffer_reserve(Buffer *buffer, size_t more, Error *error) {
    size_t needed;
    if (!size_add(buffer->size, more, &needed) || !size_add(needed, 1, &needed))
        return error_memory(error, "a text", SIZE_MAX);
    if (needed <= buffer->capacity) return true;
    size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity;
    while (capacity < needed) capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    char *data = realloc(buffer->data, capacity);
    if (!data) return error_memory(error, "a text", capacity);
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

bool buffer_append(Buffer *buffer, const void *bytes, size_t size, Error *error) {
    if (!buffer_reserve(buffer, size, error)) return false;
    if (size) memcpy(buffer->data + buffer->size, bytes, size);
    buffer->size += size;
    buffer->data[buffer->size] = 0;
    return true;
}

bool buffer_text(Buffer *buffer, const char *text, Error *error) {
    return buffer_append(buffer, text, strlen(text), error);
}

bool buffer_byte(Buffer *buffer, char byte, Error *error) {
    return buffer_append(buffer, &byte, 1, error);
}

bool buffer_shell_word(Buffer *buffer, const char *word, Error *error) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=,:@%+";
    if (*word && !word[strspn(word, plain)]) return buffer_text(buffer, word, error);
    bool ok = buffer_byte(buffer, '\'', error);
    for (; ok && *word; word++)
        ok = *word == '\'' ? buffer_text(buffer, "'\\''", error) : buffer_byte(buffer, *word, error);
    return ok && buffer_byte(buffer, '\'', error);
}

bool buffer_format(Buffer *buffer, Error *error, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    bool ok = size >= 0 && buffer_reserve(buffer, (size_t)size, error);
    if (ok) {
        vsnprintf(buffer->data + buffer->size, (size_t)size + 1, format, again);
        buffer->size += (size_t)size;
    }
    va_end(again);
    return ok;
}

const char *buffer_string(const Buffer *buffer) {
    return buffer->data ? buffer->data : "";
}

void buffer_clear(Buffer *buffer) {
    buffer->size = 0;
    if (buffer->data) buffer->data[0] = 0;
}

void buffer_free(Buffer *buffer) {
    free(buffer->data);
    *buffer = BUFFER_EMPTY;
}
