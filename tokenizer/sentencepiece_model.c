// sentencepiece_model.c - see sentencepiece_model.h. The wire format: protobuf.dev/programming-guides/encoding.
#include "tokenizer/sentencepiece_model.h"
#include "base/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Field numbers of sentencepiece_model.proto.
enum { MODEL_PIECES = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum {
    TRAINER_MODEL_TYPE = 3,
    TRAINER_VOCABULARY = 4,
    TRAINER_SPACE_AS_SUFFIX = 24,
    TRAINER_BYTE_FALLBACK = 35,
    TRAINER_UNKNOWN_ID = 40,
    TRAINER_BOS_ID = 41,
    TRAINER_EOS_ID = 42,
    TRAINER_PADDING_ID = 43,
    TRAINER_UNKNOWN_PIECE = 45,
    TRAINER_BOS_PIECE = 46,
    TRAINER_EOS_PIECE = 47,
};
enum {
    NORMALIZER_NAME = 1,
    NORMALIZER_MAP = 2,
    NORMALIZER_DUMMY_PREFIX = 3,
    NORMALIZER_REMOVE_SPACES = 4,
    NORMALIZER_ESCAPE_SPACES = 5,
};

typedef enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 } WireType;

// ---- the model ----

SentencePieceModel sentencepiece_model_new(void) {
    return (SentencePieceModel){
        .type = MODEL_BPE, .add_dummy_prefix = true, .unknown = -1, .bos = -1, .eos = -1, .padding = -1};
}

void sentencepiece_model_free(SentencePieceModel *model) {
    free(model->pieces);
    buffer_free(&model->pool);
    *model = sentencepiece_model_new();
}

bool sentencepiece_model_add(SentencePieceModel *model, const char *text, size_t size, float score, int64_t type,
                             Error *error) {
    if (type < PIECE_NORMAL || type > PIECE_BYTE)
        return error_set(error, "piece %lld has the unknown type %lld", (long long)model->count, (long long)type);
    if (model->count == INT32_MAX) return error_set(error, "more than %d pieces", INT32_MAX);
    if (model->count == model->capacity) {
        int64_t capacity = model->capacity ? 2 * model->capacity : 1024;
        Piece *pieces = realloc(model->pieces, (size_t)capacity * sizeof *pieces);
        if (!pieces) return error_memory(error, "pieces", (size_t)capacity * sizeof *pieces);
        model->pieces = pieces;
        model->capacity = capacity;
    }
    size_t offset = model->pool.size;
    if (!buffer_append(&model->pool, text, size, error)) return false;
    model->pieces[model->count++] = (Piece){offset, size, score, (PieceType)type};
    return true;
}

static bool names_a_byte(const char *text, size_t size) {
    static const char digits[] = "0123456789ABCDEF";
    return size == 6 && !memcmp(text, "<0x", 3) && text[3] && strchr(digits, text[3]) && text[4] &&
           strchr(digits, text[4]) && text[5] == '>';
}

bool sentencepiece_model_check(SentencePieceModel *model, const char *where, Error *error) {
    int64_t bytes = 0;
    model->unknown = -1;
    for (int64_t i = 0; i < model->count; i++) {
        const Piece *piece = &model->pieces[i];
        const char *text = piece_text(model, i);
        if (piece->size == 0 || memchr(text, 0, piece->size) || !utf8_valid(text, piece->size))
            return error_set(error, "%s: piece %lld is no text", where, (long long)i);
        if (!isfinite(piece->score))
            return error_set(error, "%s: the score of piece %lld is not finite", where, (long long)i);
        if (piece->type == PIECE_BYTE) {
            if (!names_a_byte(text, piece->size))
                return error_set(error, "%s: piece %lld is of type byte, but named like none", where, (long long)i);
            bytes++;
        }
        if (piece->type != PIECE_UNKNOWN) continue;
        if (model->unknown >= 0)
            return error_set(error, "%s: pieces %d and %lld are both of type unknown", where, model->unknown,
                             (long long)i);
        model->unknown = (int32_t)i;
    }
    if (model->unknown < 0) return error_set(error, "%s: no piece is of type unknown", where);
    if (bytes != 0 && bytes != 256)
        return error_set(error, "%s: %lld pieces are of type byte, there must be 256 or none", where, (long long)bytes);
    model->byte_fallback = bytes == 256;
    return true;
}

// ---- reading ----

// One field of a message: its number, and a value or bytes.
typedef struct Field {
    uint64_t number;
    WireType type;
    uint64_t value;             // of WIRE_VARINT and WIRE_32
    const unsigned char *bytes; // of WIRE_BYTES
    size_t size;
} Field;

typedef struct Wire {
    const unsigned char *at;
    size_t left;
} Wire;

