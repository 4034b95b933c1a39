// decode.h - generating: the prompt in one pass, then one token at a time against a cache of keys and values.
//
// Wherever the store has its blocks, the logits are the same to the bit. Each call brings a streamed layer to the
// device once, however many tokens it feeds.
#pragma once
#include "kernels/arena.h"
#include "model/head.h"
#include "model/layer.h"
#include "model/store.h"

typedef struct Decoder {
    Backend *backend;
    const ModelConfig *config; // borrowed
    BlockStore *store;         // borrowed
    int64_t capacity;          // positions at most
    int64_t length;            // positions fed so far
    Activation **keys;         // [L]: each [capacity, K D], rotated
    Activation **values;       // [L]: each [capacity, K D]
    float *cosine, *sine;      // [capacity, D / 2]
    LayerContext layer;        // for the prompt: capacity tokens, forward only
    HeadContext head;          // one row
    Activation *x, *out;       // [capacity, d]
    // device indices
    int32_t *ids;        // [capacity]
    int32_t *positions;  // [capacity]: 0, 1, 2, ...; entry t is also the index of row t
    int32_t *starts;     // [2]
    int32_t *key_rows;   // [capacity K]: where the keys of a prompt lie in its qkv, in rows of D
    int32_t *value_rows; // [capacity K]
    float *logits;       // device [V]
    // pinned memory, through which the host gives tokens and gets logits
    int32_t *new_ids;    // [capacity]
    int32_t *new_starts; // [2]
    float *told_logits;  // [V]
    bf16 *new_rows;      // [capacity, d]: of E, when E is on the host; else NULL
} Decoder;

// Takes the cache and all work buffers from the arenas. Measuring arenas are fine. Fails on overflow; end with
// decoder_free.
bool decoder_create(Decoder *decoder, Backend *backend, const ModelConfig *config, BlockStore *store, int64_t capacity,
                    Arena *device, Arena *pinned, Error *error);
void decoder_free(Decoder *decoder);
// Fills tables and indices; once, on real memory.
bool decoder_prepare(Decoder *decoder, Error *error);

// Forgets everything that was fed.
void decoder_reset(Decoder *decoder);

// Feeds count >= 1 further tokens and gives the logits [V] (host memory) that follow the last of them. A prompt fed to
// an empty decoder goes through each layer at once. Ids must be below the vocabulary; fails when capacity is exceeded.
bool decoder_feed(Decoder *decoder, const int32_t *ids, int64_t count, float *logits, Error *error);
