// utf8.c - see utf8.h.
#include "base/utf8.h"
#include <stdint.h>
#include <utf8proc.h>

bool utf8_valid(const char *text, size_t size) {
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text;
    for (size_t i = 0; i < size;) {
        if (bytes[i] < 0x80) {
            i++;
            continue;
        }
        size_t left = size - i;
        utf8proc_int32_t point;
        utf8proc_ssize_t used = utf8proc_iterate(bytes + i, left < 4 ? (utf8proc_ssize_t)left : 4, &point);
        if (used <= 0) return false;
        i += (size_t)used;
    }
    return true;
}
