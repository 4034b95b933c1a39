// config.c - reading config.json. Missing keys have the defaults of transformers' configuration classes.
#include "model/config_parts.h"
#include <string.h>

#define SUPPORTED "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM"

static const struct {
    const char *architecture;
    const char *model_type;
    ModelFamily family;
} ARCHITECTURES[] = {
    {"LlamaForCausalLM", "llama", FAMILY_LLAMA},
    {"LLaMAForCausalLM", "llama", FAMILY_LLAMA}, // the first conversions of LLaMA 1
    {"MistralForCausalLM", "mistral", FAMILY_MISTRAL},
    {"Qwen2ForCausalLM", "qwen2", FAMILY_QWEN2},
};

// From "architectures", or from "model_type" where there is none.
static bool read_family(ModelConfig *config, const json_t *object, const char *where, Error *error) {
    const char *architecture = json_string_value(json_array_get(json_object_get(object, "architectures"), 0));
    const char *model_type = json_string_value(json_object_get(object, "model_type"));
    for (size_t i = 0; i < sizeof ARCHITECTURES / sizeof *ARCHITECTURES; i++) {
        const char *known = architecture ? ARCHITECTURES[i].architecture : ARCHITECTURES[i].model_type;
        const char *found = architecture ? architecture : model_type;
        if (!found || strcmp(found, known) != 0) continue;
        config->family = ARCHITECTURES[i].family;
        return true;
    }
    if (architecture || model_type)
        error_set(error, "%s: the architecture %s is not supported (supported: " SUPPORTED ")", where,
                  architecture ? architecture : model_type);
    else
        error_set(error, "%s: neither \"architectures\" nor \"model_type\" is there", where);
    return error_hint(error, "take a model of the LLaMA, Mistral or Qwen2 family, for example "
                             "HuggingFaceTB/SmolLM2-135M-Instruct");
}

static bool read_sizes(ModelConfig *config, const json_t *object, const char *where, Error *error) {
    static const int64_t POSITIONS[] = {2048, 131072, 32768}, KV_HEADS[] = {0, 8, 32}; // by family; 0: as heads
    ConfigSizes sizes = {-1, -1, -1, 0, -1, -1, -1, POSITIONS[config->family]};
    if (!json_get_integer(object, "num_hidden_layers", &sizes.layers, where, error) ||
        !json_get_integer(object, "num_attention_heads", &sizes.heads, where, error) ||
        !json_get_integer(object, "head_dim", &sizes.head_dim, where, error) ||
        !json_get_integer(object, "hidden_size", &sizes.hidden, where, error) ||
        !json_get_integer(object, "intermediate_size", &sizes.intermediate, where, error) ||
        !json_get_integer(object, "vocab_size", &sizes.vocabulary, where, error) ||
        !json_get_integer(object, "max_position_embeddings", &sizes.max_positions, where, error))
        return false;
    bool null_kv_heads = json_is_null(json_object_get(object, "num_key_value_heads"));
    sizes.kv_heads = null_kv_heads || KV_HEADS[config->family] == 0 ? sizes.heads : KV_HEADS[config->family];
    return json_get_integer(object, "num_key_value_heads", &sizes.kv_heads, where, error) &&
           config_set_sizes(config, &sizes, where, error);
}

static bool read_numbers(ModelConfig *config, const json_t *object, const char *where, Error *error) {
    double epsilon = 1e-6, theta = 10000;
    int64_t bos = config->family == FAMILY_QWEN2 ? -1 : 1, pad = -1;
    if (json_is_null(json_object_get(object, "bos_token_id"))) bos = -1;
    const json_t *rope = json_object_get(object, "rope_parameters");
    return json_get_number(object, "rms_norm_eps", &epsilon, where, error) &&
           json_get_number(object, "rope_theta", &theta, where, error) &&
           (!json_is_object(rope) || json_get_number(rope, "rope_theta", &theta, where, error)) &&
           json_get_integer(object, "bos_token_id", &bos, where, error) &&
           json_get_integer(object, "pad_token_id", &pad, where, error) &&
           json_get_boolean(object, "tie_word_embeddings", &config->tied, where, error) &&
           config_set_numbers(config, epsilon, theta, bos, pad, where, error);
}

