// write_gguf.c - a tokenizer as GGUF metadata, such that llama.cpp gives the ids that were trained.
//
// Spec: github.com/ggml-org/ggml/blob/master/docs/gguf.md, tokenizer section; numbers for what a vocabulary does not
// say (texts, scores and types of missing ids) are those of llama.cpp's convert_hf_to_gguf.py.
#include "tokenizer/write_gguf.h"
#include "base/log.h"
#include "tokenizer/bpe_tables.h"
#include "tokenizer/template_table.h"
#include "tokenizer/tokenizer_parts.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SCORE_ADDED   (-1000.0f)
#define SCORE_MISSING (-10000.0f)

// The three tables of a vocabulary; token i's text is pool[starts[i] .. starts[i + 1]).
typedef struct TokenRows {
    Buffer pool;
    size_t *starts; // [count + 1]
    float *scores;  // [count]
    int32_t *types; // [count] PieceType numbers
    int64_t count;
} TokenRows;

static void rows_free(TokenRows *rows) {
    buffer_free(&rows->pool);
    free(rows->starts);
    free(rows->scores);
    free(rows->types);
}

// Ends the row of a token whose text stands in the pool.
static bool add_row(TokenRows *rows, int64_t id, float score, PieceType type, Error *error) {
    rows->scores[id] = score;
    rows->types[id] = type;
    rows->starts[id + 1] = rows->pool.size;
    return rows->pool.size <= UINT32_MAX || error_set(error, "the texts of the tokens exceed 4 GiB");
}

// ---- texts, scores, types ----

// An added token's text: llama.cpp looks for those that are not special in text whose spaces are spaces.
static bool append_added(TokenRows *rows, const AddedToken *token, bool pieces, Error *error) {
    if (token->special || !pieces) return buffer_append(&rows->pool, token->text, token->size, error);
    for (const char *at = token->text, *end = at + token->size; at < end;) {
        bool mark = (size_t)(end - at) >= SPACE_MARK_SIZE && !memcmp(at, SPACE_MARK, SPACE_MARK_SIZE);
        if (!buffer_byte(&rows->pool, mark ? ' ' : *at, error)) return false;
        at += mark ? SPACE_MARK_SIZE : 1;
    }
    return true;
}

static bool is_piece_itself(const SentencePieceModel *model, const AddedToken *token) {
    if (token->id >= model->count) return false;
    const Piece *piece = &model->pieces[token->id];
    return piece->type != PIECE_NORMAL && piece->size == token->size &&
           !memcmp(piece_text(model, token->id), token->text, token->size);
}

static bool add_token(TokenRows *rows, const Tokenizer *tokenizer, int64_t id, Error *error) {
    const SentencePieceModel *model = &tokenizer->model;
    bool pieces = tokenizer->bpe == NULL;
    const AddedToken *added = added_token_by_id(&tokenizer->added, (int32_t)id);
    if (added && !(pieces && is_piece_itself(model, added)))
        return append_added(rows, added, pieces, error) &&
               add_row(rows, id, SCORE_ADDED, added->special ? PIECE_CONTROL : PIECE_USER_DEFINED, error);
    if (pieces && id < model->count)
        return buffer_append(&rows->pool, piece_text(model, id), model->pieces[id].size, error) &&
               add_row(rows, id, model->pieces[id].score, model->pieces[id].type, error);
    if (!pieces && !bpe_append_text(tokenizer->bpe, (int32_t)id, &rows->pool, error)) return false;
    if (rows->pool.size > rows->starts[id]) return add_row(rows, id, 0, PIECE_NORMAL, error);
    return buffer_format(&rows->pool, error, "[PAD%" PRId64 "]", id) &&
           add_row(rows, id, SCORE_MISSING, PIECE_UNUSED, error);
}

