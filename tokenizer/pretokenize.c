// pretokenize.c - the scanners: each follows its expression's alternatives in order, as a regex engine would.
#include "tokenizer/pretokenize.h"
#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

typedef enum { LETTER, NUMBER, SPACE, OTHER, END } Class;

// One character of the text. class is END, and size 0, where the text ends.
typedef struct Character {
    int32_t point;
    Class class;
    size_t size; // bytes
} Character;

static Class class_of(int32_t point) {
    switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return SPACE;
    default:
        return (point >= '\t' && point <= '\r') || point == 0x85 ? SPACE : OTHER;
    }
}

static Class ascii_class(unsigned char byte) {
    if ((byte | 32) >= 'a' && (byte | 32) <= 'z') return LETTER;
    if (byte >= '0' && byte <= '9') return NUMBER;
    return byte == ' ' || (byte >= '\t' && byte <= '\r') ? SPACE : OTHER;
}

static Character character_at(const char *text, size_t size, size_t at) {
    if (at >= size) return (Character){-1, END, 0};
    unsigned char byte = (unsigned char)text[at];
    if (byte < 0x80) return (Character){byte, ascii_class(byte), 1};
    utf8proc_int32_t point = -1;
    size_t left = size - at;
    utf8proc_ssize_t used =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, left < 4 ? (utf8proc_ssize_t)left : 4, &point);
    if (used <= 0) return (Character){byte, OTHER, 1};
    return (Character){point, class_of(point), (size_t)used};
}

// The end of the run of characters of one class that starts at `at`.
static size_t run_end(const char *text, size_t size, size_t at, Class class) {
    for (;;) {
        Character next = character_at(text, size, at);
        if (next.class != class) return at;
        at += next.size;
    }
}

static bool is_newline(int32_t point) {
    return point == '\n' || point == '\r';
}

// Bytes of 's 't 're 've 'm 'll 'd at the start of text, 0 when there is none. Any case folds Unicode's way: the long s
// (U+017F, C5 BF) is an s.
static size_t contraction(const char *text, size_t size, bool any_case) {
    if (size < 2 || text[0] != '\'') return 0;
    if (any_case && size >= 3 && !memcmp(text + 1, "\xc5\xbf", 2)) return 3;
    int fold = any_case ? 32 : 0;
    char first = (char)(text[1] | fold);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
    if (size < 3) return 0;
    char second = (char)(text[2] | fold);
    return ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l') ? 3 : 0;
}

// \s+(?!\S)|\s+ on a run of white space: all of it at the end of the text, else all but its last character, which the
// next word may want; never nothing.
static size_t white_space(const char *text, size_t size) {
    size_t at = 0, last = 0;
    for (;;) {
        Character next = character_at(text, size, at);
        if (next.class == END) return at;
        if (next.class != SPACE) return last > 0 ? last : at;
        last = at;
        at += next.size;
    }
}

static size_t next_gpt2(const char *text, size_t size) {
    size_t bytes = contraction(text, size, false);
    if (bytes > 0) return bytes;
    size_t start = text[0] == ' ';
    Character first = character_at(text, size, start);
    if (first.class == SPACE || first.class == END) return white_space(text, size);
    return run_end(text, size, start + first.size, first.class);
}

static size_t next_smollm(const char *text, size_t size) {
    Character first = character_at(text, size, 0);
    if (first.class == NUMBER) return first.size;
    // A number ends the text that GPT-2's expression sees; looking for it no further than the word keeps this linear.
    if (first.class != SPACE) return next_gpt2(text, size);
    size_t end = run_end(text, size, 0, SPACE);
    Character after = character_at(text, size, end);
    return after.class == NUMBER ? end : next_gpt2(text, size);
}

// Length of \s*[\r\n]+: up to the last newline of the run of white space, 0 when it has none.
static size_t through_last_newline(const char *text, size_t size) {
    size_t at = 0, end = 0;
    for (;;) {
        Character next = character_at(text, size, at);
        if (next.class != SPACE) return end;
        at += next.size;
        if (is_newline(next.point)) end = at;
    }
}

static size_t next_llama3(const char *text, size_t size, int digits) {
    size_t bytes = contraction(text, size, true);
    if (bytes > 0) return bytes;
    Character first = character_at(text, size, 0);
    if (first.class == LETTER) return run_end(text, size, first.size, LETTER);
    if (first.class == NUMBER) {
        size_t end = first.size;
        for (int i = 1; i < digits; i++) {
            Character next = character_at(text, size, end);
            if (next.class != NUMBER) break;
            end += next.size;
        }
        return end;
    }
    Character second = character_at(text, size, first.size);
    if (second.class == LETTER && !is_newline(first.point)) return run_end(text, size, first.size, LETTER);
    size_t start = first.point == ' ';
    if (character_at(text, size, start).class == OTHER) {
        size_t end = run_end(text, size, start, OTHER);
        while (end < size && is_newline(text[end])) end++;
        return end;
    }
    size_t newline = through_last_newline(text, size);
    return newline > 0 ? newline : white_space(text, size);
}

size_t pretokenize_next(Pretokenizer kind, const char *text, size_t size) {
    switch (kind) {
    case PRETOKENIZE_GPT2:
        return next_gpt2(text, size);
    case PRETOKENIZE_SMOLLM:
        return next_smollm(text, size);
    case PRETOKENIZE_LLAMA3:
        return next_llama3(text, size, 3);
    case PRETOKENIZE_QWEN2:
        return next_llama3(text, size, 1);
    }
    return size;
}

bool pretokenizer_from_gguf(const char *name, size_t size, Pretokenizer *kind, Error *error) {
    static const struct {
        const char *name;
        Pretokenizer kind;
    } known[] = {{"gpt-2", PRETOKENIZE_GPT2},       {"default", PRETOKENIZE_GPT2},  {"smollm", PRETOKENIZE_SMOLLM},
                 {"llama-bpe", PRETOKENIZE_LLAMA3}, {"llama3", PRETOKENIZE_LLAMA3}, {"llama-v3", PRETOKENIZE_LLAMA3},
                 {"qwen2", PRETOKENIZE_QWEN2}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (size == strlen(known[i].name) && !memcmp(name, known[i].name, size)) {
            *kind = known[i].kind;
            return true;
        }
    }
    error_set(error, "tokenizer.ggml.pre is \"%.*s\", a pre-tokeniser that is not supported",
              (int)(size < 64 ? size : 64), name);
    return error_hint(error,
                      "supported are gpt-2 (default), smollm, llama-bpe and qwen2; use a model of these families");
}
