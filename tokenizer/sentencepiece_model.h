// sentencepiece_model.h - SentencePiece's ModelProto as plain data, read from and written as protobuf wire bytes.
//
// Only bytes that were written here reach libsentencepiece, so a damaged tokenizer.model is refused before it gets
// there. Source: sentencepiece_model.proto of google/sentencepiece; field numbers are in sentencepiece_model.c.
#pragma once
#include "base/buffer.h"
#include <stdint.h>

typedef enum { // the numbers of the file format
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,
    PIECE_USER_DEFINED = 4,
    PIECE_UNUSED = 5,
    PIECE_BYTE = 6,
} PieceType;

typedef enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 } PieceModelType; // the numbers of the file format

typedef struct Piece {
    size_t offset; // of its text in the pool
    size_t size;   // bytes
    float score;
    PieceType type;
} Piece;

typedef struct SentencePieceModel {
    Piece *pieces; // [count], the index is the id
    int64_t count, capacity;
    Buffer pool; // the texts
    PieceModelType type;
    bool byte_fallback;                 // a character without a piece becomes its bytes; only with all 256 byte pieces
    bool add_dummy_prefix;              // a space before the text
    int32_t unknown, bos, eos, padding; // -1 when there is none
} SentencePieceModel;

// An empty model of type BPE with SentencePiece's settings for the LLaMA family.
SentencePieceModel sentencepiece_model_new(void);
void sentencepiece_model_free(SentencePieceModel *model);
bool sentencepiece_model_add(SentencePieceModel *model, const char *text, size_t size, float score, int64_t type,
                             Error *error);
// Whether libsentencepiece can work with the model: one unknown piece, texts that are valid UTF-8 and not empty, finite
// scores, 256 byte pieces or none. Sets unknown and byte_fallback. `where` names the source in errors.
bool sentencepiece_model_check(SentencePieceModel *model, const char *where, Error *error);

// Reads a serialised ModelProto into a new model. What it says of normalisation must be the LLaMA family's (no
// character map, spaces escaped and kept); anything else is refused by name.
bool sentencepiece_model_parse(SentencePieceModel *model, const void *bytes, size_t size, const char *where,
                               Error *error);
// Appends the serialised ModelProto.
bool sentencepiece_model_write(const SentencePieceModel *model, Buffer *bytes, Error *error);

static inline const char *piece_text(const SentencePieceModel *model, int64_t id) {
    return model->pool.data + model->pieces[id].offset;
}