static bool rows_fill(TokenRows *rows, const Tokenizer *tokenizer, int64_t vocabulary, Error *error) {
    size_t count = (size_t)vocabulary;
    *rows = (TokenRows){.starts = calloc(count + 1, sizeof *rows->starts),
                        .scores = calloc(count, sizeof *rows->scores),
                        .types = calloc(count, sizeof *rows->types),
                        .count = vocabulary};
    if (!rows->starts || !rows->scores || !rows->types)
        return error_memory(error, "the vocabulary", count * (sizeof *rows->starts + 8));
    for (int64_t id = 0; id < vocabulary; id++)
        if (!add_token(rows, tokenizer, id, error)) return false;
    return true;
}

// llama.cpp ends the process on a vocabulary in which two tokens have one text.
static bool check_distinct(const TokenRows *rows, Error *error) {
    WordTable table = {0};
    bool ok = true;
    for (int64_t id = 0; ok && id < rows->count; id++) {
        size_t start = rows->starts[id], size = rows->starts[id + 1] - start;
        int32_t other = word_table_find(&table, &rows->pool, rows->pool.data + start, size);
        if (other < 0) {
            ok = word_table_add(&table, &rows->pool, (uint32_t)start, (uint32_t)size, (int32_t)id, error);
            continue;
        }
        error_set(error, "tokens %d and %" PRId64 " have the same text \"%.*s\", which llama.cpp does not load",
                  (int)other, id, (int)(size < 64 ? size : 64), rows->pool.data + start);
        ok = error_hint(error, "give one of them another text in tokenizer.json and tokenizer_config.json");
    }
    word_table_free(&table);
    return ok;
}

static bool put_rows(GgufMetadata *metadata, const TokenRows *rows, bool scores, Error *error) {
    size_t count = (size_t)rows->count;
    if (!gguf_put_array(metadata, "tokenizer.ggml.tokens", GGUF_STRING, count, error)) return false;
    for (size_t i = 0; i < count; i++)
        if (!gguf_put_element(metadata, rows->pool.data + rows->starts[i], rows->starts[i + 1] - rows->starts[i],
                              error))
            return false;
    if (scores && !(gguf_put_array(metadata, "tokenizer.ggml.scores", GGUF_FLOAT32, count, error) &&
                    buffer_append(&metadata->bytes, rows->scores, count * sizeof *rows->scores, error)))
        return false;
    return gguf_put_array(metadata, "tokenizer.ggml.token_type", GGUF_INT32, count, error) &&
           buffer_append(&metadata->bytes, rows->types, count * sizeof *rows->types, error);
}

static bool put_merges(GgufMetadata *metadata, const Bpe *bpe, Error *error) {
    BpeMerge *sorted = bpe_sorted_merges(bpe, error);
    Buffer text = BUFFER_EMPTY;
    bool ok = sorted && gguf_put_array(metadata, "tokenizer.ggml.merges", GGUF_STRING, bpe->merges.count, error);
    for (size_t i = 0; ok && i < bpe->merges.count; i++) {
        buffer_clear(&text);
        ok = bpe_append_merge(bpe, &sorted[i], &text, error) &&
             gguf_put_element(metadata, buffer_string(&text), text.size, error);
    }
    buffer_free(&text);
    free(sorted);
    return ok;
}

static bool put_vocabulary(GgufMetadata *metadata, const Tokenizer *tokenizer, int64_t vocabulary, Error *error) {
    TokenRows rows = {0};
    bool ok = rows_fill(&rows, tokenizer, vocabulary, error) && check_distinct(&rows, error) &&
              put_rows(metadata, &rows, tokenizer->bpe == NULL, error) &&
              (!tokenizer->bpe || put_merges(metadata, tokenizer->bpe, error));
    rows_free(&rows);
    return ok;
}

// ---- what stands beside the vocabulary ----

