// jinja_statements.c - reads tags and strings of a Jinja text; knows nothing of what they mean.
#include "tokenizer/jinja_statements.h"
#include <ctype.h>
#include <string.h>

typedef struct Reader {
    const char *at; // the rest of the text
    Buffer *lines;
    Error *error;
    bool output;      // the last line is an "out" that may be continued
    bool trim_next;   // the tag before ended in "-": white space after it is dropped
    bool after_block; // the tag before was a block or comment: a newline right after it is dropped
} Reader;

typedef enum { READ_OK, READ_MALFORMED, READ_NO_MEMORY } ReadResult;

static ReadResult put(Reader *reader, const char *text, size_t size) {
    return buffer_append(reader->lines, text, size, reader->error) ? READ_OK : READ_NO_MEMORY;
}

// A character of a string, escaped.
static ReadResult put_character(Reader *reader, char character) {
    if (character == '\n') return put(reader, "\\n", 2);
    if (character == '\\' || character == '\'') {
        ReadResult result = put(reader, "\\", 1);
        if (result != READ_OK) return result;
    }
    return put(reader, &character, 1);
}

// Opens a string, or continues the one that the line ends in ('a'+'b' is 'ab').
static ReadResult open_string(Reader *reader) {
    Buffer *lines = reader->lines;
    // the quote before "+" closes a string unless it is an escaped one, which cannot stand outside a string
    if (lines->size >= 2 && !memcmp(lines->data + lines->size - 2, "'+", 2)) {
        lines->size -= 2;
        return READ_OK;
    }
    return put(reader, "'", 1);
}

// The string literal at reader->at, up to its closing quote.
static ReadResult read_string(Reader *reader) {
    char quote = *reader->at++;
    ReadResult result = open_string(reader);
    while (result == READ_OK && *reader->at && *reader->at != quote) {
        char character = *reader->at++;
        if (character == '\\') {
            character = *reader->at++;
            if (character == 'n')
                character = '\n';
            else if (character == 't')
                character = '\t';
            else if (character == 'r')
                character = '\r';
            else if (character != '\\' && character != '\'' && character != '"')
                return READ_MALFORMED;
        }
        result = put_character(reader, character);
    }
    if (result != READ_OK) return result;
    if (!*reader->at) return READ_MALFORMED;
    reader->at++;
    return put(reader, "'", 1);
}

static bool word_character(char character) {
    return isalnum((unsigned char)character) || character == '_';
}

static bool starts(const char *text, const char *with) {
    return !strncmp(text, with, strlen(with));
}

// Members that are written with a point, and methods, in the spelling that is compared; 0 bytes when it is none.
static size_t member_at(const char *text, const char **spelling) {
    static const char *const members[][2] = {{".role", "['role']"}, {".content", "['content']"}, {".strip()", "|trim"}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        size_t size = strlen(members[i][0]);
        if (!starts(text, members[i][0]) || word_character(text[size])) continue;
        *spelling = members[i][1];
        return size;
    }
    return 0;
}

// The inside of a tag up to its end ("}}" or "%}"), white space dropped but between two words.
static ReadResult read_inside(Reader *reader, const char *end) {
    ReadResult result = READ_OK;
    for (bool space = false; result == READ_OK;) {
        const char *at = reader->at, *spelling;
        if (!*at) return READ_MALFORMED;
        bool dash = *at == '-' && starts(at + 1, end);
        if (dash || starts(at, end)) {
            reader->at = at + 2 + dash;
            reader->trim_next = dash;
            return READ_OK;
        }
        if (isspace((unsigned char)*at)) {
            space = true;
            reader->at++;
            continue;
        }
        Buffer *lines = reader->lines;
        bool words = word_character(*at) && lines->size > 0 && word_character(lines->data[lines->size - 1]);
        if (space && words) result = put(reader, " ", 1);
        space = false;
        if (result != READ_OK) return result;
        size_t size = member_at(at, &spelling);
        if (*at == '\'' || *at == '"')
            result = read_string(reader);
        else if (size > 0) {
            result = put(reader, spelling, strlen(spelling));
            reader->at += size;
        } else {
            result = put(reader, at, 1);
            reader->at++;
        }
    }
    return result;
}

static ReadResult end_output(Reader *reader) {
    ReadResult result = reader->output ? put(reader, "\n", 1) : READ_OK;
    reader->output = false;
    return result;
}

static ReadResult begin_output(Reader *reader) {
    ReadResult result = reader->output ? put(reader, "+", 1) : put(reader, "out ", 4);
    reader->output = true;
    return result;
}

// The text between two tags, without the white space that the tags eat. next: the tag that follows, "" at the end.
static ReadResult read_text(Reader *reader, const char *next) {
    const char *text = reader->at, *end = next;
    reader->at = next;
    if (reader->trim_next)
        while (text < end && isspace((unsigned char)*text)) text++;
    else if (reader->after_block && text < end && *text == '\n')
        text++;
    bool dash = *next && next[2] == '-';
    if (dash)
        while (end > text && isspace((unsigned char)end[-1])) end--;
    else if (*next && next[1] != '{') { // a block or comment: the blanks before it in its line
        const char *blank = end;
        while (blank > text && (blank[-1] == ' ' || blank[-1] == '\t')) blank--;
        if (blank > text ? blank[-1] == '\n' : !reader->output) end = blank;
    } else if (!*next && end > text && end[-1] == '\n')
        end--;
    if (text == end) return READ_OK;
    ReadResult result = begin_output(reader);
    if (result == READ_OK) result = open_string(reader);
    while (result == READ_OK && text < end) result = put_character(reader, *text++);
    return result == READ_OK ? put(reader, "'", 1) : result;
}

static ReadResult read_tag(Reader *reader) {
    char kind = reader->at[1];
    reader->at += 2 + (reader->at[2] == '-');
    reader->after_block = kind != '{';
    if (kind == '#') {
        const char *end = strstr(reader->at, "#}");
        if (!end) return READ_MALFORMED;
        reader->trim_next = end > reader->at && end[-1] == '-';
        reader->at = end + 2;
        return READ_OK;
    }
    ReadResult result = kind == '{' ? begin_output(reader) : end_output(reader);
    if (result == READ_OK) result = read_inside(reader, kind == '{' ? "}}" : "%}");
    if (result != READ_OK || kind == '{') return result;
    return put(reader, "\n", 1);
}

// Jinja reads "\r\n" and "\r" as a newline.
static bool unify_newlines(const char *jinja, Buffer *text, Error *error) {
    for (const char *at = jinja; *at; at++) {
        if (*at == '\r' && at[1] == '\n') continue;
        if (!buffer_byte(text, (char)(*at == '\r' ? '\n' : *at), error)) return false;
    }
    return true;
}

bool jinja_statements(const char *jinja, Buffer *lines, bool *understood, Error *error) {
    Buffer text = BUFFER_EMPTY;
    bool unified = unify_newlines(jinja, &text, error);
    Reader reader = {buffer_string(&text), lines, error, false, false, false};
    ReadResult result = unified ? READ_OK : READ_NO_MEMORY;
    while (result == READ_OK && *reader.at) {
        const char *next = reader.at;
        while (*next && !(*next == '{' && next[1] && strchr("{%#", next[1]))) next++;
        result = read_text(&reader, next);
        if (result == READ_OK && *reader.at) result = read_tag(&reader);
    }
    if (result == READ_OK) result = end_output(&reader);
    *understood = result == READ_OK;
    buffer_free(&text);
    return result != READ_NO_MEMORY;
}
