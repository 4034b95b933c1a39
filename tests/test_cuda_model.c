// test_cuda_model.c - whole models on the CUDA backend: logits, loss, the gradient of every tensor, and generation,
// held against the CPU backend in float by what the CPU backend loses when it rounds every operation's output to bf16.
#include "base/random.h"
#include "model/decode.h"
#include "tests/parity.h"
#include "tests/tiny_model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY   ((size_t)4 << 20) // bytes of each arena
#define CAPACITY 48                // tokens of a micro-batch
#define CHUNK    7                 // rows of logits at a time: odd, and less than the rows of a micro-batch
#define SWEEP    2

// A model on one of the backends, with what came out of it.
typedef struct Model {
    Backend *backend;
    const ModelConfig *config;
    Arena device, pinned;
    BlockStore store;
    Passes passes;
    float **gradients; // [blocks] device memory
    float *logits;     // host: [tokens of the data, V]
    double loss;       // summed
} Model;

// ---- models ----

typedef struct Variant {
    const char *name;
    int heads, kv_heads, head_dim;
    bool tied, biases;
    int window;
} Variant;

static const Variant variants[] = {
    {"grouped queries", 4, 2, 8, false, false, 0},
    {"tied, heads of 16", 2, 2, 16, true, false, 0},
    {"biases and a window", 3, 1, 8, false, true, 5},
};

static ModelConfig config_of(const Variant *variant) {
    ModelConfig config = tiny_config();
    config.layers = 3;
    config.heads = variant->heads;
    config.kv_heads = variant->kv_heads;
    config.head_dim = variant->head_dim;
    config.tied = variant->tied;
    config.qkv_bias = config.output_bias = variant->biases;
    config.window = variant->window;
    for (int l = 1; variant->window && l < config.layers; l++) config.windowed[l] = true;
    return config;
}

