// test_config.c - configurations of every family and spelling, the refused ones, and the rotary tables.
#include "base/safetensors.h"
#include "model/config.h"
#include "tests/support.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZES                                                                                                          \
    "\"num_hidden_layers\":4,\"num_attention_heads\":8,\"hidden_size\":256,\"intermediate_size\":512,"                 \
    "\"vocab_size\":1000,"
#define LLAMA   "\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\"," SIZES
#define MISTRAL "\"architectures\":[\"MistralForCausalLM\"]," SIZES
#define QWEN2   "\"model_type\":\"qwen2\"," SIZES

static bool parse(ModelConfig *config, const char *members, Error *error) {
    char text[2048];
    // a member that every test may follow with its own
    snprintf(text, sizeof text, "{%s\"use_cache\":true}", members);
    json_t *object = json_parse(text, strlen(text), "config.json", 1, 1, error);
    assert_non_null(object);
    bool ok = model_config_from_json(config, object, "config.json", error);
    json_decref(object);
    return ok;
}

static ModelConfig good(const char *members) {
    Error error = {0};
    ModelConfig config;
    check(parse(&config, members, &error), &error);
    return config;
}

static void bad(const char *members, const char *message) {
    Error error = {0};
    ModelConfig config;
    assert_false(parse(&config, members, &error));
    assert_string_equal(error.text, message);
}

static void test_llama(void **state) {
    (void)state;
    ModelConfig config = good(LLAMA);
    assert_int_equal(config.family, FAMILY_LLAMA);
    assert_int_equal(config.layers, 4);
    assert_int_equal(config.heads, 8);
    assert_int_equal(config.kv_heads, 8);
    assert_int_equal(config.head_dim, 32);
    assert_int_equal(config.vocabulary, 1000);
    assert_int_equal(config.max_positions, 2048);
    assert_true(config.norm_epsilon == 1e-6f && config.rope_theta == 10000);
    assert_false(config.tied || config.qkv_bias || config.output_bias);
    assert_int_equal(config.rope_scaling, ROPE_PLAIN);
    assert_int_equal(config.window, 0);
    assert_int_equal(config.bos, 1);
    assert_int_equal(config.eos_count, 1);
    assert_int_equal(config.eos[0], 2);
    assert_int_equal(config.pad, -1);
    // q, k, v, o 4 d^2; gate, up, down 3 d f; two norms
    assert_int_equal(model_parameters(&config), 4 * (4 * 256 * 256 + 3 * 256 * 512 + 2 * 256) + 2 * 1000 * 256 + 256);

    config =
        good(LLAMA "\"num_key_value_heads\":2,\"head_dim\":48,\"attention_bias\":true,\"tie_word_embeddings\":true,"
                   "\"eos_token_id\":[7,9,7],\"bos_token_id\":null,\"pad_token_id\":-1,\"rms_norm_eps\":1e-05,");
    assert_int_equal(config.kv_heads, 2);
    assert_int_equal(config.head_dim, 48);
    assert_true(config.tied && config.qkv_bias && config.output_bias);
    assert_int_equal(config.eos_count, 2);
    assert_int_equal(config.eos[1], 9);
    assert_int_equal(config.bos, -1);
    assert_int_equal(model_parameters(&config),
                     4 * (256 * 48 * (8 + 2 * 2) + 48 * 8 * 256 + 3 * 256 * 512 + 2 * 256 + 48 * 12 + 256) +
                         1000 * 256 + 256);
    config = good(LLAMA "\"num_key_value_heads\":null,\"head_dim\":null,\"rope_scaling\":null,\"eos_token_id\":null,");
    assert_int_equal(config.kv_heads, 8);
    assert_int_equal(config.eos_count, 0);
}

