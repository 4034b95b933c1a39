// tokenizer_gguf.c - the tokenizer in a GGUF file's metadata: kind "llama" is SentencePiece, kind "gpt2" byte-level
// BPE.
//
// Spec: github.com/ggml-org/ggml/blob/master/docs/gguf.md, tokenizer section; what is not said in the file is taken as
// llama.cpp takes it.
#include "base/gguf.h"
#include "tokenizer/tokenizer_json.h"
#include <string.h>

typedef struct GgufTokens {
    const GgufValue *texts;  // [count] strings
    const GgufValue *types;  // [count] PieceType numbers, NULL when the file has none
    const GgufValue *scores; // [count], NULL when the file has none
    const GgufValue *merges; // strings, NULL when the file has none
} GgufTokens;

static bool get_tokens(const GgufFile *file, GgufTokens *tokens, Error *error) {
    if (!gguf_get_array(file, "tokenizer.ggml.tokens", true, &tokens->texts, error) ||
        !gguf_get_array(file, "tokenizer.ggml.token_type", false, &tokens->types, error) ||
        !gguf_get_array(file, "tokenizer.ggml.scores", false, &tokens->scores, error) ||
        !gguf_get_array(file, "tokenizer.ggml.merges", true, &tokens->merges, error))
        return false;
    if (!tokens->texts || tokens->texts->count == 0) {
        error_set(error, "%s has no tokenizer: tokenizer.ggml.tokens is missing", file->where);
        return error_hint(error, "use a GGUF file that holds a whole model, vocabulary included");
    }
    uint64_t count = tokens->texts->count;
    if (count > TOKENIZER_IDS_MAX || (tokens->types && tokens->types->count != count) ||
        (tokens->scores && tokens->scores->count != count))
        return error_set(error, "%s: tokenizer.ggml.tokens has %llu entries, token_type %llu, scores %llu", file->where,
                         (unsigned long long)count, (unsigned long long)(tokens->types ? tokens->types->count : 0),
                         (unsigned long long)(tokens->scores ? tokens->scores->count : 0));
    return true;
}

static int64_t type_of(const GgufTokens *tokens, uint64_t id) {
    return tokens->types ? gguf_array_integer(tokens->types, id) : PIECE_NORMAL;
}

static bool add_token(Tokenizer *tokenizer, uint64_t id, GgufString text, bool special, Error *error) {
    AddedToken token = {.text = (char *)text.data, .size = text.size, .id = (int32_t)id, .special = special};
    return added_tokens_add(&tokenizer->added, &token, error);
}

static bool read_pieces(Tokenizer *tokenizer, const GgufFile *file, const GgufTokens *tokens, Error *error) {
    size_t position = 0;
    bool space = true;
    if (!gguf_get_boolean(file, "tokenizer.ggml.add_space_prefix", &space, error)) return false;
    if (!tokens->scores || !tokens->types)
        return error_set(error, "%s: tokenizer.ggml.scores or token_type is missing", file->where);
    for (uint64_t i = 0; i < tokens->texts->count; i++) {
        GgufString text = gguf_array_next(tokens->texts, &position);
        float score = (float)gguf_array_number(tokens->scores, i);
        int64_t type = type_of(tokens, i);
        if (type == PIECE_USER_DEFINED && !add_token(tokenizer, i, text, false, error)) return false;
        if (!sentencepiece_model_add(&tokenizer->model, text.data, text.size, score, type, error))
            return error_context(error, "%s", file->where);
    }
    tokenizer->model.add_dummy_prefix = space;
    tokenizer->prefix = space ? PREFIX_ALWAYS : PREFIX_NEVER;
    tokenizer->adds_bos = true;
    if (!sentencepiece_model_check(&tokenizer->model, file->where, error)) return false;
    tokenizer->unknown = tokenizer->model.unknown;
    return true;
}

