// block.h - the layout of a block: where each tensor of E, a decoder layer or H lies in one run of bf16 weights.
//
// Block 0 is the embedding E, blocks 1 .. L the decoder layers, block L + 1 the head H (final norm + output matrix;
// the norm alone when the model is tied). Matrices that are decayed come first, then biases and norm gains. Each tensor
// starts on 256 bytes; the padding holds zeros and stays zero. A slot's gradient, m, v and low bits have the same
// element offsets.
#pragma once
#include "model/config.h"
#include <stddef.h>
#include <stdint.h>

typedef struct TensorSpan {
    int64_t offset; // in elements from the start of the block
    int64_t rows;   // 1 for a vector; 0 when the model has no such tensor
    int64_t columns;
} TensorSpan;

typedef struct LayerLayout {
    TensorSpan qkv;            // [(H + 2K) D, d]: rows of q, then k, then v
    TensorSpan output;         // [d, H D]
    TensorSpan gate_up;        // [2f, d]: rows of gate, then up
    TensorSpan down;           // [d, f]
    TensorSpan qkv_bias;       // [(H + 2K) D]
    TensorSpan output_bias;    // [d]
    TensorSpan attention_norm; // [d], before attention (input_layernorm)
    TensorSpan mlp_norm;       // [d], before the MLP (post_attention_layernorm)
    int64_t decayed;           // elements [0, decayed) are matrices
    int64_t elements;          // of the whole block, padding included
} LayerLayout;

typedef struct BlockLayout {
    TensorSpan embedding; // in E: [V, d]
    int64_t embedding_elements;
    LayerLayout layer;     // every decoder layer has the same
    TensorSpan head;       // in H: [V, d], rows 0 when tied
    TensorSpan final_norm; // in H: [d]
    int64_t head_decayed;
    int64_t head_elements;
    int layers;
} BlockLayout;

// false when a size overflows.
bool block_layout(BlockLayout *layout, const ModelConfig *config, Error *error);

static inline int block_count(const BlockLayout *layout) {
    return layout->layers + 2;
}
static inline int block_of_layer(int layer) {
    return layer + 1;
}
int64_t block_elements(const BlockLayout *layout, int block);
int64_t block_decayed(const BlockLayout *layout, int block); // how many leading elements are decayed

// ---- the names under which Hugging Face stores the tensors of a block ----

typedef struct BlockTensor {
    char name[96];  // "model.layers.3.self_attn.q_proj.weight"
    int64_t offset; // elements from the start of the block: HF's q, k, v (gate, up) are row ranges of our qkv (gate_up)
    int64_t rows;   // 1 for a vector
    int64_t columns;
    bool vector; // stored with one dimension
} BlockTensor;

#define BLOCK_TENSORS_MAX 16
// Lists the Hugging Face tensors of a block in a fixed order; returns how many.
int block_tensors(const BlockLayout *layout, const ModelConfig *config, int block,
                  BlockTensor tensors[BLOCK_TENSORS_MAX]);
