// plain_stream.c - see plain_stream.h.
#include "data/plain_stream.h"
#include "base/files.h"
#include "base/utf8.h"
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct PlainStream {
    TextStream *file;
    char *path;
    Buffer ahead; // read, not yet given out
    bool started, ended;
    int64_t line; // of the first byte of ahead
};

PlainStream *plain_stream_open(const char *path, Error *error) {
    PlainStream *stream = calloc(1, sizeof *stream);
    if (!stream || !(stream->path = strdup(path))) {
        error_memory(error, path, sizeof *stream);
        free(stream);
        return NULL;
    }
    stream->line = 1;
    stream->file = text_stream_open(path, error);
    if (stream->file) return stream;
    plain_stream_close(stream);
    return NULL;
}

void plain_stream_close(PlainStream *stream) {
    if (!stream) return;
    text_stream_close(stream->file);
    buffer_free(&stream->ahead);
    free(stream->path);
    free(stream);
}

// Reads on until there are PIECE_LIMIT bytes or the file ends.
static bool fill(PlainStream *stream, Error *error) {
    Buffer *ahead = &stream->ahead;
    while (!stream->ended && ahead->size < PIECE_LIMIT) {
        size_t got;
        if (!buffer_reserve(ahead, PIECE_BYTES, error)) return false;
        if (!text_stream_read(stream->file, ahead->data + ahead->size, PIECE_BYTES, &got, error)) return false;
        ahead->size += got;
        ahead->data[ahead->size] = 0;
        stream->ended = got == 0;
    }
    if (!stream->started && ahead->size >= 3 && memcmp(ahead->data, "\xef\xbb\xbf", 3) == 0) {
        ahead->size -= 3; // a byte order mark
        memmove(ahead->data, ahead->data + 3, ahead->size + 1);
    }
    stream->started = true;
    return true;
}

// Whether the character that starts at, or with `before` ends before, byte i is one that no token continues over white
// space from: any character but white space.
static bool is_word(const Buffer *text, size_t i, bool before) {
    if (before) {
        size_t end = i;
        while (i > 0 && end - i < 4 && ((unsigned char)text->data[--i] & 0xc0) == 0x80) continue;
    }
    utf8proc_int32_t point;
    size_t left = text->size - i;
    if (utf8proc_iterate((const utf8proc_uint8_t *)text->data + i, (utf8proc_ssize_t)left, &point) <= 0) return false;
    if (point == 0x85 || (point >= 9 && point <= 13)) return false;
    utf8proc_category_t category = utf8proc_category(point);
    return category != UTF8PROC_CATEGORY_ZS && category != UTF8PROC_CATEGORY_ZL && category != UTF8PROC_CATEGORY_ZP;
}

static bool is_boundary(const Buffer *text, size_t i) {
    if (text->data[i - 1] == '\n') return i > 1 && is_word(text, i - 1, true) && is_word(text, i, false);
    return text->data[i] == ' ' && is_word(text, i, true) && i + 1 < text->size && is_word(text, i + 1, false);
}

// Bytes of the next piece.
static size_t piece_size(const PlainStream *stream) {
    const Buffer *text = &stream->ahead;
    for (size_t i = PIECE_BYTES; i < text->size; i++)
        if (is_boundary(text, i)) return i;
    if (stream->ended) return text->size;
    size_t i = text->size; // never inside a character
    while (i > text->size - 4 && ((unsigned char)text->data[i - 1] & 0xc0) == 0x80) i--;
    return i - 1;
}

// The line of the first byte that is not UTF-8: its bytes up to there, line by line, are.
static int64_t bad_line(const char *text, size_t size, int64_t line) {
    for (const char *end; (end = memchr(text, '\n', size)) && utf8_valid(text, (size_t)(end - text)); line++) {
        size -= (size_t)(end + 1 - text);
        text = end + 1;
    }
    return line;
}

bool plain_stream_next(PlainStream *stream, Buffer *text, int64_t *line, bool *found, Error *error) {
    *found = false;
    if (!fill(stream, error)) return false;
    Buffer *ahead = &stream->ahead;
    if (ahead->size == 0) return true;
    size_t size = piece_size(stream);
    if (!utf8_valid(ahead->data, size)) {
        error_set(error, "%s:%lld: invalid UTF-8", stream->path, (long long)bad_line(ahead->data, size, stream->line));
        return error_hint(error, "convert it: iconv -f LATIN1 -t UTF-8 '%s' > '%s.utf8' (with its encoding for LATIN1)",
                          stream->path, stream->path);
    }
    if (!buffer_append(text, ahead->data, size, error)) return false;
    *found = true;
    *line = stream->line;
    for (const char *at = ahead->data; (at = memchr(at, '\n', size - (size_t)(at - ahead->data))); at++) stream->line++;
    ahead->size -= size;
    memmove(ahead->data, ahead->data + size, ahead->size + 1);
    return true;
}
