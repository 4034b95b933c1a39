// write_json.c - building tokenizer.json for a tokenizer that came from a GGUF file.
#include "tokenizer/bpe_tables.h"
#include "tokenizer/tokenizer_json.h"
#include <string.h>

static json_t *array_of(json_t *first, json_t *second) {
    json_t *array = json_array();
    json_array_append_new(array, first);
    if (second) json_array_append_new(array, second);
    return array;
}

static json_t *sequence(const char *parts, json_t *first, json_t *second) {
    return json_pack("{ssso}", "type", "Sequence", parts, array_of(first, second));
}

static bool no_text(int64_t id, Error *error) {
    return error_set(error, "token %lld is no UTF-8 text and cannot be written to tokenizer.json", (long long)id);
}

// ---- what stands around the model ----

static json_t *added_tokens(const Tokenizer *tokenizer, Error *error) {
    json_t *array = json_array();
    for (int32_t i = 0; i < tokenizer->added.count; i++) {
        const AddedToken *token = tokenizer->added.by_id[i];
        json_t *object =
            json_pack("{si ss sb sb sb sb sb}", "id", (int)token->id, "content", token->text, "single_word", 0,
                      "lstrip", 0, "rstrip", 0, "normalized", (int)token->normalized, "special", (int)token->special);
        if (json_array_append_new(array, object) == 0) continue;
        json_decref(array);
        no_text(token->id, error);
        return NULL;
    }
    return array;
}

static json_t *byte_level(bool regex) {
    return json_pack("{ss sb sb sb}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex",
                     (int)regex);
}

static json_t *split(const char *regex) {
    return json_pack("{ss s{ss} ss sb}", "type", "Split", "pattern", "Regex", regex, "behavior", "Isolated", "invert",
                     0);
}

static json_t *pretokenizer(Pretokenizer kind) {
    switch (kind) {
    case PRETOKENIZE_GPT2:
        return byte_level(true);
    case PRETOKENIZE_SMOLLM:
        return sequence("pretokenizers", json_pack("{ss sb}", "type", "Digits", "individual_digits", 1),
                        byte_level(true));
    case PRETOKENIZE_LLAMA3:
        return sequence("pretokenizers", split(PRETOKENIZE_LLAMA3_REGEX), byte_level(false));
    case PRETOKENIZE_QWEN2:
        return sequence("pretokenizers", split(PRETOKENIZE_QWEN2_REGEX), byte_level(false));
    }
    return json_null();
}

// Puts BOS before a text.
static json_t *post_processor(const Tokenizer *tokenizer) {
    const AddedToken *bos = added_token_by_id(&tokenizer->added, tokenizer->bos);
    if (!tokenizer->adds_bos || !bos) return json_null();
    json_t *special = json_pack("{s{ss si}}", "SpecialToken", "id", bos->text, "type_id", 0);
    json_t *first = json_pack("{s{ss si}}", "Sequence", "id", "A", "type_id", 0);
    json_t *second = json_pack("{s{ss si}}", "Sequence", "id", "B", "type_id", 0);
    json_t *single = array_of(special, first), *pair = json_copy(single);
    json_array_append(pair, special);
    json_array_append_new(pair, second);
    json_t *tokens = json_object();
    json_object_set_new(tokens, bos->text,
                        json_pack("{ss s[i] s[s]}", "id", bos->text, "ids", (int)bos->id, "tokens", bos->text));
    return json_pack("{ss so so so}", "type", "TemplateProcessing", "single", single, "pair", pair, "special_tokens",
                     tokens);
}

static json_t *replace(const char *from, const char *to) {
    return json_pack("{ss s{ss} ss}", "type", "Replace", "pattern", "String", from, "content", to);
}

static json_t *space_normalizer(SpacePrefix prefix) {
    if (prefix == PREFIX_NEVER) return replace(" ", SPACE_MARK);
    return sequence("normalizers", json_pack("{ss ss}", "type", "Prepend", "prepend", SPACE_MARK),
                    replace(" ", SPACE_MARK));
}

