// bpe.c - the vocabulary of byte-level BPE and its two hash tables; bpe_merge.c does the merging.
#include "tokenizer/bpe_tables.h"
#include <stdlib.h>
#include <string.h>

// ---- GPT-2's alphabet: every byte as a visible character ----

// Bytes that are visible in Latin-1 stand for themselves, the others for U+0100 and up in ascending order.
static bool byte_is_visible(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

static int32_t byte_character(int byte) {
    if (byte_is_visible(byte)) return byte;
    int32_t hidden = 0;
    for (int i = 0; i < byte; i++) hidden += !byte_is_visible(i);
    return 0x100 + hidden;
}

// The byte that a character stands for, -1 when it is not of the alphabet.
static int character_byte(int32_t point) {
    if (point < 0x100) return byte_is_visible(point) ? point : -1;
    int32_t hidden = point - 0x100;
    for (int byte = 0; byte < 0x100; byte++) {
        if (!byte_is_visible(byte) && hidden-- == 0) return byte;
    }
    return -1;
}

bool bpe_append_visible(Buffer *text, const char *bytes, size_t size, Error *error) {
    for (size_t i = 0; i < size; i++) {
        int32_t point = byte_character((unsigned char)bytes[i]);
        char utf8[2] = {(char)(0xc0 | (point >> 6)), (char)(0x80 | (point & 0x3f))};
        char ascii = (char)point;
        if (!(point < 0x80 ? buffer_append(text, &ascii, 1, error) : buffer_append(text, utf8, 2, error))) return false;
    }
    return true;
}

// Replaces text in the alphabet by its bytes, in place. False, text unchanged, when a character is not of the alphabet.
static bool visible_to_bytes(char *text, size_t *size) {
    for (int pass = 0; pass < 2; pass++) {
        size_t out = 0;
        for (size_t i = 0; i < *size;) {
            int32_t point = (unsigned char)text[i++];
            if (point >= 0x80) {
                if ((point & 0xe0) != 0xc0 || i == *size) return false;
                point = (point & 0x1f) << 6 | ((unsigned char)text[i++] & 0x3f);
            }
            int byte = character_byte(point);
            if (byte < 0) return false;
            if (pass == 1) text[out] = (char)byte;
            out++;
        }
        if (pass == 1) *size = out;
    }
    return true;
}

// ---- tokens ----

Bpe *bpe_create(int64_t rows, Error *error) {
    if (rows <= 0 || rows > INT32_MAX - 1) {
        error_set(error, "a vocabulary of %lld tokens is not possible", (long long)rows);
        return NULL;
    }
    Bpe *bpe = calloc(1, sizeof *bpe);
    BpeToken *tokens = calloc((size_t)rows, sizeof *tokens);
    if (!bpe || !tokens) {
        free(bpe);
        free(tokens);
        error_memory(error, "vocabulary", (size_t)rows * sizeof *tokens);
        return NULL;
    }
    bpe->rows = rows;
    bpe->tokens = tokens;
    return bpe;
}

void bpe_free(Bpe *bpe) {
    if (!bpe) return;
    buffer_free(&bpe->pool);
    free(bpe->tokens);
    word_table_free(&bpe->words);
    free(bpe->merges.slots);
    free(bpe);
}

int32_t bpe_token_id(const Bpe *bpe, const char *bytes, size_t size) {
    return word_table_find(&bpe->words, &bpe->pool, bytes, size);
}

bool bpe_add_token(Bpe *bpe, int64_t id, const char *text, size_t size, bool in_model, Error *error) {
    if (id < 0 || id >= bpe->rows)
        return error_set(error, "token \"%.*s\" has id %lld; ids must be in 0 .. %lld", (int)(size < 64 ? size : 64),
                         text, (long long)id, (long long)bpe->rows - 1);
    BpeToken *token = &bpe->tokens[id];
    if (token->defined) {
        if (in_model) return error_set(error, "two tokens have id %lld", (long long)id);
        return true; // an added token that the model's vocabulary lists too
    }
    if (size > UINT32_MAX - bpe->pool.size) return error_set(error, "the texts of the tokens exceed 4 GiB");
    token->offset = (uint32_t)bpe->pool.size;
    if (!buffer_append(&bpe->pool, text, size, error)) return false;
    if (!in_model || !visible_to_bytes(bpe->pool.data + token->offset, &size)) in_model = false;
    bpe->pool.size = token->offset + size;
    token->size = (uint32_t)size;
    token->defined = true;
    if (!in_model || size == 0) return true;
    int32_t same = bpe_token_id(bpe, bpe->pool.data + token->offset, size);
    if (same >= 0) return error_set(error, "token %lld has the text of token %d", (long long)id, same);
    return word_table_add(&bpe->words, &bpe->pool, token->offset, token->size, (int32_t)id, error);
}

bool bpe_token_bytes(const Bpe *bpe, int32_t id, const char **bytes, size_t *size) {
    if (id < 0 || id >= bpe->rows || !bpe->tokens[id].defined) return false;
    *bytes = bpe->pool.data + bpe->tokens[id].offset;
    *size = bpe->tokens[id].size;
    return true;
}

// ---- merges ----

static bool merges_grow(BpeMerges *merges, Error *error) {
    size_t capacity = merges->slots ? 2 * (merges->mask + 1) : 1024;
    BpeMerge *slots = calloc(capacity, sizeof *slots);
    if (!slots) return error_memory(error, "table of merges", capacity * sizeof *slots);
    for (size_t i = 0; i < capacity; i++) slots[i].pair = BPE_NO_PAIR;
    for (size_t i = 0; merges->slots && i <= merges->mask; i++) {
        if (merges->slots[i].pair == BPE_NO_PAIR) continue;
        size_t slot = bpe_pair_hash(merges->slots[i].pair) & (capacity - 1);
        while (slots[slot].pair != BPE_NO_PAIR) slot = (slot + 1) & (capacity - 1);
        slots[slot] = merges->slots[i];
    }
    free(merges->slots);
    merges->slots = slots;
    merges->mask = capacity - 1;
    return true;
}

static bool no_such_token(const char *text, size_t size, int64_t merge, Error *error) {
    return error_set(error, "merge %lld needs \"%.*s\", which is no token", (long long)merge,
                     (int)(size < 64 ? size : 64), text);
}

bool bpe_add_merge_pair(Bpe *bpe, const char *left, size_t left_size, const char *right, size_t right_size,
                        Error *error) {
    BpeMerges *merges = &bpe->merges;
    int64_t rank = merges->added;
    if (rank == INT32_MAX) return error_set(error, "more than %d merges", INT32_MAX);
    Buffer bytes = BUFFER_EMPTY;
    if (!buffer_append(&bytes, left, left_size, error) || !buffer_append(&bytes, right, right_size, error)) {
        buffer_free(&bytes);
        return false;
    }
    size_t left_bytes = left_size, right_bytes = right_size, total = bytes.size;
    int32_t left_id = -1, right_id = -1, merged = -1;
    bool visible = total > 0 && visible_to_bytes(bytes.data, &left_bytes) &&
                   visible_to_bytes(bytes.data + left_size, &right_bytes);
    if (visible) {
        memmove(bytes.data + left_bytes, bytes.data + left_size, right_bytes);
        left_id = bpe_token_id(bpe, bytes.data, left_bytes);
        right_id = bpe_token_id(bpe, bytes.data + left_bytes, right_bytes);
        merged = bpe_token_id(bpe, bytes.data, left_bytes + right_bytes);
    }
    buffer_free(&bytes);
    if (left_id < 0) return no_such_token(left, left_size, rank, error);
    if (right_id < 0) return no_such_token(right, right_size, rank, error);
    if (merged < 0) return error_set(error, "merge %lld gives a text that is no token", (long long)rank);
    if ((!merges->slots || 2 * merges->count > merges->mask) && !merges_grow(merges, error)) return false;
    uint64_t pair = (uint64_t)left_id << 32 | (uint32_t)right_id;
    size_t slot = bpe_pair_hash(pair) & merges->mask;
    while (merges->slots[slot].pair != BPE_NO_PAIR && merges->slots[slot].pair != pair)
        slot = (slot + 1) & merges->mask;
    merges->count += merges->slots[slot].pair == BPE_NO_PAIR;
    merges->slots[slot] = (BpeMerge){pair, (int32_t)rank, merged};
    merges->added++;
    return true;
}

bool bpe_add_merge(Bpe *bpe, const char *text, size_t size, Error *error) {
    const char *space = size > 0 ? memchr(text, ' ', size) : NULL;
    if (!space)
        return error_set(error, "merge %lld is \"%.*s\", not two tokens with a space between them",
                         (long long)bpe->merges.added, (int)(size < 64 ? size : 64), text);
    size_t left = (size_t)(space - text);
    return bpe_add_merge_pair(bpe, text, left, space + 1, size - left - 1, error);
}

// A token whose own bytes merge to it needs no merging when it is met as a word. Finding these once makes most words
// of a text one look-up.
bool bpe_finish(Bpe *bpe, const BpeOptions *options, Error *error) {
    bpe->options = *options;
    for (int byte = 0; byte < 256; byte++) {
        char text = (char)byte;
        bpe->byte_ids[byte] = bpe_token_id(bpe, &text, 1);
    }
    if (!bpe->merges.slots && !merges_grow(&bpe->merges, error)) return false;
    BpeScratch scratch = BPE_SCRATCH_EMPTY;
    TokenList ids = {0};
    bool ok = true;
    for (size_t slot = 0; ok && bpe->words.slots && slot <= bpe->words.mask; slot++) {
        int32_t id = bpe->words.slots[slot].id;
        if (id < 0) continue;
        BpeToken *token = &bpe->tokens[id];
        ids.count = 0;
        ok = bpe_merge_word(bpe, &scratch, bpe->pool.data + token->offset, token->size, &ids, error);
        token->whole = options->ignore_merges || (ids.count == 1 && ids.ids[0] == id);
    }
    token_list_free(&ids);
    bpe_scratch_free(&scratch);
    return ok;
}