static bool read_bpe(Tokenizer *tokenizer, const GgufFile *file, const GgufTokens *tokens, Error *error) {
    GgufString pre = {"default", strlen("default")};
    size_t position = 0;
    if (!gguf_get_string(file, "tokenizer.ggml.pre", &pre, error) ||
        !pretokenizer_from_gguf(pre.data, pre.size, &tokenizer->pretokenizer, error))
        return error_context(error, "%s", file->where);
    if (!tokens->merges) return error_set(error, "%s: tokenizer.ggml.merges is missing", file->where);
    tokenizer->bpe = bpe_create((int64_t)tokens->texts->count, error);
    if (!tokenizer->bpe) return false;
    for (uint64_t i = 0; i < tokens->texts->count; i++) {
        GgufString text = gguf_array_next(tokens->texts, &position);
        int64_t type = type_of(tokens, i);
        bool added = type == PIECE_CONTROL || type == PIECE_USER_DEFINED || type == PIECE_UNKNOWN;
        if ((added && !add_token(tokenizer, i, text, type != PIECE_USER_DEFINED, error)) ||
            !bpe_add_token(tokenizer->bpe, (int64_t)i, text.data, text.size, type == PIECE_NORMAL, error))
            return error_context(error, "%s", file->where);
    }
    position = 0;
    for (uint64_t i = 0; i < tokens->merges->count; i++) {
        GgufString merge = gguf_array_next(tokens->merges, &position);
        if (!bpe_add_merge(tokenizer->bpe, merge.data, merge.size, error))
            return error_context(error, "%s", file->where);
    }
    // Llama 3's tokenizer.json has ignore_merges and Qwen2's has NFC; GGUF leaves both to the pre-tokeniser's name.
    tokenizer->compose = tokenizer->pretokenizer == PRETOKENIZE_QWEN2;
    tokenizer->adds_bos = tokenizer->pretokenizer == PRETOKENIZE_LLAMA3;
    tokenizer->size = (int64_t)tokens->texts->count;
    BpeOptions options = {.ignore_merges = tokenizer->pretokenizer == PRETOKENIZE_LLAMA3, .unknown = -1};
    return bpe_finish(tokenizer->bpe, &options, error);
}

// A special token's id: -1, or one of the vocabulary's.
static bool read_special(const GgufFile *file, const char *key, uint64_t count, int32_t *id, Error *error) {
    int64_t value = *id;
    if (!gguf_get_integer(file, key, &value, error)) return false;
    if (value < -1 || value >= (int64_t)count)
        return error_set(error, "%s: %s is %lld, the vocabulary has %llu tokens", file->where, key, (long long)value,
                         (unsigned long long)count);
    *id = (int32_t)value;
    return true;
}

static bool read_settings(Tokenizer *tokenizer, const GgufFile *file, uint64_t count, Error *error) {
    GgufString chat = {0};
    if (!read_special(file, "tokenizer.ggml.bos_token_id", count, &tokenizer->bos, error) ||
        !read_special(file, "tokenizer.ggml.eos_token_id", count, &tokenizer->eos, error) ||
        !read_special(file, "tokenizer.ggml.unknown_token_id", count, &tokenizer->unknown, error) ||
        !read_special(file, "tokenizer.ggml.padding_token_id", count, &tokenizer->padding, error) ||
        !gguf_get_boolean(file, "tokenizer.ggml.add_bos_token", &tokenizer->adds_bos, error) ||
        !gguf_get_string(file, "tokenizer.chat_template", &chat, error))
        return false;
    if (tokenizer->bos < 0) tokenizer->adds_bos = false;
    if (!chat.data) return true;
    tokenizer->chat_template = strndup(chat.data, chat.size);
    return tokenizer->chat_template || error_memory(error, "chat template", chat.size);
}

bool tokenizer_read_metadata(Tokenizer *tokenizer, const GgufFile *file, Error *error) {
    tokenizer->from_gguf = true;
    GgufTokens tokens = {0};
    GgufString kind = {0};
    if (!gguf_get_string(file, "tokenizer.ggml.model", &kind, error) || !get_tokens(file, &tokens, error)) return false;
    bool ok;
    if (kind.data && gguf_string_equals(kind, "llama")) {
        ok = read_pieces(tokenizer, file, &tokens, error);
    } else if (kind.data && gguf_string_equals(kind, "gpt2")) {
        ok = read_bpe(tokenizer, file, &tokens, error);
    } else {
        error_set(error, "%s: tokenizer.ggml.model is \"%.*s\", which is not supported", file->where,
                  (int)(kind.size < 64 ? kind.size : 64), kind.data ? kind.data : "");
        return error_hint(error, "supported are llama (SentencePiece) and gpt2 (byte-level BPE)");
    }
    return ok && read_settings(tokenizer, file, tokens.texts->count, error);
}

bool tokenizer_read_gguf(Tokenizer *tokenizer, const char *path, Error *error) {
    GgufFile file = {0};
    if (!gguf_open(&file, path, error)) return false;
    bool ok = tokenizer_read_metadata(tokenizer, &file, error);
    gguf_close(&file);
    return ok;
}
