// test_decode.c - generating with the cache of keys and values, and sampling.
#include "tests/support.h"

#include "model/decode.h"
#include "model/sample.h"
#include "tests/tiny_model.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Model {
    Backend *backend;
    ModelConfig config;
    Arena arena;
    BlockStore store;
    Decoder decoder;
} Model;

static void take(Model *m, Arena *arena, int64_t capacity) {
    Error error = {0};
    BlockLayout layout;
    check(block_layout(&layout, &m->config, &error), &error);
    check(store_create(&m->store, m->backend, &layout, NULL, arena, NULL, NULL, &error), &error);
    check(decoder_create(&m->decoder, m->backend, &m->config, &m->store, capacity, arena, arena, &error), &error);
}

static void make_model(Model *m, ModelConfig config, int64_t capacity) {
    Error error = {0};
    Arena measured;
    *m = (Model){.config = config, .backend = backend_cpu_create(2, false, &error)};
    check(m->backend, &error);
    arena_measure(&measured, MEMORY_DEVICE);
    take(m, &measured, capacity);
    decoder_free(&m->decoder);
    store_free(&m->store);
    check(arena_create(&m->arena, m->backend, MEMORY_DEVICE, measured.peak, "the test", &error), &error);
    take(m, &m->arena, capacity);
    assert_int_equal(m->arena.used, m->arena.capacity);
    check(model_random_weights(&config, &m->store, 3, &error), &error);
    check(decoder_prepare(&m->decoder, &error), &error);
}

static void free_model(Model *m) {
    decoder_free(&m->decoder);
    store_free(&m->store);
    arena_free(&m->arena);
    m->backend->destroy(m->backend);
}

static void tokens_one_by_one_equal_the_prompt_at_once(void **state) {
    (void)state;
    Error error = {0};
    for (int variant = 0; variant < 3; variant++) {
        ModelConfig config = tiny_config();
        config.tied = variant == 1;
        config.qkv_bias = variant == 2;
        if (variant == 2) {
            config.window = 7;
            for (int l = 1; l < config.layers; l++) config.windowed[l] = true;
        }
        Model m;
        make_model(&m, config, 32);
        int32_t ids[29];
        for (int i = 0; i < 29; i++) ids[i] = (i * 37 + 5) % 71;
        float whole[71], parts[71], again[71];
        check(decoder_feed(&m.decoder, ids, 29, whole, &error), &error);
        for (int prompt = 1; prompt < 29; prompt += 9) {
            decoder_reset(&m.decoder);
            check(decoder_feed(&m.decoder, ids, prompt, parts, &error), &error);
            for (int i = prompt; i < 28; i++) check(decoder_feed(&m.decoder, ids + i, 1, parts, &error), &error);
            check(decoder_feed(&m.decoder, ids + 28, 1, parts, &error), &error);
            check_close("logits", parts, whole, 71, 1e-5);
        }
        decoder_reset(&m.decoder);
        check(decoder_feed(&m.decoder, ids, 29, again, &error), &error);
        assert_memory_equal(again, whole, sizeof whole);
        free_model(&m);
    }
}

static void the_capacity_is_a_limit(void **state) {
    (void)state;
    Error error = {0};
    Model m;
    make_model(&m, tiny_config(), 8);
    int32_t ids[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    float logits[71];
    assert_false(decoder_feed(&m.decoder, ids, 9, logits, &error));
    assert_string_equal(error.text, "the text is longer than the 8 tokens that there is room for");
    check(decoder_feed(&m.decoder, ids, 8, logits, &error), &error);
    assert_false(decoder_feed(&m.decoder, ids, 1, logits, &error));
    free_model(&m);
}

static void sampling_follows_the_probabilities(void **state) {
    (void)state;
    Error error = {0};
    Sampler sampler;
    check(sampler_create(&sampler, 4, 1, 1, 5, &error), &error);
    int count[4] = {0};
    for (int64_t position = 0; position < 20000; position++) {
        float logits[4] = {logf(0.5f), logf(0.3f), logf(0.2f), -INFINITY};
        count[sampler_next(&sampler, logits, position)]++;
    }
    assert_in_range(count[0], 9700, 10300);
    assert_in_range(count[1], 5700, 6300);
    assert_in_range(count[2], 3700, 4300);
    assert_int_equal(count[3], 0);
    sampler_free(&sampler);
    check(sampler_create(&sampler, 4, 1, 0.6, 5, &error), &error); // the first two reach 0.6, the third is cut
    int low = 0;
    for (int64_t position = 0; position < 2000; position++) {
        float logits[4] = {logf(0.2f), logf(0.5f), logf(0.3f), -INFINITY};
        int32_t id = sampler_next(&sampler, logits, position);
        assert_true(id == 1 || id == 2);
        low += id == 2;
    }
    assert_in_range(low, 650, 850); // 0.3 / 0.8
    sampler_free(&sampler);
}

static void temperature_zero_takes_the_largest(void **state) {
    (void)state;
    Error error = {0};
    Sampler sampler;
    check(sampler_create(&sampler, 4, 0, 1, 5, &error), &error);
    float logits[4] = {1, -INFINITY, 3, 3}, damaged[4] = {1, NAN, 3, 3};
    assert_int_equal(sampler_next(&sampler, logits, 0), 2);
    assert_int_equal(sampler_next(&sampler, damaged, 0), -1);
    sampler_free(&sampler);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_one_by_one_equal_the_prompt_at_once),
        cmocka_unit_test(the_capacity_is_a_limit),
        cmocka_unit_test(sampling_follows_the_probabilities),
        cmocka_unit_test(temperature_zero_takes_the_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
