// config_check.c - what must hold for every configuration, wherever it was read.
#include "kernels/kernels.h"
#include "model/config_parts.h"
#include <inttypes.h>
#include <math.h>

#define HINT_CONFIG "take the model's own configuration file; this one was damaged or edited"

// With these bounds no product of two sizes leaves int64; block_layout checks the rest.
#define SIZE_MAX_HIDDEN     (1 << 20)
#define SIZE_MAX_VOCABULARY (1 << 24)
#define SIZE_MAX_POSITIONS  (1 << 26)

static bool check_range(const char *key, int64_t value, int64_t low, int64_t high, const char *where, Error *error) {
    if (value >= low && value <= high) return true;
    if (value == -1)
        error_set(error, "%s: \"%s\" is missing", where, key);
    else
        error_set(error, "%s: \"%s\" is %" PRId64 ", not in %" PRId64 " .. %" PRId64, where, key, value, low, high);
    return error_hint(error, HINT_CONFIG);
}

bool config_set_sizes(ModelConfig *config, const ConfigSizes *sizes, const char *where, Error *error) {
    ConfigSizes s = *sizes;
    if (!check_range("num_hidden_layers", s.layers, 1, MODEL_LAYERS_MAX, where, error) ||
        !check_range("num_attention_heads", s.heads, 1, 1024, where, error) ||
        !check_range("num_key_value_heads", s.kv_heads, 1, 1024, where, error) ||
        !check_range("hidden_size", s.hidden, 1, SIZE_MAX_HIDDEN, where, error) ||
        !check_range("intermediate_size", s.intermediate, 1, SIZE_MAX_HIDDEN, where, error) ||
        !check_range("vocab_size", s.vocabulary, 1, SIZE_MAX_VOCABULARY, where, error) ||
        !check_range("max_position_embeddings", s.max_positions, 1, SIZE_MAX_POSITIONS, where, error))
        return false;
    if (s.head_dim == 0) {
        if (s.hidden % s.heads) {
            error_set(error,
                      "%s: \"hidden_size\" (%" PRId64 ") is not a multiple of \"num_attention_heads\" (%" PRId64 ")",
                      where, s.hidden, s.heads);
            return error_hint(error, HINT_CONFIG);
        }
        s.head_dim = s.hidden / s.heads;
    }
    if (!check_range("head_dim", s.head_dim, 2, HEAD_DIM_LIMIT, where, error)) return false;
    if (s.head_dim % 2) {
        error_set(error, "%s: \"head_dim\" (%" PRId64 ") is odd", where, s.head_dim);
        return error_hint(error, HINT_CONFIG);
    }
    if (s.heads % s.kv_heads) {
        error_set(error,
                  "%s: \"num_attention_heads\" (%" PRId64 ") is not a multiple of \"num_key_value_heads\" (%" PRId64
                  ")",
                  where, s.heads, s.kv_heads);
        return error_hint(error, HINT_CONFIG);
    }
    config->layers = (int)s.layers;
    config->heads = (int)s.heads;
    config->kv_heads = (int)s.kv_heads;
    config->head_dim = (int)s.head_dim;
    config->hidden = s.hidden;
    config->intermediate = s.intermediate;
    config->vocabulary = s.vocabulary;
    config->max_positions = s.max_positions;
    return true;
}

static int32_t token_or_none(const ModelConfig *config, int64_t id) {
    return id >= 0 && id < config->vocabulary ? (int32_t)id : -1;
}

bool config_set_numbers(ModelConfig *config, double norm_epsilon, double rope_theta, int64_t bos, int64_t pad,
                        const char *where, Error *error) {
    if (!(norm_epsilon > 0 && norm_epsilon < 1)) {
        error_set(error, "%s: \"rms_norm_eps\" is %g, not in (0, 1)", where, norm_epsilon);
        return error_hint(error, HINT_CONFIG);
    }
    if (!(rope_theta > 0 && rope_theta < 1e15)) {
        error_set(error, "%s: \"rope_theta\" is %g, not a positive number", where, rope_theta);
        return error_hint(error, HINT_CONFIG);
    }
    config->norm_epsilon = (float)norm_epsilon;
    config->rope_theta = rope_theta;
    config->bos = token_or_none(config, bos);
    config->pad = token_or_none(config, pad);
    return true;
}

bool config_add_eos(ModelConfig *config, int64_t id, const char *where, Error *error) {
    if (id < 0 || id >= config->vocabulary) {
        error_set(error, "%s: \"eos_token_id\" %" PRId64 " is not in the vocabulary of %" PRId64, where, id,
                  config->vocabulary);
        return error_hint(error, HINT_CONFIG);
    }
    for (int i = 0; i < config->eos_count; i++)
        if (config->eos[i] == id) return true;
    if (config->eos_count == MODEL_EOS_MAX)
        return error_set(error, "%s: \"eos_token_id\" lists more than %d tokens", where, MODEL_EOS_MAX);
    config->eos[config->eos_count++] = (int32_t)id;
    return true;
}

bool config_check_rope(const ModelConfig *config, const char *where, Error *error) {
    if (config->rope_scaling == ROPE_PLAIN) return true;
    bool ok = config->rope_factor >= 1 && config->rope_factor < 1e6;
    if (config->rope_scaling == ROPE_LLAMA3)
        ok = ok && config->rope_low_freq_factor > 0 && isfinite(config->rope_high_freq_factor) &&
             config->rope_high_freq_factor > config->rope_low_freq_factor && config->rope_original_positions > 0;
    if (ok) return true;
    error_set(
        error, "%s: the %s rope scaling needs %s", where, config->rope_scaling == ROPE_LINEAR ? "linear" : "llama3",
        config->rope_scaling == ROPE_LINEAR ? "\"factor\" >= 1"
                                            : "\"factor\" >= 1, 0 < \"low_freq_factor\" < \"high_freq_factor\" and "
                                              "\"original_max_position_embeddings\" > 0");
    return error_hint(error, HINT_CONFIG);
}

const char *model_family_name(ModelFamily family) {
    static const char *const NAMES[] = {"llama", "mistral", "qwen2"};
    return NAMES[family];
}

int64_t model_parameters(const ModelConfig *config) {
    int64_t d = config->hidden, q = (int64_t)config->heads * config->head_dim;
    int64_t kv = (int64_t)config->kv_heads * config->head_dim;
    int64_t layer = d * (q + 2 * kv) + q * d + 3 * d * config->intermediate + 2 * d;
    if (config->qkv_bias) layer += q + 2 * kv;
    if (config->output_bias) layer += d;
    return config->layers * layer + (config->tied ? 1 : 2) * config->vocabulary * d + d;
}

bool model_config_fits(const ModelConfig *config, const Backend *backend, Error *error) {
    if (config->head_dim % backend->head_multiple == 0) return true;
    error_set(error, "the model's head_dim of %d is not a multiple of %d, as the %s backend needs it", config->head_dim,
              backend->head_multiple, backend->name);
    return error_hint(error, "use --device cpu");
}
