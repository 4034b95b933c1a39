// save_config.c - config.json and generation_config.json of a saved model.
#include "model/save_parts.h"
#include "model/source_parts.h"
#include <stdlib.h>
#include <string.h>

#define JSON_BYTES_MAX (16 << 20)

bool save_json(const json_t *value, const char *directory, const char *name, Error *error) {
    char *path = path_join(directory, name), *text = json_to_text(value);
    bool ok = path && text ? file_write_atomic(path, text, strlen(text), error) : error_memory(error, name, 4096);
    free(path);
    free(text);
    return ok;
}

// Sets a key; a NULL value (memory ran out while it was made) or a failure clears *ok.
static void set(json_t *object, bool *ok, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value) != 0) *ok = false;
}

static void set_integer(json_t *object, bool *ok, const char *key, int64_t value) {
    set(object, ok, key, json_integer(value));
}

// One end token as a number, several as a list; none as null.
static json_t *eos_value(const int32_t *eos, int count) {
    if (count == 0) return json_null();
    if (count == 1) return json_integer(eos[0]);
    json_t *list = json_array();
    for (int i = 0; i < count; i++) json_array_append_new(list, json_integer(eos[i]));
    return list;
}

// The decimal with the fewest digits that is this float: 1e-5, not 9.999999747378752e-06.
static double shortest_decimal(float value) {
    char text[32];
    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) return strtod(text, NULL);
    }
    return (double)value;
}

static void set_rope(json_t *object, bool *ok, const ModelConfig *config) {
    set(object, ok, "rope_theta", json_real(config->rope_theta));
    if (config->rope_scaling == ROPE_PLAIN) {
        set(object, ok, "rope_scaling", json_null());
        return;
    }
    json_t *rope = json_object();
    bool llama3 = config->rope_scaling == ROPE_LLAMA3;
    set(rope, ok, "rope_type", json_string(llama3 ? "llama3" : "linear"));
    set(rope, ok, "factor", json_real(config->rope_factor));
    if (llama3) {
        set(rope, ok, "low_freq_factor", json_real(config->rope_low_freq_factor));
        set(rope, ok, "high_freq_factor", json_real(config->rope_high_freq_factor));
        set_integer(rope, ok, "original_max_position_embeddings", config->rope_original_positions);
    }
    set(object, ok, "rope_scaling", rope);
}

static void set_tokens(json_t *object, bool *ok, const ModelConfig *config) {
    set(object, ok, "bos_token_id", config->bos < 0 ? json_null() : json_integer(config->bos));
    set(object, ok, "eos_token_id", eos_value(config->eos, config->eos_count));
    if (config->pad >= 0) set_integer(object, ok, "pad_token_id", config->pad);
}

// The whole configuration, for a model that came without one. NULL when memory runs out.
static json_t *make_config(const ModelConfig *config) {
    static const char *const ARCHITECTURES[] = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"};
    json_t *object = json_object();
    bool ok = object != NULL;
    set(object, &ok, "architectures", json_pack("[s]", ARCHITECTURES[config->family]));
    set(object, &ok, "model_type", json_string(model_family_name(config->family)));
    set_integer(object, &ok, "vocab_size", config->vocabulary);
    set_integer(object, &ok, "hidden_size", config->hidden);
    set_integer(object, &ok, "intermediate_size", config->intermediate);
    set_integer(object, &ok, "num_hidden_layers", config->layers);
    set_integer(object, &ok, "num_attention_heads", config->heads);
    set_integer(object, &ok, "num_key_value_heads", config->kv_heads);
    set_integer(object, &ok, "head_dim", config->head_dim);
    set(object, &ok, "hidden_act", json_string("silu"));
    set_integer(object, &ok, "max_position_embeddings", config->max_positions);
    set(object, &ok, "rms_norm_eps", json_real(shortest_decimal(config->norm_epsilon)));
    set_rope(object, &ok, config);
    set(object, &ok, "tie_word_embeddings", json_boolean(config->tied));
    if (config->family == FAMILY_LLAMA) {
        set(object, &ok, "attention_bias", json_boolean(config->qkv_bias));
        set(object, &ok, "mlp_bias", json_false());
    } else {
        set(object, &ok, "sliding_window", config->window ? json_integer(config->window) : json_null());
    }
    set_tokens(object, &ok, config);
    set(object, &ok, "initializer_range", json_real(0.02));
    set(object, &ok, "use_cache", json_true());
    set(object, &ok, "torch_dtype", json_string("bfloat16"));
    if (ok) return object;
    json_decref(object);
    return NULL;
}

static bool save_config(const ModelSource *source, const SaveOptions *options, const char *directory, Error *error) {
    json_t *config = source->json ? json_deep_copy(source->json) : make_config(&source->config);
    bool ok = config != NULL;
    // transformers 5 writes "dtype", older versions "torch_dtype"; both read both
    bool new_name = json_object_get(config, "dtype") != NULL, old_name = json_object_get(config, "torch_dtype") != NULL;
    if (new_name) set(config, &ok, "dtype", json_string("bfloat16"));
    if (old_name || !new_name) set(config, &ok, "torch_dtype", json_string("bfloat16"));
    if (options->eos_count) set(config, &ok, "eos_token_id", eos_value(options->eos, options->eos_count));
    ok = ok ? save_json(config, directory, "config.json", error) : error_memory(error, "config.json", 4096);
    json_decref(config);
    return ok;
}

// The source's generation_config.json, or NULL with *ok still true when it has none.
static json_t *read_generation(const ModelSource *source, bool *ok, Error *error) {
    if (source->kind != SOURCE_HUGGING_FACE) return NULL;
    char *path = path_join(source->path, "generation_config.json");
    json_t *generation = NULL;
    if (!path)
        *ok = error_memory(error, "a file name", strlen(source->path));
    else if (path_exists(path))
        *ok = (generation = json_read_file(path, JSON_BYTES_MAX, error)) != NULL;
    free(path);
    return generation;
}

static bool save_generation(const ModelSource *source, const SaveOptions *options, const char *directory,
                            Error *error) {
    bool ok = true, complete = true;
    json_t *generation = read_generation(source, &ok, error);
    if (!ok) return false;
    if (!generation) {
        generation = json_object();
        set(generation, &complete, "_from_model_config", json_true());
        set_tokens(generation, &complete, &source->config);
    }
    if (options->eos_count) set(generation, &complete, "eos_token_id", eos_value(options->eos, options->eos_count));
    ok = complete ? save_json(generation, directory, "generation_config.json", error)
                  : error_memory(error, "generation_config.json", 4096);
    json_decref(generation);
    return ok;
}

bool save_configurations(const ModelSource *source, const SaveOptions *options, const char *directory, Error *error) {
    return save_config(source, options, directory, error) && save_generation(source, options, directory, error);
}
