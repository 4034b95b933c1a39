// export_compare.c - which tensors of two models differ.
#include "model/export_parts.h"
#include <stdlib.h>

static void compare_blocks(const ModelSource *a, const ModelSource *b, ThreadPool *threads, bf16 *left, bf16 *right,
                           bool *changed) {
    const BlockLayout *layout = &a->layout;
    for (int block = 0; block < block_count(layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(layout, &a->config, block, tensors);
        source_load_block(a, block, left, threads);
        source_load_block(b, block, right, threads);
        for (int i = 0; i < count; i++) {
            size_t bytes = (size_t)(tensors[i].rows * tensors[i].columns) * sizeof *left;
            changed[block * BLOCK_TENSORS_MAX + i] =
                memcmp(left + tensors[i].offset, right + tensors[i].offset, bytes) != 0;
        }
    }
}

int64_t source_largest_block(const ModelSource *source) {
    int64_t largest = 0;
    for (int block = 0; block < block_count(&source->layout); block++) {
        int64_t elements = block_elements(&source->layout, block);
        if (elements > largest) largest = elements;
    }
    return largest;
}

bool model_compare(const ModelSource *a, const ModelSource *b, ThreadPool *threads, bool **changed, Error *error) {
    if (!source_same_layout(b, &a->layout, error)) return false;
    size_t bytes = (size_t)source_largest_block(a) * sizeof(bf16);
    bf16 *left = malloc(bytes), *right = malloc(bytes);
    *changed = calloc((size_t)block_count(&a->layout) * BLOCK_TENSORS_MAX, sizeof **changed);
    bool ok = (left && right && *changed) || error_memory(error, "two blocks of weights", 2 * bytes);
    if (ok) {
        compare_blocks(a, b, threads, left, right, *changed);
    } else {
        free(*changed);
        *changed = NULL;
    }
    free(left);
    free(right);
    return ok;
}
