// random_weights.c - weights for benchmarks and plans without a model file.
#include "base/random.h"
#include "model/source.h"
#include <math.h>
#include <string.h>

#define DEVIATION 0.02 // Hugging Face's initializer_range
#define TWO_PI    6.283185307179586476925286766559

typedef struct RandomRows {
    bf16 *to;
    int64_t columns;
    uint64_t key;
} RandomRows;

// Box-Muller: two elements from two uniform numbers.
static void fill_row(void *context, int64_t row, int worker) {
    (void)worker;
    const RandomRows *rows = context;
    bf16 *to = rows->to + row * rows->columns;
    uint64_t counter = (uint64_t)row * (uint64_t)(rows->columns + 1); // odd rows use one number more
    for (int64_t i = 0; i < rows->columns; i += 2, counter += 2) {
        double radius = DEVIATION * sqrt(-2 * log(1 - random_uniform(rows->key, counter)));
        double angle = TWO_PI * random_uniform(rows->key, counter + 1);
        to[i] = bf16_from_float((float)(radius * cos(angle)));
        if (i + 1 < rows->columns) to[i + 1] = bf16_from_float((float)(radius * sin(angle)));
    }
}

void model_random_weights(const ModelConfig *config, BlockStore *store, uint64_t seed) {
    for (int block = 0; block < block_count(&store->layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(&store->layout, config, block, tensors);
        bf16 *to = store_put(store, block);
        memset(to, 0, (size_t)block_elements(&store->layout, block) * sizeof *to);
        for (int i = 0; i < count; i++) {
            bool bias = strstr(tensors[i].name, ".bias") != NULL;
            RandomRows rows = {to + tensors[i].offset, tensors[i].columns,
                               random_key(seed, RANDOM_WEIGHTS, (uint64_t)block, (uint64_t)i)};
            if (!tensors[i].vector)
                thread_pool_run(store->backend->threads, tensors[i].rows, fill_row, &rows);
            else if (!bias)
                for (int64_t k = 0; k < tensors[i].columns; k++) rows.to[k] = bf16_from_float(1);
        }
        store_put_finish(store, block);
    }
}