// Large enough weights that attention chooses and every tensor matters.
static void fill_weights(BlockStore *store, const ModelConfig *config) {
    for (int block = 0; block < block_count(&store->layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(&store->layout, config, block, tensors);
        bf16 *to = store_put(store, block);
        memset(to, 0, (size_t)block_elements(&store->layout, block) * sizeof *to);
        for (int i = 0; i < count; i++) {
            bool gain = tensors[i].vector && !strstr(tensors[i].name, ".bias");
            uint64_t key = random_mix((uint64_t)(100 * block + i));
            for (int64_t e = 0; e < tensors[i].rows * tensors[i].columns; e++) {
                float value = noise(key, (uint64_t)e);
                to[tensors[i].offset + e] = bf16_from_float(gain ? 1 + 0.5f * value : 0.4f * value);
            }
        }
        store_put_finish(store, block);
    }
}

static void open_model(Model *model, Backend *b, const ModelConfig *config, LayerKeep keep) {
    Error error = {0};
    BlockLayout layout;
    PassSizes sizes = {.tokens = CAPACITY, .sweep = SWEEP, .positions = CAPACITY, .chunk = CHUNK};
    pass_keep_everywhere(&sizes, config->layers, keep);
    *model = (Model){.backend = b, .config = config};
    check(block_layout(&layout, config, &error), &error);
    check(arena_create(&model->device, b, MEMORY_DEVICE, MEMORY, "the test", &error), &error);
    check(arena_create(&model->pinned, b, MEMORY_PINNED, MEMORY, "the test", &error), &error);
    check(store_create(&model->store, b, &layout, NULL, &model->device, &model->pinned, NULL, &error), &error);
    fill_weights(&model->store, config);
    check(passes_create(&model->passes, b, config, &model->store, &sizes, &model->device, &model->pinned, &error),
          &error);
    check(passes_prepare(&model->passes, &error), &error);
    int blocks = block_count(&layout);
    model->gradients = calloc((size_t)blocks, sizeof *model->gradients);
    assert_non_null(model->gradients);
    for (int block = 0; block < blocks; block++) {
        int64_t elements = block_elements(&layout, block);
        model->gradients[block] = arena_take(&model->device, elements, sizeof(float));
        assert_non_null(model->gradients[block]);
        b->zero(b, model->gradients[block], (size_t)elements * sizeof(float), NULL);
    }
}

static void close_model(Model *model) {
    passes_free(&model->passes);
    store_free(&model->store);
    free(model->gradients);
    free(model->logits);
    arena_free(&model->device);
    arena_free(&model->pinned);
}

// `count` elements of device memory as floats, in memory of the caller's.
static float *from_device(Backend *b, const float *device, int64_t count) {
    Results results = {0};
    take_floats(&results, b, device, count);
    return results.values[0];
}

// ---- logits, loss and gradients ----

// The logits of a micro-batch's tokens; it must be one of the last sweep.
static void read_logits(Model *model, int64_t m, int64_t tokens, float *logits) {
    Backend *b = model->backend;
    Passes *passes = &model->passes;
    int64_t vocabulary = model->config->vocabulary, stride = passes->head.stride;
    HeadWeights head = head_weights(model->config, &model->store);
    const int32_t *rows = passes->batches[m].layer.positions; // of a single sequence: 0, 1, 2, ...
    for (int64_t first = 0; first < tokens; first += CHUNK) {
        int64_t count = tokens - first < CHUNK ? tokens - first : CHUNK;
        Results results = {0};
        head_logits(&passes->head, &head, inputs_last(&passes->inputs, m), rows + first, count);
        for (int64_t i = 0; i < count; i++, logits += vocabulary) { // the columns beyond the vocabulary are undefined
            size_t row = (size_t)(i * stride) * b->activation_size;
            take_activations(&results, b, (unsigned char *)passes->head.logits + row, vocabulary);
            memcpy(logits, results.values[i], (size_t)vocabulary * sizeof *logits);
        }
        results_free(&results);
    }
}

// Each sequence is a micro-batch; the last sweep is not full.
static void run_model(Model *model, const Dataset *data) {
    Error error = {0};
    Passes *passes = &model->passes;
    int64_t vocabulary = model->config->vocabulary, batches = data->sequences;
    MicroBatch batch[3];
    assert_int_equal(batches, 3);
    model->logits = malloc((size_t)(data->starts[batches] * vocabulary) * sizeof *model->logits);
    assert_non_null(model->logits);
    for (int64_t s = 0; s < batches; s++) {
        check(micro_batch_create(&batch[s], CAPACITY, &error), &error);
        micro_batch_clear(&batch[s]);
        assert_true(micro_batch_add(&batch[s], data, s));
        micro_batch_finish(&batch[s]);
    }
    GradientSink sink = {.gradients = model->gradients};
    for (int64_t s = 0; s < batches; s += SWEEP) {
        int64_t count = batches - s < SWEEP ? batches - s : SWEEP;
        passes_begin(passes);
        passes_evaluate(passes, batch + s, count);
        for (int64_t m = 0; m < count; m++)
            read_logits(model, m, batch[s + m].used, model->logits + data->starts[s + m] * vocabulary);
    }
    passes_begin(passes);
    for (int64_t s = 0; s < batches; s += SWEEP)
        passes_train(passes, batch + s, batches - s < SWEEP ? batches - s : SWEEP, (float)(1 / (double)data->targets),
                     &sink);
    model->backend->copy(model->backend, &model->loss, passes->loss, sizeof model->loss, NULL);
    model->backend->synchronize(model->backend, NULL);
    check(model->backend->check(model->backend, &error), &error);
    for (int64_t s = 0; s < batches; s++) micro_batch_free(&batch[s]);
}

static double *doubles(const float *values, int64_t count) {
    double *wide = malloc((size_t)count * sizeof *wide + 1);
    assert_non_null(wide);
    for (int64_t i = 0; i < count; i++) wide[i] = (double)values[i];
    return wide;
}

static void check_floats(const char *what, const float *cuda, const float *rounded, const float *exact, int64_t count,
                         double factor) {
    double *reference = doubles(exact, count);
    check_rule(what, cuda, rounded, reference, count, factor);
    free(reference);
}

// models: on cuda, rounded, exact.
static void check_gradients(const char *what, const Model models[3]) {
    const BlockLayout *layout = &models[0].store.layout;
    for (int block = 0; block < block_count(layout); block++) {
        float *values[3];
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(layout, models[0].config, block, tensors);
        for (int i = 0; i < 3; i++)
            values[i] = from_device(models[i].backend, models[i].gradients[block], block_elements(layout, block));
        for (int i = 0; i < count; i++) {
            int64_t offset = tensors[i].offset, elements = tensors[i].rows * tensors[i].columns;
            char label[256];
            snprintf(label, sizeof label, "%s: gradient of %.96s", what, tensors[i].name);
            check_floats(label, values[0] + offset, values[1] + offset, values[2] + offset, elements, PARITY_GRADIENT);
        }
        for (int i = 0; i < 3; i++) free(values[i]);
    }
}

static void test_logits_and_gradients(void **state) {
    (void)state;
    Backend *const backends[3] = {parity.cuda, parity.rounded, parity.exact};
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        ModelConfig config = config_of(&variants[v]);
        Dataset data = tiny_dataset(3, 40, config.vocabulary, 11);
        Model models[3];
        for (int i = 0; i < 3; i++) {
            open_model(&models[i], backends[i], &config, (LayerKeep)v);
            run_model(&models[i], &data);
        }
        int64_t logits = data.starts[3] * config.vocabulary;
        check_floats(variants[v].name, models[0].logits, models[1].logits, models[2].logits, logits, PARITY_FORWARD);
        double lost = fabs(models[1].loss - models[2].loss), error = fabs(models[0].loss - models[2].loss);
        assert_true(error <= PARITY_FORWARD * lost + 1e-5 * models[2].loss);
        check_gradients(variants[v].name, models);
        for (int i = 0; i < 3; i++) close_model(&models[i]);
        dataset_free(&data);
    }
}

