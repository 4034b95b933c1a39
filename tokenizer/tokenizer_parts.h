// tokenizer_parts.h - what a tokenizer is made of, shared by the files of tokenizer/ that fill it and use it.
#pragma once
#include "base/gguf.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/piece_words.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/sentencepiece_model.h"
#include "tokenizer/tokenizer.h"

#define TOKENIZER_FILE_LIMIT ((size_t)256 << 20) // bytes of a tokenizer's file; the largest known are below 40 MB

// When SentencePiece text gets a space before it. METASPACE: only text that does not start with a space already.
typedef enum {
    PREFIX_NEVER,
    PREFIX_FIRST_METASPACE, // only text at the start: transformers' LlamaTokenizer, legacy false
    PREFIX_METASPACE,       // text after a special token too: legacy true
    PREFIX_ALWAYS, // both, whatever the text starts with: SentencePiece itself, llama.cpp, Prepend of tokenizer.json
} SpacePrefix;

struct Tokenizer {
    char *source;   // the directory or GGUF file it came from
    bool from_gguf; // the files to write are built instead of copied

    // byte-level BPE, or NULL
    Bpe *bpe;
    Pretokenizer pretokenizer;
    bool compose; // text is brought to normalisation form C

    // SentencePiece, or NULL
    SentencePiece *pieces;
    SentencePieceModel model; // what `pieces` was opened from, with types and scores
    bool model_from_file;     // tokenizer.model was there
    PieceWords words;         // how its text is cut
    SpacePrefix prefix;

    AddedTokens added;
    int64_t size;                       // ids are below this
    int32_t bos, eos, unknown, padding; // -1 when there is none
    bool adds_bos;
    char *chat_template; // NULL when there is none
};

// An empty one; NULL when memory runs out.
Tokenizer *tokenizer_new(const char *source, Error *error);
// Each fills an empty tokenizer; on failure the caller closes it.
bool tokenizer_read_gguf(Tokenizer *tokenizer, const char *path, Error *error);
bool tokenizer_read_metadata(Tokenizer *tokenizer, const GgufFile *file, Error *error);
bool tokenizer_read_directory(Tokenizer *tokenizer, const char *directory, Error *error);
// tokenizer.json's text: the model and the added tokens.
bool tokenizer_read_json(Tokenizer *tokenizer, const char *text, size_t size, const char *where, Error *error);
// tokenizer.model's bytes.
bool tokenizer_read_model(Tokenizer *tokenizer, const char *bytes, size_t size, const char *where, Error *error);
// Checks what was read against the model's vocabulary and makes it ready to encode.
bool tokenizer_finish(Tokenizer *tokenizer, int64_t vocabulary, Error *error);
