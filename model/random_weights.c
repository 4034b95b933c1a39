// random_weights.c - weights for benchmarks and plans without a model file.
#include "base/random.h"
#include "model/source.h"
#include <string.h>

#define DEVIATION 0.02f // Hugging Face's initializer_range

static void fill_block(Backend *b, bf16 *to, const ModelConfig *config, const BlockLayout *layout, int block,
                       uint64_t seed) {
    BlockTensor tensors[BLOCK_TENSORS_MAX];
    int count = block_tensors(layout, config, block, tensors);
    b->zero(b, to, (size_t)block_elements(layout, block) * sizeof *to, NULL);
    for (int i = 0; i < count; i++) {
        const BlockTensor *tensor = &tensors[i];
        uint64_t key = random_key(seed, RANDOM_WEIGHTS, (uint64_t)block, (uint64_t)i);
        if (!tensor->vector)
            b->fill_normal(b, to + tensor->offset, tensor->rows * tensor->columns, 0, DEVIATION, key, NULL);
        else if (!strstr(tensor->name, ".bias"))
            b->fill_normal(b, to + tensor->offset, tensor->columns, 1, 0, key, NULL);
    }
}

// Resident blocks are made where they are, the others in host memory: every processor makes the same bits.
bool model_random_weights(const ModelConfig *config, BlockStore *store, uint64_t seed, Error *error) {
    Backend *host = NULL;
    for (int block = 0; block < block_count(&store->layout); block++) {
        if (store_is_resident(store, block)) {
            fill_block(store->backend, store_acquire(store, block), config, &store->layout, block, seed);
            store_release(store, block);
        } else {
            if (!host) host = backend_cpu_create(thread_pool_size(store->backend->threads), false, error);
            if (!host) return false;
            fill_block(host, store_put(store, block), config, &store->layout, block, seed);
            store_put_finish(store, block);
        }
    }
    if (host) host->destroy(host);
    return store_check(store, error);
}
