// tokenizer.h - text to token ids and back, for SentencePiece and byte-level BPE vocabularies.
//
// Text is always plain text: "<|im_end|>" inside a user's words is encoded as those ten characters, never as the
// special token. Special tokens enter by id, through tokenizer_special. Added tokens that are not special (Qwen2.5's
// "<tool_call>") are found in text, as transformers does with split_special_tokens=True. docs/tokenizers.md says whose
// ids these are.
#pragma once
#include "base/buffer.h"
#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct Tokenizer Tokenizer;

typedef struct TokenList {
    int32_t *ids;
    int64_t count;
    int64_t capacity;
} TokenList;

bool token_list_append(TokenList *list, int32_t id, Error *error);
void token_list_free(TokenList *list);

// From a Hugging Face directory (tokenizer.json, tokenizer.model, tokenizer_config.json) or a GGUF file's metadata.
// vocabulary: the rows of the model's embedding. A missing tokenizer, or one with more ids than rows, is an error.
// Thread-safe once opened.
Tokenizer *tokenizer_open(const char *path, int64_t vocabulary, Error *error);
void tokenizer_close(Tokenizer *tokenizer); // NULL is allowed

// What comes before the text; it decides whether SentencePiece adds its leading space.
typedef enum {
    TEXT_FIRST,         // nothing, or a BOS that the tokenizer adds; one that a chat template writes is a special token
    TEXT_AFTER_SPECIAL, // a special token: as transformers encodes the text that follows one
    TEXT_CONTINUES      // other text: no space is added
} TextPlace;

// Appends the ids of size bytes of text; no BOS or EOS is added. Invalid UTF-8 is an error (the data readers refuse it
// with the record's line before it comes here).
bool tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t size, TextPlace place, TokenList *ids,
                      Error *error);

// Appends the bytes of a token as they appear inside text (SentencePiece's space mark turned into a space, byte tokens
// into their byte). Special tokens give their text when special is true, else nothing.
bool tokenizer_decode(const Tokenizer *tokenizer, int32_t id, bool special, Buffer *text, Error *error);

int32_t tokenizer_special(const Tokenizer *tokenizer, const char *text); // id of a special or added token; -1 if none
int64_t tokenizer_size(const Tokenizer *tokenizer);                      // ids are below this
int32_t tokenizer_bos(const Tokenizer *tokenizer);                       // -1 when there is none
int32_t tokenizer_eos(const Tokenizer *tokenizer);                       // -1 when there is none
bool tokenizer_adds_bos(const Tokenizer *tokenizer);                     // plain text starts with BOS
const char *tokenizer_kind(const Tokenizer *tokenizer); // "SentencePiece" or "BPE (llama-bpe)", for people
// The model's own chat template (Jinja), or NULL: tokenizer_config.json, chat_template.jinja or GGUF metadata.
const char *tokenizer_chat_template(const Tokenizer *tokenizer);

// Writes the tokenizer's files into a directory: copies of the source directory's; from a GGUF file tokenizer.model or
// tokenizer.json, and tokenizer_config.json, special_tokens_map.json, such that transformers gives the same ids.
// chat_template replaces the template (NULL keeps it).
bool tokenizer_write(const Tokenizer *tokenizer, const char *directory, const char *chat_template, Error *error);
