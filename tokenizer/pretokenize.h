// pretokenize.h - cutting text into the words that byte-level BPE merges within, by hand-written scanners.
//
// Each scanner gives the words of one regular expression that models ship in tokenizer.json, in time linear in the
// text; \p{L}, \p{N} and \s are Unicode's general categories L* and N* and its property White_Space.
#pragma once
#include "base/error.h"
#include <stddef.h>

typedef enum {
    PRETOKENIZE_GPT2,   // 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
    PRETOKENIZE_SMOLLM, // each \p{N} a word of its own, GPT-2's expression on what lies between
    // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
    // ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
    PRETOKENIZE_LLAMA3,
    PRETOKENIZE_QWEN2, // Llama-3's with \p{N} in place of \p{N}{1,3}; the text is normalised to NFC first
} Pretokenizer;

#define PRETOKENIZE_LLAMA3_REGEX                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"           \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PRETOKENIZE_QWEN2_REGEX                                                                                        \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"                \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

// From GGUF's tokenizer.ggml.pre: "gpt-2" or "default", "smollm", "llama-bpe", "llama3" or "llama-v3", "qwen2". Another
// name is an error that lists them.
bool pretokenizer_from_gguf(const char *name, size_t size, Pretokenizer *kind, Error *error);

// Bytes of the first word of text; size > 0, text is valid UTF-8. The words are to be taken one after the other from
// the start of a text: where the text ends is part of the rule.
size_t pretokenize_next(Pretokenizer kind, const char *text, size_t size);

// text in normalisation form C. *normal is memory of the caller's (free), or NULL when text already is in that form.
bool utf8_compose(const char *text, size_t size, char **normal, size_t *normal_size, Error *error);
