// tokenizer_json.h - what the readers of Hugging Face's tokenizer files share.
#pragma once
#include "base/json.h"
#include "tokenizer/tokenizer_parts.h"
#include <stdlib.h>

#define TOKENIZER_IDS_MAX (1 << 24) // more ids than this are taken for damage

// Whether the object's "type" is this.
bool json_type_is(const json_t *value, const char *type);
// Adds an added token from its object in tokenizer.json or in tokenizer_config.json's added_tokens_decoder.
bool json_added_token(AddedTokens *added, int64_t id, const json_t *value, const char *where, Error *error);
// One more than the largest id of a "vocab" object; every id is checked.
bool json_vocabulary_size(const json_t *vocabulary, int64_t *size, const char *where, Error *error);

// The rule of a tokenizer.json that was converted from SentencePiece for the space before a text; false when its
// normalizer and pre_tokenizer are none that is known.
bool json_space_prefix(const json_t *root, SpacePrefix *prefix);
// The pieces of such a "model", its added tokens already read; nothing where there is a tokenizer.model to read.
bool json_read_pieces(Tokenizer *tokenizer, const json_t *model, const char *where, Error *error);

// A whole tokenizer.json of a tokenizer that came from a GGUF file, such that the `tokenizers` library gives the same
// ids; a new reference. NULL when a token's text is no UTF-8 or memory runs out.
json_t *tokenizer_to_json(const Tokenizer *tokenizer, Error *error);
