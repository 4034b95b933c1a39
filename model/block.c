// block.c - see block.h.
#include "model/block.h"
#include "base/numbers.h"
#include <stdio.h>

#define TENSOR_ALIGNMENT 128 // elements: 256 bytes of bf16

// A block's tensors are laid one after the other; `end` is the first free element.
typedef struct Placing {
    int64_t end;
    bool overflow;
} Placing;

static TensorSpan place(Placing *placing, int64_t rows, int64_t columns) {
    TensorSpan span = {placing->end, rows, columns};
    int64_t elements, end;
    if (__builtin_mul_overflow(rows, columns, &elements) || __builtin_add_overflow(placing->end, elements, &end) ||
        end > INT64_MAX / 16) {
        placing->overflow = true;
        return span;
    }
    placing->end = round_up(end, TENSOR_ALIGNMENT);
    return span;
}

static void place_layer(LayerLayout *layer, const ModelConfig *config, Placing *placing) {
    int64_t d = config->hidden, f = config->intermediate;
    int64_t q = (int64_t)config->heads * config->head_dim, kv = (int64_t)config->kv_heads * config->head_dim;
    layer->qkv = place(placing, q + 2 * kv, d);
    layer->output = place(placing, d, q);
    layer->gate_up = place(placing, 2 * f, d);
    layer->down = place(placing, d, f);
    layer->decayed = placing->end;
    if (config->qkv_bias) layer->qkv_bias = place(placing, 1, q + 2 * kv);
    if (config->output_bias) layer->output_bias = place(placing, 1, d);
    layer->attention_norm = place(placing, 1, d);
    layer->mlp_norm = place(placing, 1, d);
    layer->elements = placing->end;
}

bool block_layout(BlockLayout *layout, const ModelConfig *config, Error *error) {
    *layout = (BlockLayout){.layers = config->layers};
    Placing embedding = {0}, layer = {0}, head = {0};
    layout->embedding = place(&embedding, config->vocabulary, config->hidden);
    layout->embedding_elements = embedding.end;
    place_layer(&layout->layer, config, &layer);
    if (!config->tied) layout->head = place(&head, config->vocabulary, config->hidden);
    layout->head_decayed = head.end;
    layout->final_norm = place(&head, 1, config->hidden);
    layout->head_elements = head.end;
    if (embedding.overflow || layer.overflow || head.overflow)
        return error_set(error, "the model's sizes are too large for this machine's arithmetic");
    return true;
}

int64_t block_elements(const BlockLayout *layout, int block) {
    if (block == 0) return layout->embedding_elements;
    return block == block_count(layout) - 1 ? layout->head_elements : layout->layer.elements;
}

int64_t block_decayed(const BlockLayout *layout, int block) {
    if (block == 0) return layout->embedding_elements;
    return block == block_count(layout) - 1 ? layout->head_decayed : layout->layer.decayed;
}

// Appends rows [first, first + rows) of a span under a name; layer < 0 when the name has no layer number.
static int append(BlockTensor *tensors, int count, int layer, const char *name, const TensorSpan *span, int64_t first,
                  int64_t rows, bool vector) {
    BlockTensor *tensor = &tensors[count];
    *tensor = (BlockTensor){.offset = span->offset + first * (vector ? 1 : span->columns),
                            .rows = vector ? 1 : rows,
                            .columns = vector ? rows : span->columns,
                            .vector = vector};
    if (layer < 0)
        snprintf(tensor->name, sizeof tensor->name, "%s", name);
    else
        snprintf(tensor->name, sizeof tensor->name, "model.layers.%d.%s", layer, name);
    return count + 1;
}

static int layer_tensors(const LayerLayout *layout, const ModelConfig *config, int layer, BlockTensor *t) {
    int64_t d = config->hidden, f = config->intermediate;
    int64_t q = (int64_t)config->heads * config->head_dim, kv = (int64_t)config->kv_heads * config->head_dim;
    int n = 0;
    n = append(t, n, layer, "self_attn.q_proj.weight", &layout->qkv, 0, q, false);
    n = append(t, n, layer, "self_attn.k_proj.weight", &layout->qkv, q, kv, false);
    n = append(t, n, layer, "self_attn.v_proj.weight", &layout->qkv, q + kv, kv, false);
    n = append(t, n, layer, "self_attn.o_proj.weight", &layout->output, 0, d, false);
    n = append(t, n, layer, "mlp.gate_proj.weight", &layout->gate_up, 0, f, false);
    n = append(t, n, layer, "mlp.up_proj.weight", &layout->gate_up, f, f, false);
    n = append(t, n, layer, "mlp.down_proj.weight", &layout->down, 0, d, false);
    if (config->qkv_bias) {
        n = append(t, n, layer, "self_attn.q_proj.bias", &layout->qkv_bias, 0, q, true);
        n = append(t, n, layer, "self_attn.k_proj.bias", &layout->qkv_bias, q, kv, true);
        n = append(t, n, layer, "self_attn.v_proj.bias", &layout->qkv_bias, q + kv, kv, true);
    }
    if (config->output_bias) n = append(t, n, layer, "self_attn.o_proj.bias", &layout->output_bias, 0, d, true);
    n = append(t, n, layer, "input_layernorm.weight", &layout->attention_norm, 0, d, true);
    return append(t, n, layer, "post_attention_layernorm.weight", &layout->mlp_norm, 0, d, true);
}

int block_tensors(const BlockLayout *layout, const ModelConfig *config, int block,
                  BlockTensor tensors[BLOCK_TENSORS_MAX]) {
    int64_t vocabulary = config->vocabulary;
    if (block == 0)
        return append(tensors, 0, -1, "model.embed_tokens.weight", &layout->embedding, 0, vocabulary, false);
    if (block < block_count(layout) - 1) return layer_tensors(&layout->layer, config, block - 1, tensors);
    int n = 0;
    if (!config->tied) n = append(tensors, n, -1, "lm_head.weight", &layout->head, 0, vocabulary, false);
    return append(tensors, n, -1, "model.norm.weight", &layout->final_norm, 0, config->hidden, true);
}
