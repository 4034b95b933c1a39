// utf8.c - see utf8.h.
#include "base/utf8.h"
#include <utf8proc.h>

// Bytes of the character at the start of text, 0 when none is there. size is at least 1.
static size_t character_size(const char *text, size_t size) {
    if ((unsigned char)*text < 0x80) return 1;
    utf8proc_int32_t point;
    utf8proc_ssize_t used =
        utf8proc_iterate((const utf8proc_uint8_t *)text, size < 4 ? (utf8proc_ssize_t)size : 4, &point);
    return used > 0 ? (size_t)used : 0;
}

bool utf8_valid(const char *text, size_t size) {
    for (size_t i = 0, used; i < size; i += used) {
        used = character_size(text + i, size - i);
        if (used == 0) return false;
    }
    return true;
}

bool utf8_append(Buffer *buffer, const char *text, size_t size, Error *error) {
    for (size_t i = 0; i < size;) {
        size_t used = character_size(text + i, size - i);
        if (!(used ? buffer_append(buffer, text + i, used, error) : buffer_text(buffer, "\xef\xbf\xbd", error)))
            return false;
        i += used ? used : 1;
    }
    return true;
}
