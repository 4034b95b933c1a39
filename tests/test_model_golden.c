// Small random models against transformers in fp32: logits, loss and every gradient to 1e-5 of each tensor's largest
// element, in training and in generation; and the logits of SmolLM2-135M-Instruct where the demo's file is at hand.
// What is stored comes from tests/golden/make_model_golden.py and make_smollm2_golden.py.
#include "base/files.h"
#include "base/json.h"
#include "model/decode.h"
#include "tests/golden.h"
#include "tests/loaded_model.h"
#include "tests/support.h"
#include "train/passes.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TOLERANCE  1e-5
#define WORK_BYTES ((size_t)64 << 20)
#define CHUNK      7 // rows of logits at a time: odd, and less than the rows of any case

// How the same sequences are cut into micro-batches, and what layers keep.
typedef struct Cut {
    const char *name;
    bool together; // one micro-batch holds all sequences; else each has its own
    LayerKeep keep;
} Cut;

static const Cut cuts[] = {
    {"one micro-batch, all kept", true, KEEP_ALL},
    {"a micro-batch per sequence, inputs kept", false, KEEP_INPUT},
    {"a micro-batch per sequence, attention kept", false, KEEP_ATTENTION},
};

// A loaded model with room for forward and backward.
typedef struct Model {
    LoadedModel loaded;
    Arena arena; // of the passes and the gradients
    Passes passes;
    float **gradients; // [blocks]
    MicroBatch *batches;
    int64_t batch_count;
} Model;

static void cut_batches(Model *model, const Dataset *dataset, const Cut *cut) {
    Error error = {0};
    int64_t capacity = round_up(cut->together ? dataset->starts[dataset->count] : dataset->longest, 128);
    model->batch_count = cut->together ? 1 : dataset->sequences;
    model->batches = calloc((size_t)model->batch_count, sizeof *model->batches);
    assert_non_null(model->batches);
    for (int64_t m = 0; m < model->batch_count; m++) {
        check(micro_batch_create(&model->batches[m], capacity, &error), &error);
        micro_batch_clear(&model->batches[m]);
    }
    for (int64_t s = 0; s < dataset->sequences; s++)
        assert_true(micro_batch_add(&model->batches[cut->together ? 0 : s], dataset, s));
    for (int64_t m = 0; m < model->batch_count; m++) micro_batch_finish(&model->batches[m]);
}

static void open_model(Model *model, const char *path, const Dataset *dataset, const Cut *cut) {
    Error error = {0};
    *model = (Model){0};
    loaded_model_open(&model->loaded, path);
    LoadedModel *loaded = &model->loaded;
    check(arena_create(&model->arena, loaded->backend, MEMORY_DEVICE, WORK_BYTES, "the test", &error), &error);
    cut_batches(model, dataset, cut);
    PassSizes sizes = {
        .tokens = model->batches[0].tokens,
        .sweep = model->batch_count,
        .positions = model->batches[0].tokens,
        .chunk = CHUNK,
    };
    pass_keep_everywhere(&sizes, loaded->config->layers, cut->keep);
    check(passes_create(&model->passes, loaded->backend, loaded->config, &loaded->store, &sizes, &model->arena,
                        &model->arena, &error),
          &error);
    check(passes_prepare(&model->passes, &error), &error);
}

static void take_gradients(Model *model) {
    int blocks = block_count(&model->loaded.layout);
    model->gradients = calloc((size_t)blocks, sizeof *model->gradients);
    assert_non_null(model->gradients);
    for (int block = 0; block < blocks; block++) {
        int64_t elements = block_elements(&model->loaded.layout, block);
        model->gradients[block] = arena_take(&model->arena, elements, sizeof(float));
        assert_non_null(model->gradients[block]);
        model->loaded.backend->zero(model->loaded.backend, model->gradients[block], (size_t)elements * sizeof(float),
                                    NULL);
    }
}

