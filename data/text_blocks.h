// text_blocks.h - the tokens of texts cut into examples of a fixed length, as pre-training data is.
//
// Every token is a target. Where the tokenizer adds BOS to texts each block starts with one; EOS follows each text. As
// LLaMA-Factory's stage pt does it, except that no token is dropped: the last block is shorter instead, and BOS is put
// before a block's first token, not in its place.
#pragma once
#include "data/dataset_builder.h"

typedef struct TextBlocks {
    DatasetBuilder *builder; // where the blocks go
    int64_t capacity;        // tokens of a block, BOS included; >= 2
    int32_t bos, eos;        // -1: none
    bool across;             // texts share blocks
    int32_t *ids;            // [capacity] the block being filled
    uint8_t *trained;        // [capacity]
    int64_t used;            // tokens in it
} TextBlocks;

bool text_blocks_create(TextBlocks *blocks, DatasetBuilder *builder, int64_t capacity, Error *error);
void text_blocks_free(TextBlocks *blocks);
// Appends tokens of the current text. All of these fail only when memory runs out.
bool text_blocks_add(TextBlocks *blocks, const int32_t *ids, int64_t count, Error *error);
bool text_blocks_end_text(TextBlocks *blocks, Error *error);
// Turns what is left into a last block. A lone token, which nothing can be learnt from, is left out.
bool text_blocks_finish(TextBlocks *blocks, Error *error);
