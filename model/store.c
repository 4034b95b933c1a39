// store.c - see store.h. Every block is resident on the device.
#include "model/store.h"
#include <stdlib.h>

bool store_create(BlockStore *store, const BlockLayout *layout, Arena *device, Arena *pinned, Error *error) {
    int count = block_count(layout);
    *store = (BlockStore){.backend = device->backend, .layout = *layout};
    store->blocks = calloc((size_t)count, sizeof *store->blocks);
    if (!store->blocks) return error_memory(error, "the table of blocks", (size_t)count * sizeof *store->blocks);
    int64_t largest = 0;
    for (int block = 0; block < count; block++) {
        int64_t elements = block_elements(layout, block);
        store->blocks[block] = arena_take(device, elements, sizeof(bf16));
        if (elements > largest) largest = elements;
    }
    if (pinned) store->staging = arena_take(pinned, largest, sizeof(bf16));
    if (device->overflow || (pinned && pinned->overflow)) {
        store_free(store);
        return error_set(error, "the blocks do not fit their arena");
    }
    return true;
}

void store_free(BlockStore *store) {
    free(store->blocks);
    *store = (BlockStore){0};
}

bf16 *store_acquire(BlockStore *store, int block) {
    return store->blocks[block];
}

bf16 *store_put(BlockStore *store, int block) {
    return store->staging ? store->staging : store->blocks[block];
}

void store_put_finish(BlockStore *store, int block) {
    if (!store->staging) return;
    size_t bytes = (size_t)block_elements(&store->layout, block) * sizeof(bf16);
    store->backend->copy(store->backend, store->blocks[block], store->staging, bytes, NULL);
    store->backend->synchronize(store->backend, NULL);
}

const bf16 *store_get(BlockStore *store, int block) {
    if (!store->staging) return store->blocks[block];
    size_t bytes = (size_t)block_elements(&store->layout, block) * sizeof(bf16);
    store->backend->copy(store->backend, store->staging, store->blocks[block], bytes, NULL);
    store->backend->synchronize(store->backend, NULL);
    return store->staging;
}
