// bpe_tables.h - the data of a BPE vocabulary, shared by bpe*.c and what writes a vocabulary out.
#pragma once
#include "tokenizer/bpe.h"
#include "tokenizer/word_table.h"

typedef struct BpeToken {
    uint32_t offset; // of its bytes in the pool
    uint32_t size;   // bytes
    bool defined;    // some token has this id
    bool whole;      // as a word it gives exactly this one id
} BpeToken;

#define BPE_NO_PAIR UINT64_MAX

typedef struct BpeMerge {
    uint64_t pair; // left id << 32 | right id; BPE_NO_PAIR where free
    int32_t rank;
    int32_t merged;
} BpeMerge;

// Open addressing with linear probing, at most half full.
typedef struct BpeMerges {
    BpeMerge *slots; // [mask + 1]
    size_t mask;
    size_t count;  // distinct pairs
    int64_t added; // merges given so far, the next rank
} BpeMerges;

struct Bpe {
    int64_t rows;
    BpeToken *tokens;      // [rows]
    Buffer pool;           // the bytes of all tokens
    WordTable words;       // bytes -> id, of the tokens that take part in merging
    BpeMerges merges;      // pair of ids -> rank and merged id
    int32_t byte_ids[256]; // -1: no token is this byte
    BpeOptions options;
};

static inline size_t bpe_pair_hash(uint64_t pair) {
    uint64_t hash = pair * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(hash ^ hash >> 29);
}

// Appends the ids of a word by merging alone.
bool bpe_merge_word(const Bpe *bpe, BpeScratch *scratch, const char *word, size_t size, TokenList *ids, Error *error);

// ---- bpe_text.c: the vocabulary as tokenizer.json and GGUF spell it ----

// Appends a token's text: in GPT-2's alphabet when it takes part in merging, else as it is; nothing for an id without
// a token.
bool bpe_append_text(const Bpe *bpe, int32_t id, Buffer *text, Error *error);
// The bpe->merges.count merges by ascending rank, in memory of the caller's; NULL when memory runs out.
BpeMerge *bpe_sorted_merges(const Bpe *bpe, Error *error);
// Appends "left right".
bool bpe_append_merge(const Bpe *bpe, const BpeMerge *merge, Buffer *text, Error *error);
