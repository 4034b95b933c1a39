// tokenizer.c - opening a tokenizer, and what is known of its tokens; encode.c turns text to ids and back.
#include "base/files.h"
#include "tokenizer/tokenizer_parts.h"
#include <stdlib.h>
#include <string.h>

bool token_list_append(TokenList *list, int32_t id, Error *error) {
    if (list->count == list->capacity) {
        int64_t capacity = list->capacity ? 2 * list->capacity : 256;
        int32_t *ids = realloc(list->ids, (size_t)capacity * sizeof *ids);
        if (!ids) return error_memory(error, "token ids", (size_t)capacity * sizeof *ids);
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
    return true;
}

void token_list_free(TokenList *list) {
    free(list->ids);
    *list = (TokenList){0};
}

Tokenizer *tokenizer_new(const char *source, Error *error) {
    Tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer || !(tokenizer->source = strdup(source))) {
        free(tokenizer);
        error_memory(error, "tokenizer", sizeof *tokenizer);
        return NULL;
    }
    tokenizer->model = sentencepiece_model_new();
    tokenizer->bos = tokenizer->eos = tokenizer->unknown = tokenizer->padding = -1;
    return tokenizer;
}

void tokenizer_close(Tokenizer *tokenizer) {
    if (!tokenizer) return;
    bpe_free(tokenizer->bpe);
    sentencepiece_close(tokenizer->pieces);
    piece_words_free(&tokenizer->words);
    sentencepiece_model_free(&tokenizer->model);
    added_tokens_free(&tokenizer->added);
    free(tokenizer->chat_template);
    free(tokenizer->source);
    free(tokenizer);
}

bool tokenizer_read_model(Tokenizer *tokenizer, const char *bytes, size_t size, const char *where, Error *error) {
    if (!sentencepiece_model_parse(&tokenizer->model, bytes, size, where, error) ||
        !sentencepiece_model_check(&tokenizer->model, where, error))
        return false;
    tokenizer->prefix = tokenizer->model.add_dummy_prefix ? PREFIX_ALWAYS : PREFIX_NEVER;
    tokenizer->bos = tokenizer->model.bos;
    tokenizer->eos = tokenizer->model.eos;
    tokenizer->unknown = tokenizer->model.unknown;
    tokenizer->padding = tokenizer->model.padding;
    tokenizer->adds_bos = tokenizer->bos >= 0;
    return true;
}

// Control pieces and the unknown one are special tokens as any other.
static bool add_special_pieces(Tokenizer *tokenizer, Error *error) {
    const SentencePieceModel *model = &tokenizer->model;
    for (int64_t i = 0; i < model->count; i++) {
        if (model->pieces[i].type != PIECE_CONTROL && model->pieces[i].type != PIECE_UNKNOWN) continue;
        AddedToken token = {
            .text = (char *)piece_text(model, i), .size = model->pieces[i].size, .id = (int32_t)i, .special = true};
        if (!added_tokens_add(&tokenizer->added, &token, error)) return false;
    }
    return true;
}

static int32_t control_piece(const SentencePieceModel *model, int32_t id) {
    return id >= 0 && id < model->count && model->pieces[id].type == PIECE_CONTROL ? id : -1;
}

// The space before a text is put by encode.c, which knows what comes before it, and never by the library.
static bool open_pieces(Tokenizer *tokenizer, Error *error) {
    SentencePieceModel *model = &tokenizer->model;
    if (!add_special_pieces(tokenizer, error)) return false;
    model->bos = control_piece(model, tokenizer->bos);
    model->eos = control_piece(model, tokenizer->eos);
    model->padding = control_piece(model, tokenizer->padding);
    Buffer bytes = BUFFER_EMPTY;
    bool dummy_prefix = model->add_dummy_prefix;
    model->add_dummy_prefix = false;
    if (sentencepiece_model_write(model, &bytes, error))
        tokenizer->pieces = sentencepiece_open(bytes.data, bytes.size, error);
    model->add_dummy_prefix = dummy_prefix;
    buffer_free(&bytes);
    if (!tokenizer->pieces) return error_context(error, "%s", tokenizer->source);
    return piece_words_build(&tokenizer->words, model, tokenizer->pieces, error);
}

bool tokenizer_finish(Tokenizer *tokenizer, int64_t vocabulary, Error *error) {
    if (!tokenizer->bpe) {
        tokenizer->size = tokenizer->model.count;
        if (!open_pieces(tokenizer, error)) return false;
    }
    for (int32_t i = 0; i < tokenizer->added.count; i++) {
        if (tokenizer->added.tokens[i].id >= tokenizer->size) tokenizer->size = tokenizer->added.tokens[i].id + 1;
    }
    if (tokenizer->size <= vocabulary) return added_tokens_sort(&tokenizer->added, error);
    error_set(error, "%s: the tokenizer has %lld ids, the model's vocabulary only %lld rows", tokenizer->source,
              (long long)tokenizer->size, (long long)vocabulary);
    return error_hint(error, "use the tokenizer files that came with this model, or resize the model's embedding");
}

Tokenizer *tokenizer_open(const char *path, int64_t vocabulary, Error *error) {
    Tokenizer *tokenizer = tokenizer_new(path, error);
    if (!tokenizer) return NULL;
    bool ok = path_is_directory(path) ? tokenizer_read_directory(tokenizer, path, error)
                                      : tokenizer_read_gguf(tokenizer, path, error);
    if (ok && tokenizer_finish(tokenizer, vocabulary, error)) return tokenizer;
    error_hint_if_none(error, "the tokenizer's files are damaged, or of a kind that lisa does not read; download them "
                              "again or take another model");
    tokenizer_close(tokenizer);
    return NULL;
}

// ---- what is known of the tokens ----

int32_t tokenizer_special(const Tokenizer *tokenizer, const char *text) {
    const AddedToken *token = added_token_by_text(&tokenizer->added, text, strlen(text));
    return token ? token->id : -1;
}

int64_t tokenizer_size(const Tokenizer *tokenizer) {
    return tokenizer->size;
}

int32_t tokenizer_bos(const Tokenizer *tokenizer) {
    return tokenizer->bos;
}

int32_t tokenizer_eos(const Tokenizer *tokenizer) {
    return tokenizer->eos;
}

bool tokenizer_adds_bos(const Tokenizer *tokenizer) {
    return tokenizer->adds_bos;
}

const char *tokenizer_kind(const Tokenizer *tokenizer) {
    static const char *const bpe[] = {"BPE (gpt-2)", "BPE (smollm)", "BPE (llama-bpe)", "BPE (qwen2)"};
    return tokenizer->bpe ? bpe[tokenizer->pretokenizer] : "SentencePiece";
}

const char *tokenizer_chat_template(const Tokenizer *tokenizer) {
    return tokenizer->chat_template;
}
