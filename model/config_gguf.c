// config_gguf.c - the configuration from the metadata of a GGUF file (llama.cpp's keys, gguf.md).
#include "model/config_parts.h"
#include <stdio.h>
#include <string.h>

// The metadata of one architecture: keys are "<architecture>.<key>".
typedef struct Metadata {
    const GgufFile *file;
    const char *architecture;
    Error *error;
} Metadata;

static bool get_integer(const Metadata *metadata, const char *key, int64_t *value) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", metadata->architecture, key);
    return gguf_get_integer(metadata->file, name, value, metadata->error);
}

static bool get_number(const Metadata *metadata, const char *key, double *value) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", metadata->architecture, key);
    return gguf_get_number(metadata->file, name, value, metadata->error);
}

static bool read_architecture(ModelConfig *config, Metadata *metadata) {
    GgufString name = {"(none)", 6};
    if (!gguf_get_string(metadata->file, "general.architecture", &name, metadata->error)) return false;
    if (gguf_string_equals(name, "llama"))
        config->family = FAMILY_LLAMA;
    else if (gguf_string_equals(name, "qwen2"))
        config->family = FAMILY_QWEN2;
    else {
        error_set(metadata->error, "%s: the architecture %.*s is not supported (supported: llama, qwen2)",
                  metadata->file->where, name.size > 64 ? 64 : (int)name.size, name.data);
        return error_hint(metadata->error, "take a model of the LLaMA, Mistral or Qwen2 family");
    }
    metadata->architecture = model_family_name(config->family);
    return true;
}

static bool read_sizes(ModelConfig *config, const Metadata *metadata) {
    ConfigSizes sizes = {-1, -1, -1, 0, -1, -1, -1, -1};
    int64_t value_length = 0, rotated = 0, experts = 0;
    const char *where = metadata->file->where;
    const GgufTensor *embedding = gguf_tensor(metadata->file, "token_embd.weight");
    if (embedding && embedding->dimensions == 2) sizes.vocabulary = embedding->shape[0];
    if (!get_integer(metadata, "block_count", &sizes.layers) ||
        !get_integer(metadata, "attention.head_count", &sizes.heads) ||
        !get_integer(metadata, "attention.key_length", &sizes.head_dim) ||
        !get_integer(metadata, "embedding_length", &sizes.hidden) ||
        !get_integer(metadata, "feed_forward_length", &sizes.intermediate) ||
        !get_integer(metadata, "context_length", &sizes.max_positions) ||
        !get_integer(metadata, "attention.value_length", &value_length) ||
        !get_integer(metadata, "rope.dimension_count", &rotated) || !get_integer(metadata, "expert_count", &experts))
        return false;
    sizes.kv_heads = sizes.heads;
    if (!get_integer(metadata, "attention.head_count_kv", &sizes.kv_heads) ||
        !config_set_sizes(config, &sizes, where, metadata->error))
        return false;
    if ((rotated && rotated != config->head_dim) || (value_length && value_length != config->head_dim))
        return error_set(metadata->error,
                         "%s: rotary or value heads of another size than the %d of the key heads are "
                         "not supported",
                         where, config->head_dim);
    if (experts) {
        error_set(metadata->error, "%s: a mixture of %lld experts is not supported", where, (long long)experts);
        return error_hint(metadata->error, "take a dense model of the LLaMA, Mistral or Qwen2 family");
    }
    return true;
}

static bool read_tokens(ModelConfig *config, const Metadata *metadata, double epsilon, double theta) {
    static const char *const ENDS[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    const GgufFile *file = metadata->file;
    int64_t bos = -1, pad = -1;
    if (!gguf_get_integer(file, "tokenizer.ggml.bos_token_id", &bos, metadata->error) ||
        !gguf_get_integer(file, "tokenizer.ggml.padding_token_id", &pad, metadata->error) ||
        !config_set_numbers(config, epsilon, theta, bos, pad, file->where, metadata->error))
        return false;
    for (size_t i = 0; i < sizeof ENDS / sizeof *ENDS; i++) {
        int64_t id = -1;
        if (!gguf_get_integer(file, ENDS[i], &id, metadata->error)) return false;
        if (id != -1 && !config_add_eos(config, id, file->where, metadata->error)) return false;
    }
    return true;
}

// The numbers of rope_freqs.weight, or NULL when there is no such tensor or it is not [D / 2] floats.
static const float *rope_factors(const ModelConfig *config, const GgufFile *file) {
    const GgufTensor *tensor = gguf_tensor(file, "rope_freqs.weight");
    if (!tensor || tensor->type->type != GGML_F32 || tensor->elements != config->head_dim / 2) return NULL;
    return (const float *)(const void *)(file->map.data + tensor->offset);
}

static bool read_rope(ModelConfig *config, const Metadata *metadata) {
    const GgufFile *file = metadata->file;
    char key[96];
    GgufString type = {"none", 4};
    double factor = 1;
    snprintf(key, sizeof key, "%s.rope.scaling.type", metadata->architecture);
    if (!gguf_get_string(file, key, &type, metadata->error) || !get_number(metadata, "rope.scale_linear", &factor) ||
        !get_number(metadata, "rope.scaling.factor", &factor))
        return false;
    if (!gguf_string_equals(type, "none") && !gguf_string_equals(type, "linear")) {
        error_set(metadata->error,
                  "%s: the rope type \"%.*s\" is not supported (supported: none, linear, and llama3's "
                  "factors)",
                  file->where, type.size > 64 ? 64 : (int)type.size, type.data);
        return error_hint(metadata->error, "take another model of this family, or a version with a shorter context");
    }
    if (factor != 1) {
        config->rope_scaling = ROPE_LINEAR;
        config->rope_factor = factor;
    }
    if (!config_check_rope(config, file->where, metadata->error)) return false;
    const float *factors = rope_factors(config, file);
    if (!factors && gguf_tensor(file, "rope_freqs.weight"))
        return error_set(metadata->error, "%s: the tensor \"rope_freqs.weight\" must hold %d F32 numbers", file->where,
                         config->head_dim / 2);
    return !factors || config_rope_from_factors(config, factors, file->where, metadata->error);
}

bool model_config_from_gguf(ModelConfig *config, const GgufFile *file, Error *error) {
    *config = (ModelConfig){.bos = -1, .pad = -1};
    Metadata metadata = {file, "", error};
    double epsilon = 0, theta = 10000;
    int64_t window = 0;
    if (!read_architecture(config, &metadata) || !read_sizes(config, &metadata) ||
        !get_number(&metadata, "attention.layer_norm_rms_epsilon", &epsilon) ||
        !get_number(&metadata, "rope.freq_base", &theta) || !read_tokens(config, &metadata, epsilon, theta) ||
        !read_rope(config, &metadata) || !get_integer(&metadata, "attention.sliding_window", &window))
        return false;
    config->tied = gguf_tensor(file, "output.weight") == NULL;
    config->qkv_bias = gguf_tensor(file, "blk.0.attn_q.bias") != NULL;
    config->output_bias = gguf_tensor(file, "blk.0.attn_output.bias") != NULL;
    if (config->family == FAMILY_LLAMA ? config->qkv_bias != config->output_bias
                                       : !config->qkv_bias || config->output_bias)
        return error_set(error, "%s: this choice of attention biases is not one of the architecture %s", file->where,
                         metadata.architecture);
    if (config->family == FAMILY_LLAMA && window > 0 && window <= INT32_MAX) { // Mistral is stored as llama
        config->family = FAMILY_MISTRAL;
        config->window = (int)window;
        for (int i = 0; i < config->layers; i++) config->windowed[i] = true;
    }
    return true;
}