// ---- generation ----

#define TOKENS 23

// The logits after a prompt, after some tokens that come one at a time, and after a few that come together.
static float *generate(Backend *b, const ModelConfig *config, const int32_t *ids) {
    static const int64_t parts[] = {11, 1, 1, 1, 1, 5, 1, 2}; // the first is the prompt
    Error error = {0};
    Arena device, pinned;
    BlockStore store;
    BlockLayout layout;
    Decoder decoder;
    size_t count = sizeof parts / sizeof *parts, vocabulary = (size_t)config->vocabulary;
    float *logits = malloc(count * vocabulary * sizeof *logits);
    assert_non_null(logits);
    check(block_layout(&layout, config, &error), &error);
    check(arena_create(&device, b, MEMORY_DEVICE, MEMORY, "the test", &error), &error);
    check(arena_create(&pinned, b, MEMORY_PINNED, MEMORY, "the test", &error), &error);
    check(store_create(&store, b, &layout, NULL, &device, &pinned, NULL, &error), &error);
    fill_weights(&store, config);
    check(decoder_create(&decoder, b, config, &store, TOKENS, &device, &pinned, &error), &error);
    check(decoder_prepare(&decoder, &error), &error);
    for (size_t i = 0; i < count; ids += parts[i++])
        check(decoder_feed(&decoder, ids, parts[i], logits + i * vocabulary, &error), &error);
    decoder_free(&decoder);
    store_free(&store);
    arena_free(&device);
    arena_free(&pinned);
    return logits;
}

static void test_generation(void **state) {
    (void)state;
    Backend *const backends[3] = {parity.cuda, parity.rounded, parity.exact};
    int32_t ids[TOKENS];
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        ModelConfig config = config_of(&variants[v]);
        float *logits[3];
        for (int i = 0; i < TOKENS; i++) ids[i] = (int32_t)random_below(v, (uint64_t)i, (uint64_t)config.vocabulary);
        for (int i = 0; i < 3; i++) logits[i] = generate(backends[i], &config, ids);
        check_floats(variants[v].name, logits[0], logits[1], logits[2], 8 * config.vocabulary, PARITY_FORWARD);
        for (int i = 0; i < 3; i++) free(logits[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_and_gradients),
        cmocka_unit_test(test_generation),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
