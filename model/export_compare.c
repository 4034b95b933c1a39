// export_compare.c - which tensors of two models differ, and checksums of weights.
#include "model/export_parts.h"
#include <stdlib.h>
#include <zlib.h>

uint32_t export_block_checksum(const ModelSource *source, int block, const bf16 *weights) {
    BlockTensor tensors[BLOCK_TENSORS_MAX];
    int count = block_tensors(&source->layout, &source->config, block, tensors);
    uLong crc = crc32_z(0, NULL, 0);
    for (int i = 0; i < count; i++)
        crc = crc32_z(crc, (const void *)(weights + tensors[i].offset),
                      (size_t)(tensors[i].rows * tensors[i].columns) * sizeof *weights);
    return (uint32_t)crc;
}

static void compare_blocks(const ModelSource *source, const ModelSource *base, ThreadPool *threads, bf16 *left,
                           bf16 *right, ModelDifference *difference) {
    for (int block = 0; block < block_count(&source->layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(&source->layout, &source->config, block, tensors);
        source_load_block(source, block, left, threads);
        source_load_block(base, block, right, threads);
        difference->checksums[block] = export_block_checksum(base, block, right);
        for (int i = 0; i < count; i++) {
            size_t bytes = (size_t)(tensors[i].rows * tensors[i].columns) * sizeof *left;
            bool differs = memcmp(left + tensors[i].offset, right + tensors[i].offset, bytes) != 0;
            difference->changed[block * BLOCK_TENSORS_MAX + i] = differs;
            difference->tensors += differs;
        }
    }
}

bool model_compare(const ModelSource *source, const ModelSource *base, ThreadPool *threads, ModelDifference *difference,
                   Error *error) {
    size_t blocks = (size_t)block_count(&source->layout);
    size_t bytes = (size_t)source_largest_block(source) * sizeof(bf16);
    *difference = (ModelDifference){0};
    if (!source_same_layout(base, &source->layout)) {
        error_set(error, "base %s has other shapes than %s", base->path, source->path);
        return error_hint(error, "name the model that it was trained from as base");
    }
    bf16 *left = malloc(bytes), *right = malloc(bytes);
    difference->changed = calloc(blocks * BLOCK_TENSORS_MAX, sizeof *difference->changed);
    difference->checksums = calloc(blocks, sizeof *difference->checksums);
    bool ok = (left && right && difference->changed && difference->checksums) ||
              error_memory(error, "two blocks of weights", 2 * bytes);
    if (ok) compare_blocks(source, base, threads, left, right, difference);
    free(left);
    free(right);
    return ok;
}

void model_difference_free(ModelDifference *difference) {
    free(difference->changed);
    free(difference->checksums);
    *difference = (ModelDifference){0};
}
