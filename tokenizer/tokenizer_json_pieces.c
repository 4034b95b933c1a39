// tokenizer_json_pieces.c - a tokenizer.json that was converted from SentencePiece, turned back into its pieces.
//
// The conversion lists as merges every way to put a piece together from two others, in the order of the pieces' scores.
// SentencePiece itself merges by score, so scores that fall from merge to merge give the same ids, provided the list is
// complete and the merges of one piece stand together; if not, no SentencePiece model equals it and it is refused.
#include "tokenizer/tokenizer_json.h"
#include <stdio.h>
#include <string.h>

static bool is_text(const json_t *value, const char *text) {
    return json_is_string(value) && !strcmp(json_string_value(value), text);
}

static bool is_replace(const json_t *value) {
    return json_type_is(value, "Replace") && is_text(json_object_get(value, "content"), SPACE_MARK) &&
           is_text(json_object_get(json_object_get(value, "pattern"), "String"), " ");
}

static bool metaspace_prefix(const json_t *value, SpacePrefix *prefix) {
    const json_t *scheme = json_object_get(value, "prepend_scheme"), *split = json_object_get(value, "split");
    if (!is_text(json_object_get(value, "replacement"), SPACE_MARK) || !split || json_is_true(split)) return false;
    if (!scheme || is_text(scheme, "always"))
        *prefix = json_is_false(json_object_get(value, "add_prefix_space")) ? PREFIX_NEVER : PREFIX_METASPACE;
    else if (is_text(scheme, "first"))
        *prefix = PREFIX_FIRST_METASPACE;
    else if (is_text(scheme, "never"))
        *prefix = PREFIX_NEVER;
    else
        return false;
    return true;
}

bool json_space_prefix(const json_t *root, SpacePrefix *prefix) {
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *pretokenizer = json_object_get(root, "pre_tokenizer");
    const json_t *list = json_object_get(normalizer, "normalizers");
    bool no_normalizer = !normalizer || json_is_null(normalizer);
    if (json_type_is(pretokenizer, "Metaspace")) return no_normalizer && metaspace_prefix(pretokenizer, prefix);
    if (pretokenizer && !json_is_null(pretokenizer)) return false;
    if (is_replace(normalizer) || (json_array_size(list) == 1 && is_replace(json_array_get(list, 0)))) {
        *prefix = PREFIX_NEVER;
        return true;
    }
    const json_t *first = json_array_get(list, 0);
    *prefix = PREFIX_ALWAYS;
    return json_array_size(list) == 2 && json_type_is(first, "Prepend") &&
           is_text(json_object_get(first, "prepend"), SPACE_MARK) && is_replace(json_array_get(list, 1));
}

// One row for each id while the pieces are put together.
typedef struct Row {
    const char *text; // NULL: no token has this id
    size_t size;
    double score;
    PieceType type;
    int64_t listed; // merges that give this piece
    size_t last;    // the last of them
} Row;

static PieceType type_of(const Tokenizer *tokenizer, const char *text, int64_t id, int64_t unknown) {
    if (id == unknown) return PIECE_UNKNOWN;
    const AddedToken *added = NULL;
    for (int32_t i = 0; i < tokenizer->added.count; i++) {
        if (tokenizer->added.tokens[i].id == id) added = &tokenizer->added.tokens[i];
    }
    if (added) return added->special ? PIECE_CONTROL : PIECE_USER_DEFINED;
    unsigned byte;
    int end = 0;
    if (strlen(text) == 6 && sscanf(text, "<0x%2X>%n", &byte, &end) == 1 && end == 6) return PIECE_BYTE;
    return PIECE_NORMAL;
}

// The id of the piece a merge gives, -1 when a part or the whole is no normal piece.
static int64_t merged_id(const json_t *vocabulary, const json_t *merge, Buffer *text, Error *error) {
    buffer_clear(text);
    const json_t *left = merge, *right = NULL;
    if (json_is_array(merge)) {
        left = json_array_get(merge, 0);
        right = json_array_get(merge, 1);
    }
    const char *first = json_string_value(left), *second = json_string_value(right);
    const char *space = first && !right ? strchr(first, ' ') : NULL;
    if (!first || (!second && !space)) return -1;
    size_t first_size = space ? (size_t)(space - first) : strlen(first);
    if (space) second = space + 1;
    if (!buffer_append(text, first, first_size, error) || !buffer_text(text, second, error)) return -1;
    const json_t *id = json_object_get(vocabulary, buffer_string(text));
    return json_is_integer(id) ? json_integer_value(id) : -1;
}

// How many ways there are to put a piece together from two normal pieces; -1 without memory.
static int64_t count_splits(const json_t *vocabulary, const Row *rows, const Row *row, Buffer *text, Error *error) {
    int64_t splits = 0;
    for (size_t i = 1; i < row->size; i++) {
        if ((row->text[i] & 0xc0) == 0x80) continue; // inside a character
        buffer_clear(text);
        if (!buffer_append(text, row->text, i, error)) return -1;
        const json_t *left = json_object_get(vocabulary, text->data);
        const json_t *right = left ? json_object_get(vocabulary, row->text + i) : NULL;
        splits += right && rows[json_integer_value(left)].type == PIECE_NORMAL &&
                  rows[json_integer_value(right)].type == PIECE_NORMAL;
    }
    return splits;
}

static bool is_space_run(const Row *row) {
    for (size_t i = 0; i < row->size; i += SPACE_MARK_SIZE) {
        if (strncmp(row->text + i, SPACE_MARK, SPACE_MARK_SIZE) != 0) return false;
    }
    return true;
}

