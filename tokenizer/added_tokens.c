// added_tokens.c - see added_tokens.h. A search narrows a range of the sorted texts byte by byte.
#include "tokenizer/added_tokens.h"
#include <stdlib.h>
#include <string.h>

bool added_tokens_add(AddedTokens *added, const AddedToken *token, Error *error) {
    AddedToken *place = NULL;
    for (int32_t i = 0; i < added->count; i++) {
        if (added->tokens[i].id == token->id) place = &added->tokens[i];
    }
    if (!place && added->count == added->capacity) {
        int32_t capacity = added->capacity ? 2 * added->capacity : 32;
        AddedToken *tokens = realloc(added->tokens, (size_t)capacity * sizeof *tokens);
        if (!tokens) return error_memory(error, "added tokens", (size_t)capacity * sizeof *tokens);
        added->tokens = tokens;
        added->capacity = capacity;
    }
    char *text = malloc(token->size + 1);
    if (!text) return error_memory(error, "an added token", token->size + 1);
    memcpy(text, token->text, token->size);
    text[token->size] = '\0';
    if (place)
        free(place->text);
    else
        place = &added->tokens[added->count++];
    *place = *token;
    place->text = text;
    return true;
}

void added_tokens_free(AddedTokens *added) {
    for (int32_t i = 0; i < added->count; i++) free(added->tokens[i].text);
    free(added->tokens);
    free(added->by_id);
    *added = (AddedTokens){0};
}

static int compare_texts(const void *a, const void *b) {
    const AddedToken *left = a, *right = b;
    size_t shared = left->size < right->size ? left->size : right->size;
    int order = memcmp(left->text, right->text, shared);
    if (order != 0) return order;
    return (left->size > right->size) - (left->size < right->size);
}

static int compare_ids(const void *a, const void *b) {
    const AddedToken *const *left = a, *const *right = b;
    return ((*left)->id > (*right)->id) - ((*left)->id < (*right)->id);
}

bool added_tokens_sort(AddedTokens *added, Error *error) {
    if (added->count == 0) return true;
    qsort(added->tokens, (size_t)added->count, sizeof *added->tokens, compare_texts);
    free(added->by_id);
    added->by_id = malloc((size_t)added->count * sizeof *added->by_id);
    if (!added->by_id) return error_memory(error, "added tokens", (size_t)added->count * sizeof *added->by_id);
    memset(added->in_text, 0, sizeof added->in_text);
    memset(added->starts, 0, sizeof added->starts);
    for (int32_t i = 0; i < added->count; i++) {
        AddedToken *token = &added->tokens[i];
        added->by_id[i] = token;
        if (token->size == 0) continue;
        added->starts[(unsigned char)token->text[0]] = true;
        if (!token->special) added->in_text[token->normalized] = true;
    }
    qsort(added->by_id, (size_t)added->count, sizeof *added->by_id, compare_ids);
    return true;
}

const AddedToken *added_token_by_text(const AddedTokens *added, const char *text, size_t size) {
    AddedToken key = {.text = (char *)text, .size = size};
    if (added->count == 0) return NULL;
    return bsearch(&key, added->tokens, (size_t)added->count, sizeof key, compare_texts);
}

const AddedToken *added_token_by_id(const AddedTokens *added, int32_t id) {
    AddedToken key = {.id = id}, *wanted = &key;
    if (added->count == 0) return NULL;
    AddedToken **found = bsearch(&wanted, added->by_id, (size_t)added->count, sizeof wanted, compare_ids);
    return found ? *found : NULL;
}

// The first of tokens[low .. high) whose byte at `depth` is at least `byte`; all of them share the bytes before it, and
// one that ends there comes first.
static int32_t lower_bound(const AddedTokens *added, int32_t low, int32_t high, size_t depth, int byte) {
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        const AddedToken *token = &added->tokens[middle];
        int there = token->size > depth ? (unsigned char)token->text[depth] : -1;
        if (there < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// The longest token of this `normalized` that text starts with, special ones included.
static const AddedToken *longest_at_start(const AddedTokens *added, bool normalized, const char *text, size_t size) {
    const AddedToken *longest = NULL;
    int32_t low = 0, high = added->count;
    for (size_t depth = 0; depth < size && low < high; depth++) {
        int byte = (unsigned char)text[depth];
        low = lower_bound(added, low, high, depth, byte);
        high = lower_bound(added, low, high, depth, byte + 1);
        for (int32_t i = low; i < high && added->tokens[i].size == depth + 1; i++) {
            if (added->tokens[i].normalized == normalized) longest = &added->tokens[i];
        }
    }
    return longest;
}

const AddedToken *added_token_in_text(const AddedTokens *added, bool normalized, const char *text, size_t size,
                                      size_t *at) {
    if (!added->in_text[normalized]) return NULL;
    while (*at < size) {
        const AddedToken *token = NULL;
        if (added->starts[(unsigned char)text[*at]])
            token = longest_at_start(added, normalized, text + *at, size - *at);
        if (token && !token->special) return token;
        *at += token ? token->size : 1;
    }
    return NULL;
}
