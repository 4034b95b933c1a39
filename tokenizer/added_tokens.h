// added_tokens.h - tokens that stand beside a vocabulary's own: special ones, and others that are looked for in text.
//
// As in the `tokenizers` library with encode_special_tokens: of all added tokens the leftmost, then longest match
// counts; a special token's text stays plain text, another added token's text becomes its id.
#pragma once
#include "base/error.h"
#include <stddef.h>
#include <stdint.h>

typedef struct AddedToken {
    char *text; // NUL-terminated
    size_t size;
    int32_t id;
    bool special;
    bool normalized; // looked for in the normalised text
} AddedToken;

typedef struct AddedTokens {
    AddedToken *tokens; // [count], sorted by text once added_tokens_sort was called
    AddedToken **by_id; // [count], sorted by id
    int32_t count, capacity;
    bool in_text[2];  // some token of normalized = 0, 1 is to be found in text
    bool starts[256]; // some token starts with this byte
} AddedTokens;

// Adds one; a second one of the same id replaces the first. All functions but this want added_tokens_sort before them.
bool added_tokens_add(AddedTokens *added, const AddedToken *token, Error *error); // token->text is copied
bool added_tokens_sort(AddedTokens *added, Error *error);
void added_tokens_free(AddedTokens *added);

const AddedToken *added_token_by_text(const AddedTokens *added, const char *text, size_t size); // NULL if none
const AddedToken *added_token_by_id(const AddedTokens *added, int32_t id);                      // NULL if none

// The first token that is not special and has this `normalized`, in text from *at on: *at becomes where it starts. NULL
// when there is none.
const AddedToken *added_token_in_text(const AddedTokens *added, bool normalized, const char *text, size_t size,
                                      size_t *at);