// The piece that each merge gives, into ids[merges]; counts them in rows and notes each piece's last merge.
static bool list_merges(Row *rows, int64_t *ids, const json_t *model, Error *error) {
    Buffer text = BUFFER_EMPTY;
    size_t i;
    json_t *merge;
    bool ok = true;
    json_array_foreach(json_object_get(model, "merges"), i, merge) {
        ids[i] = merged_id(json_object_get(model, "vocab"), merge, &text, error);
        ok = ok && ids[i] >= 0;
        if (!ok) break;
        rows[ids[i]].listed++;
        rows[ids[i]].last = i;
    }
    buffer_free(&text);
    return ok;
}

// Scores from the order of the merges, -1 for the first piece. Pieces whose merges are mixed had equal scores; in the
// LLaMA family these are the runs of spaces, where every order gives the same ids.
static bool score_merged(Row *rows, const int64_t *ids, size_t merges) {
    double score = 0;
    for (size_t start = 0, end; start < merges; start = end) {
        bool one_piece = true, spaces = true;
        size_t last = start;
        score--;
        for (end = start; end < merges && end <= last; end++) {
            Row *row = &rows[ids[end]];
            row->score = score;
            if (row->last > last) last = row->last;
            one_piece = one_piece && ids[end] == ids[start];
            spaces = spaces && is_space_run(row);
        }
        if (!one_piece && !spaces) return false;
    }
    return true;
}

// Whether every way to put together a normal piece is among the merges, and no other; pieces that no merge gives come
// last in score.
static bool check_complete(Row *rows, int64_t count, const json_t *vocabulary, Error *error) {
    Buffer text = BUFFER_EMPTY;
    bool ok = true;
    for (int64_t id = 0; ok && id < count; id++) {
        bool normal = rows[id].text && rows[id].type == PIECE_NORMAL;
        ok = rows[id].listed == (normal ? count_splits(vocabulary, rows, &rows[id], &text, error) : 0);
        if (normal && rows[id].listed == 0) rows[id].score = -1e9;
    }
    buffer_free(&text);
    return ok;
}

static bool score_rows(Row *rows, int64_t count, const json_t *model, const char *where, Error *error) {
    size_t merges = json_array_size(json_object_get(model, "merges"));
    int64_t *ids = calloc(merges + 1, sizeof *ids);
    if (!ids) return error_memory(error, "merges", merges * sizeof *ids);
    bool ok = list_merges(rows, ids, model, error) && score_merged(rows, ids, merges) &&
              check_complete(rows, count, json_object_get(model, "vocab"), error);
    free(ids);
    if (ok) return true;
    error_set(error, "%s: its merges are not those of a SentencePiece model, though it has byte_fallback", where);
    return error_hint(error, "put the model's tokenizer.model beside it");
}

static bool add_rows(SentencePieceModel *pieces, const Row *rows, int64_t count, Error *error) {
    for (int64_t id = 0; id < count; id++) {
        char gap[32];
        int size = snprintf(gap, sizeof gap, "[PAD%lld]", (long long)id);
        bool ok = rows[id].text ? sentencepiece_model_add(pieces, rows[id].text, rows[id].size, (float)rows[id].score,
                                                          rows[id].type, error)
                                : sentencepiece_model_add(pieces, gap, (size_t)size, -10000, PIECE_UNUSED, error);
        if (!ok) return false;
    }
    return true;
}

static bool read_bpe(Tokenizer *tokenizer, const json_t *model, const char *where, Error *error) {
    const json_t *vocabulary = json_object_get(model, "vocab");
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    const json_t *unknown_id = json_object_get(vocabulary, unknown ? unknown : "<unk>");
    int64_t count;
    if (!json_vocabulary_size(vocabulary, &count, where, error)) return false;
    if (!unknown_id) return error_set(error, "%s: there is no unk_token", where);
    Row *rows = calloc((size_t)count, sizeof *rows);
    if (!rows) return error_memory(error, "pieces", (size_t)count * sizeof *rows);
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)vocabulary, text, id) {
        Row *row = &rows[json_integer_value(id)];
        row->text = text;
        row->size = strlen(text);
        row->type = type_of(tokenizer, text, json_integer_value(id), json_integer_value(unknown_id));
    }
    bool ok = score_rows(rows, count, model, where, error) && add_rows(&tokenizer->model, rows, count, error);
    free(rows);
    return ok;
}

static bool read_unigram(Tokenizer *tokenizer, const json_t *model, const char *where, Error *error) {
    const json_t *unknown = json_object_get(model, "unk_id");
    size_t i;
    json_t *pair;
    tokenizer->model.type = MODEL_UNIGRAM;
    json_array_foreach(json_object_get(model, "vocab"), i, pair) {
        const json_t *text = json_array_get(pair, 0), *score = json_array_get(pair, 1);
        if (!json_is_string(text) || !json_is_number(score) || i >= TOKENIZER_IDS_MAX)
            return error_set(error, "%s: entry %zu of \"vocab\" is not a text and a number", where, i);
        PieceType type = type_of(tokenizer, json_string_value(text), (int64_t)i,
                                 json_is_integer(unknown) ? json_integer_value(unknown) : -1);
        if (!sentencepiece_model_add(&tokenizer->model, json_string_value(text), json_string_length(text),
                                     (float)json_number_value(score), type, error))
            return false;
    }
    return true;
}

bool json_read_pieces(Tokenizer *tokenizer, const json_t *model, const char *where, Error *error) {
    if (tokenizer->model_from_file) return true;
    tokenizer->model.add_dummy_prefix = tokenizer->prefix != PREFIX_NEVER;
    bool ok = json_is_array(json_object_get(model, "vocab")) ? read_unigram(tokenizer, model, where, error)
                                                             : read_bpe(tokenizer, model, where, error);
    return ok && sentencepiece_model_check(&tokenizer->model, where, error);
}