static bool put_kind(GgufMetadata *metadata, const Tokenizer *tokenizer, Error *error) {
    static const char *const pre[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
    if (!tokenizer->bpe && tokenizer->model.type != MODEL_BPE) {
        error_set(error,
                  "%s: the tokenizer is a SentencePiece unigram model, for which a GGUF file of this "
                  "architecture has no place",
                  tokenizer->source);
        return error_hint(error, "use --export_format hf; lisa and transformers read that");
    }
    bool llama3 = tokenizer->pretokenizer == PRETOKENIZE_LLAMA3;
    if (tokenizer->bpe && tokenizer->bpe->options.ignore_merges != llama3)
        log_warning("llama.cpp %s whole words with these merges, the tokenizer does %s: ids may differ",
                    llama3 ? "looks up" : "does not look up", llama3 ? "not" : "it");
    return gguf_put_string(metadata, "tokenizer.ggml.model", tokenizer->bpe ? "gpt2" : "llama", error) &&
           gguf_put_string(metadata, "tokenizer.ggml.pre", tokenizer->bpe ? pre[tokenizer->pretokenizer] : "default",
                           error);
}

bool tokenizer_chat_adds_bos(const Tokenizer *tokenizer, const ChatTemplate *chat) {
    if (!chat || chat->bos == BOS_IF_ADDED) return tokenizer->adds_bos;
    return chat->bos == BOS_FIRST && tokenizer->bos >= 0;
}

// Whether text gets a space before it. llama.cpp knows "always" and "never"; where only the first text has one, the
// texts of a chat decide: all but the first stand behind a special token.
static bool adds_space(const Tokenizer *tokenizer, const ChatTemplate *chat) {
    if (tokenizer->bpe || tokenizer->prefix == PREFIX_NEVER) return false;
    if (tokenizer->prefix != PREFIX_FIRST_METASPACE || !chat) return true;
    if (!tokenizer_chat_adds_bos(tokenizer, chat))
        log_warning("llama.cpp cannot put a space before the first text alone, as this tokenizer does: the first token "
                    "of a chat will differ from the trained one");
    return false;
}

static bool put_id(GgufMetadata *metadata, const char *key, int32_t id, Error *error) {
    return id < 0 || gguf_put_integer(metadata, key, (uint32_t)id, error);
}

bool tokenizer_put_ends(const TokenizerFacts *facts, int32_t eos, GgufMetadata *metadata, Error *error) {
    int32_t left[3] = {-1, -1, -1}; // eos, eot, eom
    int count = 0;
    left[0] = eos >= 0 ? eos : facts->end_count ? facts->ends[0] : -1;
    if (facts->end_count && (facts->chat_template || facts->ends[0] != left[0])) left[1] = facts->ends[0];
    for (int i = 1; i < facts->end_count; i++) {
        if (facts->ends[i] == left[0] || facts->ends[i] == left[1]) continue;
        if (count++ == 0)
            left[2] = facts->ends[i];
        else
            log_warning("a GGUF file has room for three end tokens: %d is left out", (int)facts->ends[i]);
    }
    return put_id(metadata, "tokenizer.ggml.eos_token_id", left[0], error) &&
           put_id(metadata, "tokenizer.ggml.eot_token_id", left[1], error) &&
           put_id(metadata, "tokenizer.ggml.eom_token_id", left[2], error);
}

bool tokenizer_put_metadata(const Tokenizer *tokenizer, const TokenizerFacts *facts, int64_t vocabulary,
                            GgufMetadata *metadata, Error *error) {
    bool ok = put_kind(metadata, tokenizer, error) && put_vocabulary(metadata, tokenizer, vocabulary, error) &&
              put_id(metadata, "tokenizer.ggml.bos_token_id", tokenizer->bos, error) &&
              tokenizer_put_ends(facts, tokenizer->eos, metadata, error) &&
              put_id(metadata, "tokenizer.ggml.unknown_token_id", tokenizer->unknown, error) &&
              put_id(metadata, "tokenizer.ggml.padding_token_id", tokenizer->padding, error) &&
              gguf_put_boolean(metadata, "tokenizer.ggml.add_bos_token",
                               tokenizer_chat_adds_bos(tokenizer, facts->chat), error) &&
              gguf_put_boolean(metadata, "tokenizer.ggml.add_eos_token", false, error) &&
              gguf_put_boolean(metadata, "tokenizer.ggml.add_space_prefix", adds_space(tokenizer, facts->chat), error);
    if (!ok || !facts->chat_template) return ok;
    return gguf_put_string(metadata, "tokenizer.chat_template", facts->chat_template, error);
}