static void test_rope_spellings(void **state) {
    (void)state;
    ModelConfig config = good(LLAMA "\"rope_theta\":5e5,\"rope_scaling\":{\"type\":\"linear\",\"factor\":4},");
    assert_int_equal(config.rope_scaling, ROPE_LINEAR);
    assert_true(config.rope_theta == 5e5 && config.rope_factor == 4);
#define LLAMA3                                                                                                         \
    "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192,"       \
    "\"rope_type\":\"llama3\""
    for (int spelling = 0; spelling < 2; spelling++) {
        config = good(spelling ? LLAMA "\"rope_parameters\":{\"rope_theta\":500000.0," LLAMA3 "},"
                               : LLAMA "\"rope_theta\":500000.0,\"rope_scaling\":{" LLAMA3 "},");
        assert_int_equal(config.rope_scaling, ROPE_LLAMA3);
        assert_true(config.rope_theta == 5e5 && config.rope_factor == 8 && config.rope_high_freq_factor == 4);
        assert_int_equal(config.rope_original_positions, 8192);
    }
    config = good(LLAMA "\"rope_parameters\":{\"rope_theta\":12345,\"rope_type\":\"default\"},");
    assert_true(config.rope_scaling == ROPE_PLAIN && config.rope_theta == 12345);
    bad(LLAMA "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4},",
        "config.json: the rope type \"yarn\" is not supported (supported: default, linear, llama3)");
    bad(LLAMA "\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4},",
        "config.json: the rope type \"dynamic\" is not supported (supported: default, linear, llama3)");
    bad(LLAMA "\"rope_scaling\":{\"type\":\"linear\"},", "config.json: the linear rope scaling needs \"factor\" >= 1");
    bad(LLAMA "\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8},",
        "config.json: the llama3 rope scaling needs \"factor\" >= 1, 0 < \"low_freq_factor\" < \"high_freq_factor\" "
        "and \"original_max_position_embeddings\" > 0");
}

static void test_windows(void **state) {
    (void)state;
    ModelConfig config = good(MISTRAL "\"num_key_value_heads\":8,");
    assert_int_equal(config.family, FAMILY_MISTRAL);
    assert_int_equal(config.window, 4096);
    assert_true(config.windowed[0] && config.windowed[3] && !config.windowed[4]);
    assert_int_equal(good(MISTRAL "\"sliding_window\":null,").window, 0);
    assert_int_equal(good(MISTRAL "\"sliding_window\":64,").window, 64);

    config = good(QWEN2 "\"num_key_value_heads\":2,\"sliding_window\":64,\"max_window_layers\":2,");
    assert_int_equal(config.family, FAMILY_QWEN2);
    assert_true(config.qkv_bias && !config.output_bias && config.window == 0);
    assert_int_equal(config.bos, -1);
    assert_int_equal(config.eos_count, 0);
    config = good(QWEN2 "\"num_key_value_heads\":2,\"use_sliding_window\":true,\"sliding_window\":64,"
                        "\"max_window_layers\":2,");
    assert_int_equal(config.window, 64);
    assert_true(!config.windowed[1] && config.windowed[2] && config.windowed[3]);
    config = good(QWEN2 "\"num_key_value_heads\":2,\"use_sliding_window\":true,\"sliding_window\":64,\"layer_types\":["
                        "\"sliding_attention\",\"full_attention\",\"full_attention\",\"full_attention\"],");
    assert_true(config.window == 64 && config.windowed[0] && !config.windowed[3]);
    config = good(QWEN2 "\"num_key_value_heads\":2,\"use_sliding_window\":true,\"sliding_window\":64,"
                        "\"max_window_layers\":4,");
    assert_int_equal(config.window, 0);
    bad(QWEN2 "\"num_key_value_heads\":2,\"use_sliding_window\":true,\"sliding_window\":64,\"layer_types\":["
              "\"linear_attention\",\"full_attention\",\"full_attention\",\"full_attention\"],",
        "config.json: \"layer_types\": \"linear_attention\" is not supported (supported: full_attention, "
        "sliding_attention)");
}