static json_t *space_decoder(SpacePrefix prefix) {
    json_t *decoder = sequence("decoders", replace(SPACE_MARK, " "), json_pack("{ss}", "type", "ByteFallback"));
    json_t *parts = json_object_get(decoder, "decoders");
    json_array_append_new(parts, json_pack("{ss}", "type", "Fuse"));
    if (prefix != PREFIX_NEVER)
        json_array_append_new(parts,
                              json_pack("{ss ss si si}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    return decoder;
}

// ---- byte-level BPE ----

static bool bpe_vocabulary(const Bpe *bpe, json_t *vocabulary, Error *error) {
    Buffer text = BUFFER_EMPTY;
    bool ok = true;
    for (int64_t id = 0; ok && id < bpe->rows; id++) {
        buffer_clear(&text);
        ok = bpe_append_text(bpe, (int32_t)id, &text, error);
        if (ok && json_object_set_new(vocabulary, buffer_string(&text), json_integer(id)) != 0) ok = no_text(id, error);
    }
    buffer_free(&text);
    return ok;
}

static bool bpe_merges(const Bpe *bpe, json_t *merges, Error *error) {
    BpeMerge *sorted = bpe_sorted_merges(bpe, error);
    if (!sorted) return false;
    Buffer text = BUFFER_EMPTY;
    bool ok = true;
    for (size_t i = 0; ok && i < bpe->merges.count; i++) {
        buffer_clear(&text);
        ok = bpe_append_merge(bpe, &sorted[i], &text, error);
        if (ok) json_array_append_new(merges, json_string(buffer_string(&text)));
    }
    buffer_free(&text);
    free(sorted);
    return ok;
}

// ---- SentencePiece ----

// One way to put a piece together from two others.
typedef struct Join {
    int64_t left, right; // pieces
    size_t left_characters, right_characters;
    float score; // of the whole
} Join;

// The order in which transformers lists them: score, then length of the left and of the right part, all descending.
static int by_score(const void *a, const void *b) {
    const Join *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    if (x->left_characters != y->left_characters) return x->left_characters < y->left_characters ? 1 : -1;
    if (x->right_characters != y->right_characters) return x->right_characters < y->right_characters ? 1 : -1;
    return x->left != y->left ? (x->left > y->left) - (x->left < y->left)
                              : (x->right > y->right) - (x->right < y->right);
}

typedef struct Joins {
    Join *items;
    size_t count, capacity;
} Joins;

static size_t characters(const char *text, size_t size) {
    size_t count = 0;
    for (size_t i = 0; i < size; i++) count += (text[i] & 0xc0) != 0x80;
    return count;
}

static bool find_joins(const SentencePieceModel *model, const WordTable *normal, int64_t id, Joins *joins,
                       Error *error) {
    const char *text = piece_text(model, id);
    size_t size = model->pieces[id].size;
    for (size_t i = 1; i < size; i++) {
        if ((text[i] & 0xc0) == 0x80) continue; // inside a character
        int32_t left = word_table_find(normal, &model->pool, text, i);
        int32_t right = left < 0 ? -1 : word_table_find(normal, &model->pool, text + i, size - i);
        if (right < 0) continue;
        if (joins->count == joins->capacity) {
            size_t capacity = joins->capacity ? 2 * joins->capacity : 4096;
            Join *items = realloc(joins->items, capacity * sizeof *items);
            if (!items) return error_memory(error, "merges", capacity * sizeof *items);
            joins->items = items;
            joins->capacity = capacity;
        }
        joins->items[joins->count++] =
            (Join){left, right, characters(text, i), characters(text + i, size - i), model->pieces[id].score};
    }
    return true;
}

static bool append_joins(const SentencePieceModel *model, const Joins *joins, json_t *merges, Error *error) {
    Buffer text = BUFFER_EMPTY;
    bool ok = true;
    for (size_t i = 0; ok && i < joins->count; i++) {
        int64_t left = joins->items[i].left, right = joins->items[i].right;
        buffer_clear(&text);
        ok = buffer_append(&text, piece_text(model, left), model->pieces[left].size, error) &&
             buffer_byte(&text, ' ', error) &&
             buffer_append(&text, piece_text(model, right), model->pieces[right].size, error);
        if (ok) json_array_append_new(merges, json_string(buffer_string(&text)));
    }
    buffer_free(&text);
    return ok;
}

static bool piece_vocabulary(const SentencePieceModel *model, json_t *vocabulary, json_t *merges, Error *error) {
    WordTable normal = {0};
    Joins joins = {0};
    Buffer text = BUFFER_EMPTY;
    bool ok = model->pool.size <= UINT32_MAX || error_set(error, "the texts of the pieces exceed 4 GiB");
    for (int64_t id = 0; ok && id < model->count; id++) {
        const Piece *piece = &model->pieces[id];
        buffer_clear(&text);
        ok = buffer_append(&text, piece_text(model, id), piece->size, error);
        if (ok && json_object_set_new(vocabulary, text.data, json_integer(id)) != 0) ok = no_text(id, error);
        if (ok && piece->type == PIECE_NORMAL)
            ok = word_table_add(&normal, &model->pool, (uint32_t)piece->offset, (uint32_t)piece->size, (int32_t)id,
                                error);
    }
    for (int64_t id = 0; ok && id < model->count; id++) {
        if (model->pieces[id].type == PIECE_NORMAL) ok = find_joins(model, &normal, id, &joins, error);
    }
    if (ok && joins.count > 0) qsort(joins.items, joins.count, sizeof *joins.items, by_score);
    ok = ok && append_joins(model, &joins, merges, error);
    buffer_free(&text);
    word_table_free(&normal);
    free(joins.items);
    return ok;
}

// ---- the whole ----

json_t *tokenizer_to_json(const Tokenizer *tokenizer, Error *error) {
    const Bpe *bpe = tokenizer->bpe;
    json_t *added = added_tokens(tokenizer, error);
    if (!added) return NULL;
    json_t *vocabulary = json_object(), *merges = json_array();
    bool ok = bpe ? bpe_vocabulary(bpe, vocabulary, error) && bpe_merges(bpe, merges, error)
                  : piece_vocabulary(&tokenizer->model, vocabulary, merges, error);
    if (!ok) {
        json_decref(added);
        json_decref(vocabulary);
        json_decref(merges);
        return NULL;
    }
    json_t *unknown = bpe ? json_null()
                          : json_stringn(piece_text(&tokenizer->model, tokenizer->model.unknown),
                                         tokenizer->model.pieces[tokenizer->model.unknown].size);
    json_t *model = json_pack("{ss sn so sn sn sb sb sb so so}", "type", "BPE", "dropout", "unk_token", unknown,
                              "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", (int)!bpe, "byte_fallback",
                              (int)(!bpe && tokenizer->model.byte_fallback), "ignore_merges",
                              (int)(bpe && bpe->options.ignore_merges), "vocab", vocabulary, "merges", merges);
    json_t *normalizer = !bpe                 ? space_normalizer(tokenizer->prefix)
                         : tokenizer->compose ? json_pack("{ss}", "type", "NFC")
                                              : json_null();
    json_t *root =
        json_pack("{ss sn sn so so so so so so}", "version", "1.0", "truncation", "padding", "added_tokens", added,
                  "normalizer", normalizer, "pre_tokenizer", bpe ? pretokenizer(tokenizer->pretokenizer) : json_null(),
                  "post_processor", post_processor(tokenizer), "decoder",
                  bpe ? byte_level(true) : space_decoder(tokenizer->prefix), "model", model);
    if (!root) error_memory(error, "tokenizer.json", 0);
    return root;
}
