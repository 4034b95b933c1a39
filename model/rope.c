// rope.c - rotary position embedding: reading its scaling, and the tables of cosines and sines.
//
// transformers computes frequencies and angles in fp32 and so do we: at position 8000 the rounding of an angle moves it
// by up to 2^-12, so a table in higher precision would be another model than the one that was trained.
#include "model/config_parts.h"
#include <math.h>
#include <string.h>

#define TWO_PI 6.283185307179586476925286766559

bool config_read_rope(ModelConfig *config, const json_t *object, const char *where, Error *error) {
    const json_t *rope = json_object_get(object, "rope_scaling"); // the older spelling wins, as in transformers
    if (!json_is_object(rope)) rope = json_object_get(object, "rope_parameters");
    if (!json_is_object(rope)) return true;
    const char *type = "default";
    double partial = 1;
    config->rope_original_positions = config->max_positions;
    if (!json_get_string(rope, "type", &type, where, error) ||
        !json_get_string(rope, "rope_type", &type, where, error) ||
        !json_get_number(rope, "rope_theta", &config->rope_theta, where, error) ||
        !json_get_number(rope, "partial_rotary_factor", &partial, where, error) ||
        !json_get_number(rope, "factor", &config->rope_factor, where, error) ||
        !json_get_number(rope, "low_freq_factor", &config->rope_low_freq_factor, where, error) ||
        !json_get_number(rope, "high_freq_factor", &config->rope_high_freq_factor, where, error) ||
        !json_get_integer(rope, "original_max_position_embeddings", &config->rope_original_positions, where, error))
        return false;
    if (!strcmp(type, "default"))
        config->rope_scaling = ROPE_PLAIN;
    else if (!strcmp(type, "linear"))
        config->rope_scaling = ROPE_LINEAR;
    else if (!strcmp(type, "llama3"))
        config->rope_scaling = ROPE_LLAMA3;
    else {
        error_set(error, "%s: the rope type \"%s\" is not supported (supported: default, linear, llama3)", where, type);
        return error_hint(error, "take another model of this family, or a version with a shorter context");
    }
    if (partial != 1)
        return error_set(error, "%s: \"partial_rotary_factor\": %g is not supported (supported: 1)", where, partial);
    if (!(config->rope_theta > 0 && config->rope_theta < 1e15))
        return error_set(error, "%s: \"rope_theta\" is %g, not a positive number", where, config->rope_theta);
    return config_check_rope(config, where, error);
}

// theta^(-2 j / D) in fp32; torch's powf is within an ulp of this correctly rounded one.
static float plain_frequency(const ModelConfig *config, int j) {
    float exponent = (float)(2 * j) / (float)config->head_dim;
    return 1.0f / (float)pow((double)(float)config->rope_theta, (double)exponent);
}

// Llama 3.1's scaling: short wavelengths are kept, long ones divided by the factor, those between interpolated.
// transformers, modeling_rope_utils.py, _compute_llama3_parameters.
static float llama3_frequency(const ModelConfig *config, float frequency) {
    float original = (float)config->rope_original_positions, factor = (float)config->rope_factor;
    float low = (float)config->rope_low_freq_factor, high = (float)config->rope_high_freq_factor;
    float low_wavelength = (float)((double)config->rope_original_positions / config->rope_low_freq_factor);
    float high_wavelength = (float)((double)config->rope_original_positions / config->rope_high_freq_factor);
    float wavelength = (float)TWO_PI / frequency;
    if (wavelength > low_wavelength) return frequency / factor;
    if (wavelength < high_wavelength) return frequency;
    float smooth = (original / wavelength - low) / (float)((double)high - (double)low);
    return (1 - smooth) * frequency / factor + smooth * frequency;
}

static float scaled_frequency(const ModelConfig *config, int j) {
    float frequency = plain_frequency(config, j);
    if (config->rope_scaling == ROPE_LINEAR) return frequency / (float)config->rope_factor;
    return config->rope_scaling == ROPE_LLAMA3 ? llama3_frequency(config, frequency) : frequency;
}

void model_rope_tables(const ModelConfig *config, int64_t positions, float *cosine, float *sine) {
    int half = config->head_dim / 2;
    for (int j = 0; j < half; j++) {
        float frequency = scaled_frequency(config, j);
        for (int64_t p = 0; p < positions; p++) {
            float angle = (float)p * frequency;
            cosine[p * half + j] = (float)cos((double)angle);
            sine[p * half + j] = (float)sin((double)angle);
        }
    }
}

void model_rope_factors(const ModelConfig *config, float *factors) {
    float low = (float)config->rope_low_freq_factor, high = (float)config->rope_high_freq_factor;
    float original = (float)config->rope_original_positions, factor = (float)config->rope_factor;
    for (int j = 0; j < config->head_dim / 2; j++) {
        float wavelength = (float)TWO_PI / plain_frequency(config, j);
        float smooth = (original / wavelength - low) / (high - low);
        factors[j] = wavelength < original / high  ? 1
                     : wavelength > original / low ? factor
                                                   : 1 / ((1 - smooth) / factor + smooth);
    }
}

// Whether the llama3 scaling in config divides every frequency by the given factors.
static bool matches_factors(const ModelConfig *config, const float *factors) {
    for (int j = 0; j < config->head_dim / 2; j++) {
        float frequency = plain_frequency(config, j);
        float divisor = frequency / llama3_frequency(config, frequency);
        if (!(fabsf(divisor - factors[j]) <= 1e-4f * divisor)) return false;
    }
    return true;
}

bool config_rope_from_factors(ModelConfig *config, const float *factors, const char *where, Error *error) {
    float largest = 1;
    bool plain = true;
    for (int j = 0; j < config->head_dim / 2; j++) {
        if (factors[j] > largest) largest = factors[j];
        plain = plain && factors[j] == 1;
    }
    if (plain) return true;
    // The longest wavelengths show the factor itself; low 1 and high 4 are what every Llama 3 has.
    ModelConfig tried = *config;
    tried.rope_scaling = ROPE_LLAMA3;
    tried.rope_factor = (double)largest;
    tried.rope_low_freq_factor = 1;
    tried.rope_high_freq_factor = 4;
    for (int i = 0; i < 16; i++) { // Llama's 8192 first, then the powers of two from 64 on
        tried.rope_original_positions = i == 0 ? 8192 : (int64_t)32 << i;
        if (!config_check_rope(&tried, where, error) || !matches_factors(&tried, factors)) continue;
        *config = tried;
        return true;
    }
    error_set(error, "%s: the tensor \"rope_freqs.weight\" holds no llama3 rope scaling, the only kind supported there",
              where);
    return error_hint(error, "take the model's Hugging Face directory instead of this GGUF file");
}
