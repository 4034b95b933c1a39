// compose.c - normalisation form C, which Qwen2's tokenizer wants.
#include "tokenizer/pretokenize.h"
#include <utf8proc.h>

// Everything below U+0300 is in form C and composes with nothing before it; U+0300 is CC 80 in UTF-8.
static bool plainly_composed(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] >= 0xcc) return false;
    }
    return true;
}

bool utf8_compose(const char *text, size_t size, char **normal, size_t *normal_size, Error *error) {
    *normal = NULL;
    *normal_size = size;
    if (plainly_composed(text, size)) return true;
    utf8proc_uint8_t *composed = NULL;
    utf8proc_ssize_t composed_size = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size, &composed,
                                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (composed_size < 0) {
        if (composed_size == UTF8PROC_ERROR_NOMEM) return error_memory(error, "text in normalisation form C", size);
        return error_set(error, "text cannot be normalised: %s", utf8proc_errmsg(composed_size));
    }
    *normal = (char *)composed;
    *normal_size = (size_t)composed_size;
    return true;
}
