// json_stream.c - see json_stream.h.
#include "data/json_stream.h"
#include "base/files.h"
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 65536
#define END         (-1) // what peek gives at the end of the file, or when it cannot be read (see failed)

typedef enum { BEFORE_START, IN_LINES, IN_ARRAY_FIRST, IN_ARRAY, AFTER_END } State;

struct JsonStream {
    TextStream *file;
    char *path;
    State state;
    bool failed;      // reading failed; the error is set
    char type[64];    // LMFlow's type; "" when the values are not inside its object
    JsonPlace place;  // of the next byte
    size_t next;      // index of the next byte in block
    size_t available; // bytes in block
    char block[BLOCK_BYTES];
};

JsonStream *json_stream_open(const char *path, Error *error) {
    JsonStream *stream = calloc(1, sizeof *stream);
    if (!stream || !(stream->path = strdup(path))) {
        error_memory(error, path, sizeof *stream);
        free(stream);
        return NULL;
    }
    stream->place = (JsonPlace){1, 1};
    stream->file = text_stream_open(path, error);
    if (stream->file) return stream;
    json_stream_close(stream);
    return NULL;
}

const char *json_stream_type(const JsonStream *stream) {
    return stream->type;
}

void json_stream_close(JsonStream *stream) {
    if (!stream) return;
    text_stream_close(stream->file);
    free(stream->path);
    free(stream);
}

static int peek(JsonStream *stream, Error *error) {
    if (stream->next == stream->available) {
        stream->next = stream->available = 0;
        if (!stream->failed && !text_stream_read(stream->file, stream->block, BLOCK_BYTES, &stream->available, error))
            stream->failed = true;
        if (stream->failed || !stream->available) return END;
    }
    return (unsigned char)stream->block[stream->next];
}

// Steps over the byte that peek gave.
static void advance(JsonStream *stream) {
    unsigned char byte = (unsigned char)stream->block[stream->next++];
    if (byte == '\n') {
        stream->place.line++;
        stream->place.column = 1;
    } else if ((byte & 0xc0) != 0x80) { // the first byte of a character
        stream->place.column++;
    }
}

