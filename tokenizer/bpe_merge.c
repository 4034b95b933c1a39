// bpe_merge.c - merging the symbols of one word: a linked list of symbols and a heap of the pairs that could merge.
//
// The order is that of the `tokenizers` library: lowest rank first, then leftmost. A word of n bytes costs O(n log n),
// so a text without any space is no trap.
#include "tokenizer/bpe_tables.h"
#include <stdlib.h>

typedef struct BpeSymbol {
    int32_t id;       // -1 once it was merged into its left neighbour
    int32_t previous; // index, -1 at the start
    int32_t next;     // index, -1 at the end
} BpeSymbol;

typedef struct BpeCandidate {
    uint64_t order; // rank << 32 | index of the left symbol
    int32_t merged; // the id that the pair would become
} BpeCandidate;

void bpe_scratch_free(BpeScratch *scratch) {
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = BPE_SCRATCH_EMPTY;
}

static bool scratch_reserve(BpeScratch *scratch, size_t size, Error *error) {
    if (size <= scratch->capacity) return true;
    size_t capacity = size < 64 ? 64 : size;
    BpeSymbol *symbols = realloc(scratch->symbols, capacity * sizeof *symbols);
    if (!symbols) return error_memory(error, "a long word", capacity * sizeof *symbols);
    scratch->symbols = symbols;
    // n - 1 pairs to start with, two more for each of at most n - 1 merges
    BpeCandidate *heap = realloc(scratch->heap, 3 * capacity * sizeof *heap);
    if (!heap) return error_memory(error, "a long word", 3 * capacity * sizeof *heap);
    scratch->heap = heap;
    scratch->capacity = capacity;
    return true;
}

static void heap_push(BpeCandidate *heap, size_t *count, BpeCandidate candidate) {
    size_t at = (*count)++;
    while (at > 0 && heap[(at - 1) / 2].order > candidate.order) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = candidate;
}

static BpeCandidate heap_pop(BpeCandidate *heap, size_t *count) {
    BpeCandidate top = heap[0], last = heap[--*count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= *count) break;
        if (child + 1 < *count && heap[child + 1].order < heap[child].order) child++;
        if (last.order <= heap[child].order) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

static const BpeMerge *find_merge(const Bpe *bpe, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    for (size_t slot = bpe_pair_hash(pair);; slot++) {
        const BpeMerge *merge = &bpe->merges.slots[slot & bpe->merges.mask];
        if (merge->pair == pair) return merge;
        if (merge->pair == BPE_NO_PAIR) return NULL;
    }
}

// Offers the pair that starts at symbol `left` to the heap.
static void offer(const Bpe *bpe, const BpeScratch *scratch, size_t *count, int32_t left) {
    if (left < 0 || scratch->symbols[left].next < 0) return;
    const BpeMerge *merge =
        find_merge(bpe, scratch->symbols[left].id, scratch->symbols[scratch->symbols[left].next].id);
    if (!merge) return;
    BpeCandidate candidate = {(uint64_t)merge->rank << 32 | (uint32_t)left, merge->merged};
    heap_push(scratch->heap, count, candidate);
}

// The word's bytes as a list of symbols; returns how many there are.
static int32_t split_bytes(const Bpe *bpe, BpeSymbol *symbols, const char *word, size_t size) {
    int32_t count = 0;
    bool after_unknown = false;
    for (size_t i = 0; i < size; i++) {
        int32_t id = bpe->byte_ids[(unsigned char)word[i]];
        bool unknown = id < 0;
        if (unknown && (bpe->options.unknown < 0 || (after_unknown && bpe->options.fuse_unknown))) continue;
        after_unknown = unknown;
        symbols[count] = (BpeSymbol){unknown ? bpe->options.unknown : id, count - 1, count + 1};
        count++;
    }
    if (count > 0) symbols[count - 1].next = -1;
    return count;
}

bool bpe_merge_word(const Bpe *bpe, BpeScratch *scratch, const char *word, size_t size, TokenList *ids, Error *error) {
    if (size > INT32_MAX) return error_set(error, "a word of more than %d bytes cannot be encoded", INT32_MAX);
    if (!scratch_reserve(scratch, size, error)) return false;
    BpeSymbol *symbols = scratch->symbols;
    int32_t symbol_count = split_bytes(bpe, symbols, word, size);
    size_t candidates = 0;
    for (int32_t i = 0; i + 1 < symbol_count; i++) offer(bpe, scratch, &candidates, i);
    while (candidates > 0) {
        BpeCandidate best = heap_pop(scratch->heap, &candidates);
        int32_t left = (int32_t)(uint32_t)best.order, right = symbols[left].next;
        if (symbols[left].id < 0 || right < 0) continue;
        const BpeMerge *merge = find_merge(bpe, symbols[left].id, symbols[right].id);
        if (!merge || merge->merged != best.merged) continue; // one of the two was merged elsewhere meanwhile
        symbols[left].id = best.merged;
        symbols[left].next = symbols[right].next;
        if (symbols[right].next >= 0) symbols[symbols[right].next].previous = left;
        symbols[right].id = -1;
        offer(bpe, scratch, &candidates, symbols[left].previous);
        offer(bpe, scratch, &candidates, left);
    }
    for (int32_t i = symbol_count > 0 ? 0 : -1; i >= 0; i = symbols[i].next) {
        if (!token_list_append(ids, symbols[i].id, error)) return false;
    }
    return true;
}

bool bpe_encode_word(const Bpe *bpe, BpeScratch *scratch, const char *word, size_t size, TokenList *ids, Error *error) {
    int32_t id = bpe_token_id(bpe, word, size);
    if (id >= 0 && bpe->tokens[id].whole) return token_list_append(ids, id, error);
    return bpe_merge_word(bpe, scratch, word, size, ids, error);
}