static void test_refused(void **state) {
    (void)state;
    bad("\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\"," SIZES,
        "config.json: the architecture GPT2LMHeadModel is not supported (supported: LlamaForCausalLM, "
        "MistralForCausalLM, Qwen2ForCausalLM)");
    bad("\"model_type\":\"qwen3\"," SIZES,
        "config.json: the architecture qwen3 is not supported (supported: LlamaForCausalLM, MistralForCausalLM, "
        "Qwen2ForCausalLM)");
    bad(SIZES, "config.json: neither \"architectures\" nor \"model_type\" is there");
    bad("\"model_type\":\"llama\",\"num_hidden_layers\":2,\"num_attention_heads\":2,",
        "config.json: \"hidden_size\" is missing");
    bad(LLAMA "\"mlp_bias\":true,", "config.json: \"mlp_bias\": true is not supported");
    bad(LLAMA "\"hidden_act\":\"gelu\",", "config.json: \"hidden_act\": \"gelu\" is not supported (supported: silu)");
    bad(LLAMA "\"quantization_config\":{\"quant_method\":\"gptq\"},",
        "config.json: the weights are quantised (gptq) and cannot be trained");
    bad(LLAMA "\"num_key_value_heads\":3,",
        "config.json: \"num_attention_heads\" (8) is not a multiple of \"num_key_value_heads\" (3)");
    bad(LLAMA "\"num_key_value_heads\":0,", "config.json: \"num_key_value_heads\" is 0, not in 1 .. 1024");
    bad(LLAMA "\"head_dim\":33,", "config.json: \"head_dim\" (33) is odd");
    bad("\"model_type\":\"llama\",\"num_hidden_layers\":513,\"num_attention_heads\":2,",
        "config.json: \"num_hidden_layers\" is 513, not in 1 .. 512");
    bad("\"model_type\":\"llama\",\"num_hidden_layers\":1,\"num_attention_heads\":3,\"hidden_size\":256,"
        "\"intermediate_size\":9,\"vocab_size\":8,\"eos_token_id\":1,",
        "config.json: \"hidden_size\" (256) is not a multiple of \"num_attention_heads\" (3)");
    bad(LLAMA "\"eos_token_id\":1000,", "config.json: \"eos_token_id\" 1000 is not in the vocabulary of 1000");
    bad(LLAMA "\"eos_token_id\":[1,\"x\"],", "config.json: \"eos_token_id\" must be an integer or a list of integers");
    bad(LLAMA "\"rms_norm_eps\":0,", "config.json: \"rms_norm_eps\" is 0, not in (0, 1)");
    bad(LLAMA "\"max_position_embeddings\":\"many\",", "config.json: \"max_position_embeddings\" must be an integer");
}

// Bytes of a GGUF file with one text or number changed; the message that follows.
static void bad_gguf(const char *name, const char *find, const void *put, size_t size, const char *message) {
    Error error = {0};
    char path[96], *bytes;
    size_t all;
    snprintf(path, sizeof path, "tests/golden/gguf/%s.gguf", name);
    check(file_read(path, 1 << 20, &bytes, &all, &error), &error);
    char *place = memmem(bytes, all, find, strlen(find));
    assert_non_null(place);
    memcpy(place, put, size);
    GgufFile file;
    check(gguf_parse(&file, bytes, all, "m.gguf", &error), &error);
    ModelConfig config;
    assert_false(model_config_from_gguf(&config, &file, &error));
    assert_string_equal(error.text, message);
    gguf_close(&file);
    free(bytes);
}

static void test_gguf_refused(void **state) {
    (void)state;
    bad_gguf("llama_rope_linear", "llama", "phi3x", 5,
             "m.gguf: the architecture phi3x is not supported (supported: llama, qwen2)");
    bad_gguf("llama_rope_linear", "linear", "yarn!!", 6,
             "m.gguf: the rope type \"yarn!!\" is not supported (supported: none, linear, and llama3's factors)");
    bad_gguf("llama_rope_linear", "llama.block_count", "llama.block_kount", 17,
             "m.gguf: \"num_hidden_layers\" is missing");
    bad_gguf("llama_rope_linear", "llama.attention.layer_norm_rms_epsilon", "llama.attention.layer_norm_rms_xpsilon",
             38, "m.gguf: \"rms_norm_eps\" is 0, not in (0, 1)");
    bad_gguf("llama_attention_bias", "blk.0.attn_output.bias", "blk.0.attn_xutput.bias", 22,
             "m.gguf: this choice of attention biases is not one of the architecture llama");
}