static void close_model(Model *model) {
    for (int64_t m = 0; m < model->batch_count; m++) micro_batch_free(&model->batches[m]);
    free(model->batches);
    free(model->gradients);
    passes_free(&model->passes);
    arena_free(&model->arena);
    loaded_model_close(&model->loaded);
}

// Forward only. Writes the logits of all tokens, [tokens, V], and returns the summed loss.
static double forward(Model *model, float *logits) {
    Passes *passes = &model->passes;
    int64_t vocabulary = model->loaded.config->vocabulary;
    passes_begin(passes);
    passes_evaluate(passes, model->batches, model->batch_count);
    HeadWeights head = head_weights(model->loaded.config, &model->loaded.store);
    for (int64_t m = 0; m < model->batch_count; m++) {
        for (int32_t first = 0; first < model->batches[m].used; first += CHUNK) {
            int32_t rows[CHUNK], count = 0;
            while (count < CHUNK && first + count < model->batches[m].used) rows[count] = first + count, count++;
            head_logits(&passes->head, &head, inputs_last(&passes->inputs, m), rows, count);
            const float *out = passes->head.logits;
            for (int32_t i = 0; i < count; i++, logits += vocabulary)
                memcpy(logits, out + i * passes->head.stride, (size_t)vocabulary * sizeof *logits);
        }
    }
    return *passes->loss;
}

static void check_loss(const char *what, double loss, double reference) {
    if (!(fabs(loss - reference) <= TOLERANCE * reference)) fail_msg("%s: %.9g, reference %.9g", what, loss, reference);
}

static void check_gradients(const char *what, Model *model, const SafetensorsFile *stored) {
    size_t seen = 0;
    for (int block = 0; block < block_count(&model->loaded.layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(&model->loaded.layout, model->loaded.config, block, tensors);
        for (int i = 0; i < count; i++, seen++) {
            char name[128], label[512];
            snprintf(name, sizeof name, "gradient/%.96s", tensors[i].name);
            snprintf(label, sizeof label, "%s: %s", what, name);
            int64_t elements = tensors[i].rows * tensors[i].columns;
            float *reference = golden_tensor(stored, name, elements);
            check_close(label, model->gradients[block] + tensors[i].offset, reference, elements, TOLERANCE);
            free(reference);
        }
    }
    assert_int_equal(seen + 1, stored->count); // and the logits
}

// A directory of tests/golden/models with its stored results.
typedef struct Case {
    const char *name;
    char *directory;
    Dataset dataset;
    double loss;
    SafetensorsFile stored; // "logits", "gradient/<parameter>"
} Case;

static void open_case(Case *c, const char *name) {
    Error error = {0};
    char folder[256];
    snprintf(folder, sizeof folder, "models/%s", name);
    char *expected_path = golden_path(folder, "expected.json"),
         *stored_path = golden_path(folder, "expected.safetensors");
    json_t *expected = golden_json(expected_path);
    *c = (Case){.name = name, .directory = golden_path("models", name), .loss = golden_number(expected, "loss")};
    golden_dataset(&c->dataset, expected);
    check(safetensors_open(&c->stored, stored_path, &error), &error);
    json_decref(expected);
    free(expected_path);
    free(stored_path);
}

static void close_case(Case *c) {
    safetensors_close(&c->stored);
    dataset_free(&c->dataset);
    free(c->directory);
}

static void for_every_case(void (*test)(const Case *c)) {
    Error error = {0};
    char **names;
    size_t count;
    check(directory_list("tests/golden/models", &names, &count, &error), &error);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        Case c;
        open_case(&c, names[i]);
        test(&c);
        close_case(&c);
    }
    names_free(names, count);
}

// ---- training ----

