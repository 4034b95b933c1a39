// bpe.h - byte-level BPE: a word's bytes become symbols, and the pair of neighbours of the lowest rank is merged until
// none is left (Sennrich et al. 2016, on bytes as in GPT-2). Ids equal the `tokenizers` library's.
#pragma once
#include "tokenizer/tokenizer.h"

// Filled by bpe_create, bpe_add_token and bpe_add_merge in that order, then bpe_finish; constant, and so thread-safe,
// after that.
typedef struct Bpe Bpe;

// rows: ids are below this. NULL when memory runs out.
Bpe *bpe_create(int64_t rows, Error *error);
void bpe_free(Bpe *bpe); // NULL is allowed

// A token by its text in GPT-2's alphabet of bytes ("Ġthe"). in_model: it takes part in merging; false for added
// tokens, whose text stands for itself. Errors: id out of range or given twice, two tokens of one text.
bool bpe_add_token(Bpe *bpe, int64_t id, const char *text, size_t size, bool in_model, Error *error);
// The next merge, in the order of the ranks: "left right" in the same alphabet. Errors name a part, or the whole, that
// is no token.
bool bpe_add_merge(Bpe *bpe, const char *text, size_t size, Error *error);
bool bpe_add_merge_pair(Bpe *bpe, const char *left, size_t left_size, const char *right, size_t right_size,
                        Error *error);

typedef struct BpeOptions {
    bool ignore_merges; // a word that is a token as a whole is taken before any merging (Llama-3)
    int32_t unknown;    // id for bytes without a token, -1: such bytes give nothing
    bool fuse_unknown;  // neighbouring unknown bytes give one id
} BpeOptions;
bool bpe_finish(Bpe *bpe, const BpeOptions *options, Error *error);

// What one encoding thread needs while it merges; grows to the longest word. BPE_SCRATCH_EMPTY, then bpe_scratch_free.
typedef struct BpeScratch {
    struct BpeSymbol *symbols;
    struct BpeCandidate *heap;
    size_t capacity; // symbols; the heap holds up to three candidates for each
} BpeScratch;
#define BPE_SCRATCH_EMPTY ((BpeScratch){0})
void bpe_scratch_free(BpeScratch *scratch);

// Appends the ids of one word (raw bytes). Time is O(n log n) in its length.
bool bpe_encode_word(const Bpe *bpe, BpeScratch *scratch, const char *word, size_t size, TokenList *ids, Error *error);

// The bytes that a token stands for; false when no token has this id.
bool bpe_token_bytes(const Bpe *bpe, int32_t id, const char **bytes, size_t *size);
int32_t bpe_token_id(const Bpe *bpe, const char *bytes, size_t size); // of raw bytes, among the model's tokens; -1

// GPT-2's alphabet: a byte as the character that stands for it, in UTF-8 (1 or 2 bytes), appended to text.
bool bpe_append_visible(Buffer *text, const char *bytes, size_t size, Error *error);
