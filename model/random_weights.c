// random_weights.c - weights for benchmarks and plans without a model file.
#include "base/random.h"
#include "model/source.h"
#include <string.h>

#define DEVIATION 0.02f // Hugging Face's initializer_range

void model_random_weights(const ModelConfig *config, BlockStore *store, uint64_t seed) {
    Backend *b = store->backend;
    for (int block = 0; block < block_count(&store->layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(&store->layout, config, block, tensors);
        bf16 *to = store_acquire(store, block);
        b->zero(b, to, (size_t)block_elements(&store->layout, block) * sizeof *to, NULL);
        for (int i = 0; i < count; i++) {
            const BlockTensor *tensor = &tensors[i];
            uint64_t key = random_key(seed, RANDOM_WEIGHTS, (uint64_t)block, (uint64_t)i);
            if (!tensor->vector)
                b->fill_normal(b, to + tensor->offset, tensor->rows * tensor->columns, 0, DEVIATION, key, NULL);
            else if (!strstr(tensor->name, ".bias"))
                b->fill_normal(b, to + tensor->offset, tensor->columns, 1, 0, key, NULL);
        }
    }
}
