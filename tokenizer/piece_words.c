// piece_words.c - see piece_words.h.
#include "tokenizer/piece_words.h"
#include <stdlib.h>
#include <string.h>

// Bytes of the space at `at`, 0 when another character is there.
static size_t space_at(const char *text, size_t size, size_t at) {
    if (text[at] == ' ') return 1;
    return size - at >= SPACE_MARK_SIZE && !memcmp(text + at, SPACE_MARK, SPACE_MARK_SIZE) ? SPACE_MARK_SIZE : 0;
}

// Bytes of the first word: spaces, then other characters.
static size_t word_size(const char *text, size_t size) {
    size_t at = 0, space;
    while (at < size && (space = space_at(text, size, at)) > 0) at += space;
    while (at < size && space_at(text, size, at) == 0) at++;
    return at;
}

bool piece_append_text(const SentencePieceModel *model, int64_t id, Buffer *text, Error *error) {
    const char *bytes = piece_text(model, id);
    size_t size = model->pieces[id].size;
    for (size_t i = 0; i < size;) {
        size_t space = space_at(bytes, size, i);
        if (!buffer_byte(text, space > 0 ? ' ' : bytes[i], error)) return false;
        i += space > 0 ? space : 1;
    }
    return true;
}

// Adds a piece when its own text gives just its id.
static bool add_if_whole(PieceWords *words, const SentencePieceModel *model, const SentencePiece *pieces, int64_t id,
                         TokenList *ids, Error *error) {
    size_t offset = words->pool.size;
    if (offset > UINT32_MAX) return true;
    if (!piece_append_text(model, id, &words->pool, error)) return false;
    size_t size = words->pool.size - offset;
    ids->count = 0;
    if (!sentencepiece_encode(pieces, words->pool.data + offset, size, ids, error)) return false;
    if (ids->count == 1 && ids->ids[0] == id && size <= UINT32_MAX)
        return word_table_add(&words->whole, &words->pool, (uint32_t)offset, (uint32_t)size, (int32_t)id, error);
    words->pool.size = offset;
    return true;
}

bool piece_words_build(PieceWords *words, const SentencePieceModel *model, const SentencePiece *pieces, Error *error) {
    bool has_space = false;
    words->separable = true;
    for (int64_t i = 0; i < model->count; i++) {
        if (model->pieces[i].type == PIECE_CONTROL || model->pieces[i].type == PIECE_UNKNOWN) continue;
        words->separable =
            words->separable && word_size(piece_text(model, i), model->pieces[i].size) == model->pieces[i].size;
        has_space = has_space || (model->pieces[i].size == SPACE_MARK_SIZE &&
                                  !memcmp(piece_text(model, i), SPACE_MARK, SPACE_MARK_SIZE));
    }
    words->separable = words->separable && has_space; // an unknown space would join unknown characters around it
    TokenList ids = {0};
    bool ok = true;
    for (int64_t i = 0; ok && words->separable && i < model->count; i++) {
        if (model->pieces[i].type == PIECE_NORMAL) ok = add_if_whole(words, model, pieces, i, &ids, error);
    }
    token_list_free(&ids);
    return ok;
}

void piece_words_free(PieceWords *words) {
    word_table_free(&words->whole);
    buffer_free(&words->pool);
}

bool piece_words_encode(const PieceWords *words, const SentencePiece *pieces, const char *text, size_t size,
                        TokenList *ids, Error *error) {
    while (size > 0) {
        size_t word = words->separable ? word_size(text, size) : size;
        int32_t id = word_table_find(&words->whole, &words->pool, text, word);
        bool ok = id >= 0 ? token_list_append(ids, id, error) : sentencepiece_encode(pieces, text, word, ids, error);
        if (!ok) return false;
        text += word;
        size -= word;
    }
    return true;
}
