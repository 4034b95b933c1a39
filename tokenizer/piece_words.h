// piece_words.h - SentencePiece text word by word, so that most words are one look-up and none makes another dearer.
//
// No piece of the LLaMA family has a space after another character ("▁▁the", but never "of▁the"), so nothing is ever
// merged across the end of a word and the words can be encoded one by one with the same ids. Where a model has such a
// piece the whole text is one word.
#pragma once
#include "tokenizer/sentencepiece.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/word_table.h"

#define SPACE_MARK      "\xe2\x96\x81" // U+2581, which stands for a space in pieces
#define SPACE_MARK_SIZE 3

typedef struct PieceWords {
    bool separable;  // words may be encoded one by one
    WordTable whole; // pieces that, as a word, give exactly themselves
    Buffer pool;     // their texts, with spaces
} PieceWords;

bool piece_words_build(PieceWords *words, const SentencePieceModel *model, const SentencePiece *pieces, Error *error);
void piece_words_free(PieceWords *words);
// Appends the ids of text as it is; no space is put before it.
bool piece_words_encode(const PieceWords *words, const SentencePiece *pieces, const char *text, size_t size,
                        TokenList *ids, Error *error);
// Appends a piece's text with its space marks turned into spaces.
bool piece_append_text(const SentencePieceModel *model, int64_t id, Buffer *text, Error *error);
