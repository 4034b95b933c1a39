// store.h - the block store: all weights of a model as bf16 in our layout, one contiguous run per block.
//
// Model files are read once into it and never written. Every user of weights goes through store_acquire, so that where
// a block lives (on the device now; host memory or a scratch file behind two device buffers later) stays its secret.
#pragma once
#include "kernels/arena.h"
#include "model/block.h"

typedef struct BlockStore {
    Backend *backend; // NULL when only measured
    BlockLayout layout;
    bf16 **blocks; // [block_count] device memory
    bf16 *staging; // pinned memory for one block, when the device is not the host; else NULL
} BlockStore;

// Takes the memory of every block from the device arena, and staging from the pinned one (NULL where the device is the
// host, so that blocks are filled in place). Fails on overflow.
// Works on measuring arenas. The store's own table is freed with store_free; the weights belong to the arenas.
bool store_create(BlockStore *store, const BlockLayout *layout, Arena *device, Arena *pinned, Error *error);
void store_free(BlockStore *store);

// The weights of a block, ready on the compute stream.
bf16 *store_acquire(BlockStore *store, int block);

// Host memory of block_elements elements to fill with a block's weights; store_put_finish brings them to their place.
bf16 *store_put(BlockStore *store, int block);
void store_put_finish(BlockStore *store, int block);
// A block's weights in host memory, valid until the next store_put or store_get.
const bf16 *store_get(BlockStore *store, int block);
