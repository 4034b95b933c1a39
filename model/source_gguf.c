// source_gguf.c - a GGUF file: its names for our tensors, and the order of the rows of its query and key heads.
#include "model/source_parts.h"
#include <stdio.h>
#include <string.h>

bool source_open_gguf(ModelSource *source, Error *error) {
    source->kind = SOURCE_GGUF;
    int64_t parts = 1;
    if (!gguf_open(&source->gguf, source->path, error) ||
        !gguf_get_integer(&source->gguf, "split.count", &parts, error))
        return false;
    if (parts > 1) {
        error_set(error, "%s: one of %lld parts of a model; split GGUF files are not supported", source->path,
                  (long long)parts);
        return error_hint(error, "join the parts: llama-gguf-split --merge %s model.gguf", source->path);
    }
    return model_config_from_gguf(&source->config, &source->gguf, error);
}

bool source_gguf_name(const char *name, char text[GGUF_NAME_MAX + 1]) {
    static const char *const NAMES[][2] = {
        {"model.embed_tokens.weight", "token_embd.weight"},
        {"model.norm.weight", "output_norm.weight"},
        {"lm_head.weight", "output.weight"},
        {"self_attn.q_proj.weight", "attn_q.weight"},
        {"self_attn.k_proj.weight", "attn_k.weight"},
        {"self_attn.v_proj.weight", "attn_v.weight"},
        {"self_attn.o_proj.weight", "attn_output.weight"},
        {"self_attn.q_proj.bias", "attn_q.bias"},
        {"self_attn.k_proj.bias", "attn_k.bias"},
        {"self_attn.v_proj.bias", "attn_v.bias"},
        {"self_attn.o_proj.bias", "attn_output.bias"},
        {"mlp.gate_proj.weight", "ffn_gate.weight"},
        {"mlp.up_proj.weight", "ffn_up.weight"},
        {"mlp.down_proj.weight", "ffn_down.weight"},
        {"input_layernorm.weight", "attn_norm.weight"},
        {"post_attention_layernorm.weight", "ffn_norm.weight"},
    };
    int layer = 0, length = 0;
    bool in_layer = sscanf(name, "model.layers.%d.%n", &layer, &length) == 1 && length > 0;
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        if (strcmp(in_layer ? name + length : name, NAMES[i][0]) != 0) continue;
        if (in_layer)
            snprintf(text, GGUF_NAME_MAX + 1, "blk.%d.%s", layer, NAMES[i][1]);
        else
            snprintf(text, GGUF_NAME_MAX + 1, "%s", NAMES[i][1]);
        return true;
    }
    return false;
}

int source_gguf_order(const ModelConfig *config, const char *name) {
    bool rotary = strstr(name, "attn_q.") || strstr(name, "attn_k.");
    return rotary && config->family != FAMILY_QWEN2 ? config->head_dim : 0;
}

bool source_find_gguf(const ModelSource *source, const BlockTensor *tensor, StoredTensor *stored, Error *error) {
    const GgufFile *file = &source->gguf;
    char name[GGUF_NAME_MAX + 1];
    const GgufTensor *found = source_gguf_name(tensor->name, name) ? gguf_tensor(file, name) : NULL;
    if (!found) return source_missing(file->where, name, tensor, error);
    bool fits = tensor->vector
                    ? found->dimensions == 1 && found->shape[0] == tensor->columns
                    : found->dimensions == 2 && found->shape[0] == tensor->rows && found->shape[1] == tensor->columns;
    if (!fits) return source_misshapen(file->where, name, found->shape, found->dimensions, tensor, error);
    *stored = (StoredTensor){
        .map = &file->map, .offset = found->offset, .bytes = found->bytes, .type = found->type, .interleaved = 0};
    stored->interleaved = source_gguf_order(&source->config, name);
    if (stored->interleaved && tensor->vector && found->type->block != 1)
        return error_set(error, "%s: the bias \"%s\" is stored as %s; F32, F16 and BF16 are supported", file->where,
                         name, found->type->name);
    return true;
}