static void check_cut(const Case *c, const Cut *cut) {
    char what[256];
    snprintf(what, sizeof what, "%s, %s", c->name, cut->name);
    Model model;
    open_model(&model, c->directory, &c->dataset, cut);
    take_gradients(&model);

    int64_t count = c->dataset.starts[c->dataset.count] * model.loaded.config->vocabulary;
    float *reference = golden_tensor(&c->stored, "logits", count), *logits = malloc((size_t)count * sizeof *logits);
    assert_non_null(logits);
    double loss = forward(&model, logits), targets = (double)c->dataset.targets;
    check_close(what, logits, reference, count, TOLERANCE);
    check_loss(what, loss / targets, c->loss);

    passes_begin(&model.passes);
    GradientSink sink = {.gradients = model.gradients};
    passes_train(&model.passes, model.batches, model.batch_count, (float)(1 / targets), &sink);
    check_loss(what, *model.passes.loss / targets, c->loss);
    check_gradients(what, &model, &c->stored);
    free(logits);
    free(reference);
    close_model(&model);
}

static void check_cuts(const Case *c) {
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) check_cut(c, &cuts[i]);
}

static void test_models_equal_transformers(void **state) {
    (void)state;
    for_every_case(check_cuts);
}

// ---- generating ----

// Every sequence again as generation runs it: half of it at once, then one token at a time against the cache.
static void feed_sequences(const Case *c, Decoder *decoder, const float *reference) {
    Error error = {0};
    int64_t vocabulary = decoder->config->vocabulary;
    float *logits = malloc((size_t)vocabulary * sizeof *logits);
    assert_non_null(logits);
    for (int64_t s = 0; s < c->dataset.count; s++) {
        int64_t first = c->dataset.starts[s], end = c->dataset.starts[s + 1], fed = first;
        decoder_reset(decoder);
        while (fed < end) {
            int64_t count = fed == first ? (end - first + 1) / 2 : 1;
            check(decoder_feed(decoder, c->dataset.ids + fed, count, logits, &error), &error);
            fed += count;
            check_close(c->name, logits, reference + (fed - 1) * vocabulary, vocabulary, TOLERANCE);
        }
    }
    free(logits);
}

static void check_decoding(const Case *c) {
    Error error = {0};
    LoadedModel model;
    Arena arena;
    Decoder decoder;
    loaded_model_open(&model, c->directory);
    check(arena_create(&arena, model.backend, MEMORY_DEVICE, WORK_BYTES, "the test", &error), &error);
    check(
        decoder_create(&decoder, model.backend, model.config, &model.store, c->dataset.longest, &arena, &arena, &error),
        &error);
    check(decoder_prepare(&decoder, &error), &error);
    int64_t count = c->dataset.starts[c->dataset.count] * model.config->vocabulary;
    float *reference = golden_tensor(&c->stored, "logits", count);
    feed_sequences(c, &decoder, reference);
    free(reference);
    decoder_free(&decoder);
    arena_free(&arena);
    loaded_model_close(&model);
}

static void test_decoding_equals_transformers(void **state) {
    (void)state;
    for_every_case(check_decoding);
}

// ---- SmolLM2 ----

// A few stored logits of one position; `largest` is the largest of all logits.
static void check_position(const json_t *position, const float *logits, double largest) {
    const json_t *top = golden_array(position, "largest"), *first = golden_array(position, "first");
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *pair = json_array_get(top, i);
        double value = (double)logits[json_integer_value(json_array_get(pair, 0))];
        double reference = json_number_value(json_array_get(pair, 1));
        if (!(fabs(value - reference) <= TOLERANCE * largest))
            fail_msg("largest logit %zu: %.9g, transformers %.9g", i, value, reference);
    }
    for (size_t i = 0; i < json_array_size(first); i++) {
        double reference = json_number_value(json_array_get(first, i));
        if (!(fabs((double)logits[i] - reference) <= TOLERANCE * largest))
            fail_msg("logit of id %zu: %.9g, transformers %.9g", i, (double)logits[i], reference);
    }
}

