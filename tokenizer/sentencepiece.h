// sentencepiece.h - libsentencepiece behind a C header: a serialised model in, ids out.
#pragma once
#ifdef __cplusplus
extern "C" {
#endif
#include "tokenizer/tokenizer.h"

typedef struct SentencePiece SentencePiece;

// From a serialised ModelProto. NULL when libsentencepiece refuses it, with its words in the error. Thread-safe once
// opened.
SentencePiece *sentencepiece_open(const void *model, size_t size, Error *error);
void sentencepiece_close(SentencePiece *pieces); // NULL is allowed

// Appends the ids of size bytes of valid UTF-8.
bool sentencepiece_encode(const SentencePiece *pieces, const char *text, size_t size, TokenList *ids, Error *error);

#ifdef __cplusplus
}
#endif
