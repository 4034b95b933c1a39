// text_blocks.c - see text_blocks.h.
#include "data/text_blocks.h"
#include <stdlib.h>

bool text_blocks_create(TextBlocks *blocks, DatasetBuilder *builder, int64_t capacity, Error *error) {
    *blocks = (TextBlocks){.builder = builder, .capacity = capacity, .bos = -1, .eos = -1};
    blocks->ids = calloc((size_t)capacity, sizeof *blocks->ids);
    blocks->trained = calloc((size_t)capacity, 1);
    if (blocks->ids && blocks->trained) return true;
    text_blocks_free(blocks);
    return error_memory(error, "a sequence of cutoff_len tokens", (size_t)capacity * sizeof *blocks->ids);
}

void text_blocks_free(TextBlocks *blocks) {
    free(blocks->ids);
    free(blocks->trained);
    *blocks = (TextBlocks){0};
}

static void put(TextBlocks *blocks, int32_t id, bool target) {
    blocks->ids[blocks->used] = id;
    blocks->trained[blocks->used++] = target;
}

bool text_blocks_finish(TextBlocks *blocks, Error *error) {
    int64_t count = blocks->used;
    blocks->used = 0;
    return count < 2 || dataset_builder_add(blocks->builder, blocks->ids, blocks->trained, count, error);
}

bool text_blocks_add(TextBlocks *blocks, const int32_t *ids, int64_t count, Error *error) {
    for (int64_t i = 0; i < count; i++) {
        if (blocks->used == blocks->capacity && !text_blocks_finish(blocks, error)) return false;
        if (blocks->used == 0 && blocks->bos >= 0) put(blocks, blocks->bos, false);
        put(blocks, ids[i], true);
    }
    return true;
}

bool text_blocks_end_text(TextBlocks *blocks, Error *error) {
    if (blocks->eos >= 0 && !text_blocks_add(blocks, &blocks->eos, 1, error)) return false;
    return blocks->across || text_blocks_finish(blocks, error);
}