static bool is_space(int byte) {
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

// Steps over white space; the byte after it, or END.
static int skip_space(JsonStream *stream, Error *error) {
    int byte;
    while (is_space(byte = peek(stream, error))) advance(stream);
    return byte;
}

static bool malformed(const JsonStream *stream, const char *expected, Error *error) {
    error_set(error, "%s:%lld:%lld: malformed JSON: %s", stream->path, (long long)stream->place.line,
              (long long)stream->place.column, expected);
    return error_hint(error, "mend the file at that place; `python3 -m json.tool FILE` checks it");
}

// Appends the byte that peek gave, `start` being the size of text before its record.
static bool take(JsonStream *stream, Buffer *text, size_t start, JsonPlace place, Error *error) {
    if (text->size - start == JSON_RECORD_LIMIT) {
        error_set(error, "%s:%lld:%lld: the record that starts here is longer than %zu MiB", stream->path,
                  (long long)place.line, (long long)place.column, JSON_RECORD_LIMIT >> 20);
        return error_hint(error, "is a quote or a bracket missing there?");
    }
    if (!buffer_byte(text, stream->block[stream->next], error)) return false;
    advance(stream);
    return true;
}

static bool copy_line(JsonStream *stream, Buffer *text, JsonPlace place, Error *error) {
    size_t start = text->size;
    for (int byte; (byte = peek(stream, error)) != END && byte != '\n';)
        if (!take(stream, text, start, place, error)) return false;
    return !stream->failed;
}

// Copies an element of the array, without the comma or bracket that follows it. What is not JSON is copied too, as far
// as it is not mistaken for the end: the parser says what is wrong with it and where.
static bool copy_element(JsonStream *stream, Buffer *text, JsonPlace place, Error *error) {
    size_t start = text->size;
    int64_t depth = 0;
    bool string = false, escaped = false;
    for (int byte; (byte = peek(stream, error)) != END;) {
        if (!string && depth <= 0 && (byte == ',' || byte == ']' || is_space(byte))) break;
        if (!take(stream, text, start, place, error)) return false;
        if (string && byte < 0x20) break; // an unclosed string shall not swallow the rest of the file
        if (escaped) {
            escaped = false;
        } else if (string) {
            escaped = byte == '\\';
            string = byte != '"';
        } else if (byte == '"') {
            string = true;
        } else if (byte == '{' || byte == '[') {
            depth++;
        } else if (byte == '}' || byte == ']') {
            depth--;
        }
    }
    return !stream->failed;
}

// The index in block after white space and the given text, which follow index i; 0 when something else is there.
static size_t match(const JsonStream *stream, size_t i, const char *text) {
    while (i < stream->available && is_space(stream->block[i])) i++;
    size_t size = strlen(text);
    return i && stream->available - i >= size && memcmp(stream->block + i, text, size) == 0 ? i + size : 0;
}

// Steps over {"type": "...", "instances": [ and keeps the type; nothing is done where the file starts otherwise.
static bool open_instances(JsonStream *stream) {
    size_t i = match(stream, stream->next + 1, "\"type\"");
    i = i ? match(stream, i, ":") : 0;
    size_t type = i ? match(stream, i, "\"") : 0;
    const char *end = type ? memchr(stream->block + type, '"', stream->available - type) : NULL;
    size_t size = end ? (size_t)(end - stream->block) - type : 0;
    if (!end || size == 0 || size >= sizeof stream->type) return false;
    i = match(stream, type + size + 1, ",");
    i = i ? match(stream, i, "\"instances\"") : 0;
    i = i ? match(stream, i, ":") : 0;
    i = i ? match(stream, i, "[") : 0;
    if (!i) return false;
    memcpy(stream->type, stream->block + type, size);
    while (stream->next < i) advance(stream);
    return true;
}

// Steps over a byte order mark and an opening bracket, which decide what kind of file it is.
static bool start(JsonStream *stream, Error *error) {
    static const char mark[] = "\xef\xbb\xbf";
    if (peek(stream, error) == 0xef && stream->available >= 3 && memcmp(stream->block, mark, 3) == 0) stream->next = 3;
    stream->state = IN_LINES;
    int byte = skip_space(stream, error);
    if (byte == '[') advance(stream);
    if (byte == '[' || (byte == '{' && open_instances(stream))) stream->state = IN_ARRAY_FIRST;
    return !stream->failed;
}

// Steps to the next element of the array, or over its end.
static bool next_element(JsonStream *stream, Error *error) {
    int byte = skip_space(stream, error);
    bool first = stream->state == IN_ARRAY_FIRST;
    if (byte == ']') {
        advance(stream);
        stream->state = AFTER_END;
        byte = skip_space(stream, error);
        if (*stream->type && byte != '}') return malformed(stream, "'}' expected after the instances", error);
        if (*stream->type) {
            advance(stream);
            byte = skip_space(stream, error);
        }
        if (byte != END) return malformed(stream, "nothing may follow the array", error);
        return !stream->failed;
    }
    stream->state = IN_ARRAY;
    if (!first && byte == ',') {
        advance(stream);
        byte = skip_space(stream, error);
        if (byte == ']' || byte == ',') return malformed(stream, "a value is missing after the comma", error);
    } else if (byte != END && (!first || byte == ',')) {
        return malformed(stream, first ? "a value is missing before the comma" : "',' or ']' expected", error);
    }
    if (byte == END && !stream->failed) return malformed(stream, "the array has no closing ']'", error);
    return !stream->failed;
}

bool json_stream_next(JsonStream *stream, Buffer *text, JsonPlace *place, bool *found, Error *error) {
    *found = false;
    if (stream->state == BEFORE_START && !start(stream, error)) return false;
    if (stream->state == IN_LINES) {
        if (skip_space(stream, error) == END) return !stream->failed;
    } else if (stream->state == AFTER_END) {
        return true;
    } else {
        if (!next_element(stream, error)) return false;
        if (stream->state == AFTER_END) return true;
    }
    *found = true;
    *place = stream->place;
    return stream->state == IN_LINES ? copy_line(stream, text, *place, error)
                                     : copy_element(stream, text, *place, error);
}
