// encode.c - text to ids and back: added tokens, the space before SentencePiece text, normalisation, words.
#include "base/utf8.h"
#include "tokenizer/tokenizer_parts.h"
#include <stdlib.h>
#include <string.h>

// The state of one call.
typedef struct Encoder {
    const Tokenizer *tokenizer;
    BpeScratch scratch;
    Buffer prefixed; // SentencePiece text with its space before it
    TokenList *ids;
    Error *error;
} Encoder;

// ---- plain text without added tokens ----

static bool encode_words(Encoder *encoder, const char *text, size_t size) {
    const Tokenizer *tokenizer = encoder->tokenizer;
    while (size > 0) {
        size_t word = pretokenize_next(tokenizer->pretokenizer, text, size);
        if (!bpe_encode_word(tokenizer->bpe, &encoder->scratch, text, word, encoder->ids, encoder->error)) return false;
        text += word;
        size -= word;
    }
    return true;
}

static bool wants_prefix(SpacePrefix prefix, const char *text, size_t size, TextPlace place) {
    bool starts_with_space = text[0] == ' ' || (size >= SPACE_MARK_SIZE && !memcmp(text, SPACE_MARK, SPACE_MARK_SIZE));
    switch (prefix) {
    case PREFIX_NEVER:
        return false;
    case PREFIX_FIRST_METASPACE:
        return place == TEXT_FIRST && !starts_with_space;
    case PREFIX_METASPACE:
        return place != TEXT_CONTINUES && !starts_with_space;
    case PREFIX_ALWAYS:
        return place != TEXT_CONTINUES;
    }
    return false;
}

static bool encode_pieces(Encoder *encoder, const char *text, size_t size, TextPlace place) {
    const Tokenizer *tokenizer = encoder->tokenizer;
    if (size == 0) return true;
    if (wants_prefix(tokenizer->prefix, text, size, place)) {
        buffer_clear(&encoder->prefixed);
        if (!buffer_byte(&encoder->prefixed, ' ', encoder->error) ||
            !buffer_append(&encoder->prefixed, text, size, encoder->error))
            return false;
        text = encoder->prefixed.data;
        size = encoder->prefixed.size;
    }
    return piece_words_encode(&tokenizer->words, tokenizer->pieces, text, size, encoder->ids, encoder->error);
}

// ---- added tokens ----

// Encodes one section of the text, then the added tokens that are looked for after it.
typedef bool EncodeSection(Encoder *encoder, const char *text, size_t size, TextPlace place);

static bool encode_sections(Encoder *encoder, bool normalized, const char *text, size_t size, TextPlace place,
                            EncodeSection *encode_section) {
    const AddedTokens *added = &encoder->tokenizer->added;
    size_t start = 0, at = 0;
    const AddedToken *token;
    while ((token = added_token_in_text(added, normalized, text, size, &at)) != NULL) {
        if (at > start && !encode_section(encoder, text + start, at - start, place)) return false;
        if (!token_list_append(encoder->ids, token->id, encoder->error)) return false;
        start = at += token->size;
        place = TEXT_AFTER_SPECIAL;
    }
    return start == size || encode_section(encoder, text + start, size - start, place);
}

static bool encode_plain(Encoder *encoder, const char *text, size_t size, TextPlace place) {
    return encoder->tokenizer->bpe ? encode_words(encoder, text, size) : encode_pieces(encoder, text, size, place);
}

static bool encode_normalised(Encoder *encoder, const char *text, size_t size, TextPlace place) {
    char *normal = NULL;
    size_t normal_size = size;
    if (encoder->tokenizer->compose && !utf8_compose(text, size, &normal, &normal_size, encoder->error)) return false;
    bool ok = encode_sections(encoder, true, normal ? normal : text, normal_size, place, encode_plain);
    free(normal);
    return ok;
}

bool tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t size, TextPlace place, TokenList *ids,
                      Error *error) {
    if (!utf8_valid(text, size)) return error_set(error, "text is not valid UTF-8");
    Encoder encoder = {.tokenizer = tokenizer, .ids = ids, .error = error};
    bool ok = encode_sections(&encoder, false, text, size, place, encode_normalised);
    bpe_scratch_free(&encoder.scratch);
    buffer_free(&encoder.prefixed);
    return ok;
}

// ---- back to text ----

static int hexadecimal(char digit) {
    return digit <= '9' ? digit - '0' : digit - 'A' + 10;
}

static bool decode_piece(const SentencePieceModel *model, int32_t id, Buffer *text, Error *error) {
    const char *bytes = piece_text(model, id);
    if (model->pieces[id].type == PIECE_BYTE) // <0x0A>, checked when the model was read
        return buffer_byte(text, (char)(hexadecimal(bytes[3]) << 4 | hexadecimal(bytes[4])), error);
    return piece_append_text(model, id, text, error);
}

bool tokenizer_decode(const Tokenizer *tokenizer, int32_t id, bool special, Buffer *text, Error *error) {
    const AddedToken *added = added_token_by_id(&tokenizer->added, id);
    if (added) return (added->special && !special) || buffer_append(text, added->text, added->size, error);
    const char *bytes;
    size_t size;
    if (tokenizer->bpe)
        return !bpe_token_bytes(tokenizer->bpe, id, &bytes, &size) || buffer_append(text, bytes, size, error);
    return id < 0 || id >= tokenizer->model.count || decode_piece(&tokenizer->model, id, text, error);
}