// Factors that no llama3 scaling gives are refused, those that are all 1 are none.
static void test_rope_factors(void **state) {
    (void)state;
    Error error = {0};
    char *bytes;
    size_t size;
    check(file_read("tests/golden/gguf/llama_rope_llama3.gguf", 1 << 20, &bytes, &size, &error), &error);
    GgufFile file;
    check(gguf_parse(&file, bytes, size, "m.gguf", &error), &error);
    const GgufTensor *tensor = gguf_tensor(&file, "rope_freqs.weight");
    assert_non_null(tensor);
    ModelConfig config;
    check(model_config_from_gguf(&config, &file, &error), &error);
    assert_int_equal(config.rope_scaling, ROPE_LLAMA3);
    assert_true(config.rope_factor == 8);
    float *factors = (float *)(void *)(bytes + tensor->offset);
    factors[0] = 3;
    assert_false(model_config_from_gguf(&config, &file, &error));
    assert_string_equal(error.text, "m.gguf: the tensor \"rope_freqs.weight\" holds no llama3 rope scaling, the only "
                                    "kind supported there");
    for (int64_t i = 0; i < tensor->elements; i++) factors[i] = 1;
    check(model_config_from_gguf(&config, &file, &error), &error);
    assert_int_equal(config.rope_scaling, ROPE_PLAIN);
    factors[1] = NAN;
    assert_false(model_config_from_gguf(&config, &file, &error));
    gguf_close(&file);
    free(bytes);
}

// transformers' tables; the largest difference is an ulp of torch's powf, times the angle.
static void test_rope_tables(void **state) {
    (void)state;
    static const char *const NAMES[] = {"plain", "linear", "llama3"};
    Error error = {0};
    SafetensorsFile file;
    check(safetensors_open(&file, "tests/golden/rope_tables.safetensors", &error), &error);
    for (int i = 0; i < 3; i++) {
        ModelConfig config = {.head_dim = 64,
                              .rope_scaling = (RopeScaling)i,
                              .rope_theta = i == 0   ? 1e5
                                            : i == 1 ? 1e4
                                                     : 5e5,
                              .rope_factor = i == 1 ? 2.5 : 32,
                              .rope_low_freq_factor = 1,
                              .rope_high_freq_factor = 4,
                              .rope_original_positions = 8192};
        float cosine[64 * 32], sine[64 * 32];
        model_rope_tables(&config, 64, cosine, sine);
        char name[32];
        snprintf(name, sizeof name, "%s.cosine", NAMES[i]);
        check_close(name, cosine, (const float *)(const void *)safetensors_data(&file, safetensors_find(&file, name)),
                    64 * 32, 2e-6);
        snprintf(name, sizeof name, "%s.sine", NAMES[i]);
        check_close(name, sine, (const float *)(const void *)safetensors_data(&file, safetensors_find(&file, name)),
                    64 * 32, 2e-6);
    }
    safetensors_close(&file);
}

static void test_fits_backend(void **state) {
    (void)state;
    Error error = {0};
    Backend *cpu = backend_cpu_create(1, false, &error), *cuda = backend_cuda_create(0, 1, &error);
    check(cpu && cuda, &error);
    ModelConfig config = {.head_dim = 100};
    check(model_config_fits(&config, cpu, &error), &error);
    assert_false(model_config_fits(&config, cuda, &error));
    assert_string_equal(error.text, "the model's head_dim of 100 is not a multiple of 8, as the cuda backend needs it");
    assert_string_equal(error.hint, "use --device cpu");
    config.head_dim = 104;
    check(model_config_fits(&config, cuda, &error), &error);
    cpu->destroy(cpu);
    cuda->destroy(cuda);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),        cmocka_unit_test(test_rope_spellings), cmocka_unit_test(test_windows),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_rope_tables),    cmocka_unit_test(test_gguf_refused),
        cmocka_unit_test(test_rope_factors), cmocka_unit_test(test_fits_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