static bool read_eos(ModelConfig *config, const json_t *object, const char *where, Error *error) {
    const json_t *eos = json_object_get(object, "eos_token_id");
    if (!eos) return config->family == FAMILY_QWEN2 || config_add_eos(config, 2, where, error);
    if (json_is_null(eos)) return true;
    if (json_is_integer(eos)) return config_add_eos(config, json_integer_value(eos), where, error);
    for (size_t i = 0; i < json_array_size(eos); i++) {
        const json_t *id = json_array_get(eos, i);
        if (!json_is_integer(id)) break;
        if (!config_add_eos(config, json_integer_value(id), where, error)) return false;
        if (i + 1 == json_array_size(eos)) return true;
    }
    return error_set(error, "%s: \"eos_token_id\" must be an integer or a list of integers", where);
}

// The switches that change the mathematics: biases, activation, quantised weights.
static bool read_switches(ModelConfig *config, const json_t *object, const char *where, Error *error) {
    const char *activation = "silu";
    bool attention_bias = false, mlp_bias = false;
    if (!json_get_string(object, "hidden_act", &activation, where, error)) return false;
    if (strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0) {
        error_set(error, "%s: \"hidden_act\": \"%s\" is not supported (supported: silu)", where, activation);
        return error_hint(error, "take another model of this family");
    }
    if (config->family == FAMILY_LLAMA && (!json_get_boolean(object, "attention_bias", &attention_bias, where, error) ||
                                           !json_get_boolean(object, "mlp_bias", &mlp_bias, where, error)))
        return false;
    if (mlp_bias) {
        error_set(error, "%s: \"mlp_bias\": true is not supported", where);
        return error_hint(error, "take another model of this family");
    }
    config->output_bias = attention_bias;
    config->qkv_bias = attention_bias || config->family == FAMILY_QWEN2;
    const json_t *quantisation = json_object_get(object, "quantization_config");
    if (quantisation && !json_is_null(quantisation)) {
        const char *method = json_string_value(json_object_get(quantisation, "quant_method"));
        error_set(error, "%s: the weights are quantised (%s) and cannot be trained", where,
                  method ? method : "\"quantization_config\"");
        return error_hint(error, "take the model's unquantised weights, or a GGUF file of it");
    }
    return true;
}

// Qwen2 windows the layers from max_window_layers on, or those that layer_types names.
static bool read_layer_types(ModelConfig *config, const json_t *object, const char *where, Error *error) {
    int64_t first = 28;
    if (!json_get_integer(object, "max_window_layers", &first, where, error)) return false;
    for (int i = 0; i < config->layers; i++) config->windowed[i] = i >= first;
    const json_t *types = json_object_get(object, "layer_types");
    if (!types || json_is_null(types)) return true;
    if (json_array_size(types) != (size_t)config->layers)
        return error_set(error, "%s: \"layer_types\" must list %d layers", where, config->layers);
    for (int i = 0; i < config->layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        bool sliding = type && !strcmp(type, "sliding_attention");
        if (!sliding && (!type || strcmp(type, "full_attention") != 0)) {
            error_set(error,
                      "%s: \"layer_types\": \"%s\" is not supported (supported: full_attention, "
                      "sliding_attention)",
                      where, type ? type : "?");
            return error_hint(error, "take another model of this family");
        }
        config->windowed[i] = sliding;
    }
    return true;
}

static bool read_window(ModelConfig *config, const json_t *object, const char *where, Error *error) {
    if (config->family == FAMILY_LLAMA) return true;
    bool use = config->family == FAMILY_MISTRAL;
    int64_t window = json_is_null(json_object_get(object, "sliding_window")) ? 0 : 4096;
    if (!json_get_integer(object, "sliding_window", &window, where, error) ||
        !json_get_boolean(object, "use_sliding_window", &use, where, error))
        return false;
    if (!use || window == 0) return true;
    if (window < 0 || window > INT32_MAX)
        return error_set(error, "%s: \"sliding_window\" is %lld, not a number of tokens", where, (long long)window);
    if (config->family == FAMILY_QWEN2 && !read_layer_types(config, object, where, error)) return false;
    if (config->family == FAMILY_MISTRAL)
        for (int i = 0; i < config->layers; i++) config->windowed[i] = true;
    for (int i = 0; i < config->layers; i++)
        if (config->windowed[i]) config->window = (int)window;
    return true;
}

bool model_config_from_json(ModelConfig *config, const json_t *object, const char *where, Error *error) {
    *config = (ModelConfig){.bos = -1, .pad = -1};
    if (!json_is_object(object)) return error_set(error, "%s: must be a JSON object", where);
    return read_family(config, object, where, error) && read_sizes(config, object, where, error) &&
           read_numbers(config, object, where, error) && read_eos(config, object, where, error) &&
           read_switches(config, object, where, error) && read_window(config, object, where, error) &&
           config_read_rope(config, object, where, error);
}
