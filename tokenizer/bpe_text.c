// bpe_text.c - a BPE vocabulary as tokenizer.json and GGUF spell it.
#include "tokenizer/bpe_tables.h"
#include <stdlib.h>

bool bpe_append_text(const Bpe *bpe, int32_t id, Buffer *text, Error *error) {
    const char *bytes;
    size_t size;
    if (!bpe_token_bytes(bpe, id, &bytes, &size)) return true;
    if (bpe_token_id(bpe, bytes, size) == id) return bpe_append_visible(text, bytes, size, error);
    return buffer_append(text, bytes, size, error);
}

static int by_rank(const void *a, const void *b) {
    const BpeMerge *left = a, *right = b;
    return (left->rank > right->rank) - (left->rank < right->rank);
}

BpeMerge *bpe_sorted_merges(const Bpe *bpe, Error *error) {
    BpeMerge *sorted = malloc((bpe->merges.count + 1) * sizeof *sorted);
    if (!sorted) {
        error_memory(error, "merges", bpe->merges.count * sizeof *sorted);
        return NULL;
    }
    size_t count = 0;
    for (size_t i = 0; i <= bpe->merges.mask; i++)
        if (bpe->merges.slots[i].pair != BPE_NO_PAIR) sorted[count++] = bpe->merges.slots[i];
    qsort(sorted, count, sizeof *sorted, by_rank);
    return sorted;
}

bool bpe_append_merge(const Bpe *bpe, const BpeMerge *merge, Buffer *text, Error *error) {
    return bpe_append_text(bpe, (int32_t)(merge->pair >> 32), text, error) && buffer_byte(text, ' ', error) &&
           bpe_append_text(bpe, (int32_t)(uint32_t)merge->pair, text, error);
}
