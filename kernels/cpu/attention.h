// attention.h - what the attention operations of the CPU share: the cut of a batch into tiles, and streaming softmax.
//
// Scores exist one tile at a time ([QUERY_TILE, KEY_TILE] floats on the stack of the thread): FlashAttention's order of
// work (Dao 2023), with OpenBLAS for the products of a tile. The probabilities stay in float, in the rounding mode too.
#pragma once
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vector_math.h"

#define QUERY_TILE 64
#define KEY_TILE   256

// Some rows of one sequence, as indices of tokens: first .. last - 1, in the sequence begin .. end - 1.
typedef struct AttentionTile {
    int64_t begin, end;
    int64_t first, last;
} AttentionTile;

// Tiles of `rows` tokens lie in numbered slots, some of them empty: a loop over the slots needs no list of the tiles.
int64_t attention_slots(const AttentionShape *shape, int64_t rows);
// false when the slot is empty. Slots run from the last tile of the batch to the first: in a long sequence the late
// queries have the most work, and what is started first does not end alone.
bool attention_tile(const AttentionShape *shape, int64_t rows, int64_t slot, AttentionTile *tile);

// Up to QUERY_TILE queries that attend to a run of keys. Row i sees the keys up to diagonal + step * i, with window > 0
// only the last `window` of them; it sees at least one.
typedef struct AttentionRows {
    const float *queries; // [rows, D], rows query_stride apart
    int64_t query_stride;
    const float *keys, *values; // [keys, D], rows kv_stride apart
    int64_t kv_stride;
    float *out; // [rows, D], rows out_stride apart
    int64_t out_stride;
    float *lse; // [rows] or NULL
    int rows, head_dim, window;
    int64_t key_count, diagonal, step;
    float scale;
} AttentionRows;

void attention_rows(const CpuBackend *cpu, const AttentionRows *work);

// The keys [*first, *last) that row i sees among the keys from .. to - 1; empty when *first == *last.
static inline void attention_visible(int64_t diagonal, int64_t step, int window, int64_t row, int64_t from, int64_t to,
                                     int64_t *first, int64_t *last) {
    int64_t end = diagonal + step * row + 1, begin = window > 0 && end > window ? end - window : 0;
    *last = end < to ? end : to;
    *first = begin > from ? begin : from;
    if (*last < *first) *last = *first;
}

// e^x, x <= 0 but for rounding, that stays a normal number: denormal ones cost the processor a hundred cycles each.
CPU_INLINE float attention_exp(float x) {
    return vector_exp(x < -87.0f ? -87.0f : x);
}