static bool read_varint(Wire *wire, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (wire->left == 0) return false;
        unsigned char byte = *wire->at++;
        wire->left--;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

// False when the bytes are no message.
static bool read_field(Wire *wire, Field *field) {
    uint64_t tag;
    if (!read_varint(wire, &tag)) return false;
    *field = (Field){.number = tag >> 3, .type = (WireType)(tag & 7)};
    size_t skip = 0;
    switch (field->type) {
    case WIRE_VARINT:
        return read_varint(wire, &field->value);
    case WIRE_BYTES: {
        uint64_t size;
        if (!read_varint(wire, &size) || size > wire->left) return false;
        field->bytes = wire->at;
        field->size = skip = (size_t)size;
        break;
    }
    case WIRE_32:
        if (wire->left < 4) return false;
        for (int i = 3; i >= 0; i--) field->value = field->value << 8 | wire->at[i];
        skip = 4;
        break;
    case WIRE_64:
        if (wire->left < 8) return false;
        skip = 8;
        break;
    default:
        return false;
    }
    wire->at += skip;
    wire->left -= skip;
    return true;
}

static bool damaged(const char *where, Error *error) {
    error_set(error, "%s: not a SentencePiece model, or a damaged one", where);
    return error_hint(error, "get the file again from where the model came from");
}

static bool parse_piece(SentencePieceModel *model, Wire wire, const char *where, Error *error) {
    const char *text = "";
    size_t size = 0;
    float score = 0;
    uint64_t type = PIECE_NORMAL;
    while (wire.left > 0) {
        Field field;
        if (!read_field(&wire, &field)) return damaged(where, error);
        if (field.number == PIECE_TEXT && field.type == WIRE_BYTES) {
            text = (const char *)field.bytes;
            size = field.size;
        } else if (field.number == PIECE_SCORE && field.type == WIRE_32) {
            uint32_t bits = (uint32_t)field.value;
            memcpy(&score, &bits, sizeof score);
        } else if (field.number == PIECE_TYPE && field.type == WIRE_VARINT) {
            type = field.value;
        }
    }
    if (type > PIECE_BYTE) return damaged(where, error);
    return sentencepiece_model_add(model, text, size, score, (int64_t)type, error) || error_context(error, "%s", where);
}

static bool parse_trainer(SentencePieceModel *model, Wire wire, const char *where, Error *error) {
    while (wire.left > 0) {
        Field field;
        if (!read_field(&wire, &field)) return damaged(where, error);
        if (field.type != WIRE_VARINT) continue;
        int32_t id = field.value < INT32_MAX ? (int32_t)field.value : -1;
        if (field.number == TRAINER_MODEL_TYPE) {
            if (field.value != MODEL_UNIGRAM && field.value != MODEL_BPE)
                return error_set(error, "%s: a SentencePiece model of type word or char is not supported", where);
            model->type = (PieceModelType)field.value;
        } else if (field.number == TRAINER_SPACE_AS_SUFFIX && field.value) {
            return error_set(error, "%s: treat_whitespace_as_suffix is not supported", where);
        } else if (field.number == TRAINER_BOS_ID) {
            model->bos = id;
        } else if (field.number == TRAINER_EOS_ID) {
            model->eos = id;
        } else if (field.number == TRAINER_PADDING_ID) {
            model->padding = id;
        }
    }
    return true;
}

static bool parse_normalizer(SentencePieceModel *model, Wire wire, const char *where, Error *error) {
    bool remove_spaces = true; // what the format takes where nothing is said
    while (wire.left > 0) {
        Field field;
        if (!read_field(&wire, &field)) return damaged(where, error);
        if (field.number == NORMALIZER_MAP && field.type == WIRE_BYTES && field.size > 0) {
            error_set(error, "%s: normalisation by a character map is not supported", where);
            return error_hint(error, "models of the LLaMA family use normalization_rule_name=identity");
        }
        if (field.type != WIRE_VARINT) continue;
        if (field.number == NORMALIZER_DUMMY_PREFIX) model->add_dummy_prefix = field.value != 0;
        if (field.number == NORMALIZER_REMOVE_SPACES) remove_spaces = field.value != 0;
        if (field.number == NORMALIZER_ESCAPE_SPACES && field.value == 0)
            return error_set(error, "%s: escape_whitespaces=false is not supported", where);
    }
    if (!remove_spaces) return true;
    error_set(error, "%s: remove_extra_whitespaces=true is not supported", where);
    return error_hint(error, "models of the LLaMA family are trained with remove_extra_whitespaces=false");
}

bool sentencepiece_model_parse(SentencePieceModel *model, const void *bytes, size_t size, const char *where,
                               Error *error) {
    Wire wire = {bytes, size};
    // what the format takes where nothing is said
    model->type = MODEL_UNIGRAM;
    model->bos = 1;
    model->eos = 2;
    while (wire.left > 0) {
        Field field;
        if (!read_field(&wire, &field)) return damaged(where, error);
        if (field.type != WIRE_BYTES) continue;
        Wire part = {field.bytes, field.size};
        if (field.number == MODEL_PIECES && !parse_piece(model, part, where, error)) return false;
        if (field.number == MODEL_TRAINER && !parse_trainer(model, part, where, error)) return false;
        if (field.number == MODEL_NORMALIZER && !parse_normalizer(model, part, where, error)) return false;
    }
    if (model->count == 0) return damaged(where, error);
    int32_t *special[] = {&model->bos, &model->eos, &model->padding};
    for (int i = 0; i < 3; i++) {
        if (*special[i] >= model->count || (*special[i] >= 0 && model->pieces[*special[i]].type != PIECE_CONTROL))
            *special[i] = -1;
    }
    return true;
}

// ---- writing ----

static bool write_varint(Buffer *bytes, uint64_t value, Error *error) {
    unsigned char text[10];
    size_t size = 0;
    do {
        text[size++] = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value);
    return buffer_append(bytes, text, size, error);
}

static bool write_number(Buffer *bytes, int field, uint64_t value, Error *error) {
    return write_varint(bytes, (uint64_t)field << 3 | WIRE_VARINT, error) && write_varint(bytes, value, error);
}

static bool write_bytes(Buffer *bytes, int field, const void *data, size_t size, Error *error) {
    return write_varint(bytes, (uint64_t)field << 3 | WIRE_BYTES, error) && write_varint(bytes, size, error) &&
           buffer_append(bytes, data, size, error);
}

static bool write_piece(const SentencePieceModel *model, int64_t id, Buffer *part, Error *error) {
    const Piece *piece = &model->pieces[id];
    uint32_t bits;
    memcpy(&bits, &piece->score, sizeof bits);
    unsigned char score[4] = {(unsigned char)bits, (unsigned char)(bits >> 8), (unsigned char)(bits >> 16),
                              (unsigned char)(bits >> 24)};
    return write_bytes(part, PIECE_TEXT, piece_text(model, id), piece->size, error) &&
           write_varint(part, PIECE_SCORE << 3 | WIRE_32, error) && buffer_append(part, score, 4, error) &&
           write_number(part, PIECE_TYPE, (uint64_t)piece->type, error);
}

// A special id and the piece's text, which is how libsentencepiece finds it.
static bool write_special(const SentencePieceModel *model, int32_t id, int id_field, int text_field, Buffer *part,
                          Error *error) {
    if (id < 0) return write_number(part, id_field, (uint64_t)(int64_t)-1, error);
    return write_number(part, id_field, (uint64_t)id, error) &&
           write_bytes(part, text_field, piece_text(model, id), model->pieces[id].size, error);
}

static bool write_trainer(const SentencePieceModel *model, Buffer *part, Error *error) {
    return write_number(part, TRAINER_MODEL_TYPE, (uint64_t)model->type, error) &&
           write_number(part, TRAINER_VOCABULARY, (uint64_t)model->count, error) &&
           write_number(part, TRAINER_BYTE_FALLBACK, model->byte_fallback, error) &&
           write_special(model, model->unknown, TRAINER_UNKNOWN_ID, TRAINER_UNKNOWN_PIECE, part, error) &&
           write_special(model, model->bos, TRAINER_BOS_ID, TRAINER_BOS_PIECE, part, error) &&
           write_special(model, model->eos, TRAINER_EOS_ID, TRAINER_EOS_PIECE, part, error) &&
           write_number(part, TRAINER_PADDING_ID, (uint64_t)(int64_t)model->padding, error);
}

static bool write_normalizer(const SentencePieceModel *model, Buffer *part, Error *error) {
    static const char name[] = "identity";
    return write_bytes(part, NORMALIZER_NAME, name, strlen(name), error) &&
           write_number(part, NORMALIZER_DUMMY_PREFIX, model->add_dummy_prefix, error) &&
           write_number(part, NORMALIZER_REMOVE_SPACES, 0, error) &&
           write_number(part, NORMALIZER_ESCAPE_SPACES, 1, error);
}

bool sentencepiece_model_write(const SentencePieceModel *model, Buffer *bytes, Error *error) {
    Buffer part = BUFFER_EMPTY;
    bool ok = true;
    for (int64_t i = 0; ok && i < model->count; i++) {
        buffer_clear(&part);
        ok = write_piece(model, i, &part, error) && write_bytes(bytes, MODEL_PIECES, part.data, part.size, error);
    }
    buffer_clear(&part);
    ok = ok && write_trainer(model, &part, error) && write_bytes(bytes, MODEL_TRAINER, part.data, part.size, error);
    buffer_clear(&part);
    ok = ok && write_normalizer(model, &part, error) &&
         write_bytes(bytes, MODEL_NORMALIZER, part.data, part.size, error);
    buffer_free(&part);
    return ok;
}