// The file that LISA_TEST_MODEL names, or where `make demo` keeps it.
static bool find_smollm2(char *path, size_t size) {
    const char *named = getenv("LISA_TEST_MODEL"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const char *file = "lisa/SmolLM2-135M-Instruct.Q4_1.gguf";
    if (named)
        snprintf(path, size, "%s", named);
    else if (cache)
        snprintf(path, size, "%s/%s", cache, file);
    else
        snprintf(path, size, "%s/.cache/%s", home ? home : "", file);
    return named || path_exists(path);
}

static void test_smollm2_equals_transformers(void **state) {
    (void)state;
    char path[1024];
    if (!find_smollm2(path, sizeof path)) skip();
    json_t *expected = golden_json("tests/golden/smollm2_logits.json");
    assert_int_equal(path_size(path), (int64_t)golden_number(expected, "bytes")); // that very file
    Dataset dataset;
    golden_dataset(&dataset, expected);
    Model model;
    open_model(&model, path, &dataset, &cuts[1]);
    int64_t vocabulary = model.loaded.config->vocabulary, count = dataset.starts[dataset.count] * vocabulary;
    float *logits = malloc((size_t)count * sizeof *logits);
    assert_non_null(logits);
    double loss = forward(&model, logits);
    check_loss("SmolLM2", loss / (double)dataset.targets, golden_number(expected, "loss"));
    const json_t *positions = golden_array(expected, "positions");
    for (size_t i = 0; i < json_array_size(positions); i++) {
        const json_t *position = json_array_get(positions, i);
        check_position(position, logits + (int64_t)golden_number(position, "position") * vocabulary,
                       golden_number(expected, "largest_absolute"));
    }
    free(logits);
    close_model(&model);
    dataset_free(&dataset);
    json_decref(expected);
}

// ---- config.json ----

static void check_same_model(const ModelConfig *a, const ModelConfig *b) {
    enum { POSITIONS = 100, FLOATS = POSITIONS * 64 };
    static float tables[4][FLOATS];
    assert_int_equal(a->head_dim, b->head_dim);
    assert_true(a->head_dim / 2 <= 64);
    model_rope_tables(a, POSITIONS, tables[0], tables[1]);
    model_rope_tables(b, POSITIONS, tables[2], tables[3]);
    size_t bytes = (size_t)(a->head_dim / 2) * POSITIONS * sizeof(float);
    assert_memory_equal(tables[0], tables[2], bytes);
    assert_memory_equal(tables[1], tables[3], bytes);
    assert_int_equal(a->rope_scaling, b->rope_scaling);
    assert_int_equal(a->window, b->window);
    assert_memory_equal(a->windowed, b->windowed, sizeof a->windowed);
    assert_int_equal(a->eos_count, b->eos_count);
    assert_memory_equal(a->eos, b->eos, (size_t)a->eos_count * sizeof *a->eos);
}

static void read_config(ModelConfig *config, const char *path) {
    Error error = {0};
    json_t *object = json_read_file(path, 1 << 20, &error);
    check(object && model_config_from_json(config, object, path, &error), &error);
    json_decref(object);
}

// config_old.json says in the spelling of transformers before 5 what config.json says.
static void compare_spellings(const Case *c) {
    char *old_path = path_join(c->directory, "config_old.json"), *new_path = path_join(c->directory, "config.json");
    if (path_exists(old_path)) {
        ModelConfig a, b;
        read_config(&a, old_path);
        read_config(&b, new_path);
        check_same_model(&a, &b);
    }
    free(old_path);
    free(new_path);
}

static void test_both_spellings_of_the_configuration(void **state) {
    (void)state;
    assert_true(path_exists("tests/golden/models/llama_rope_llama3/config_old.json"));
    for_every_case(compare_spellings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models_equal_transformers),
        cmocka_unit_test(test_decoding_equals_transformers),
        cmocka_unit_test(test_smollm2_equals_transformers),
        cmocka_unit_test(test_both_spellings_of_the_configuration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
