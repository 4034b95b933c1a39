// test_cuda_decode.c - generating with weights anywhere, on the CPU and on CUDA: where blocks lie and how tokens are
// grouped into calls changes no bit of the logits, and a call brings each streamed layer to the device once.
#include "model/decode.h"
#include "model/source.h"
#include "tests/parity.h"
#include "tests/tiny_model.h"
#include <stdlib.h>
#include <string.h>

#define LAYERS   5
#define CAPACITY 24
#define PROMPT   9
#define FURTHER  10
#define CALLS    (FURTHER + 1)

typedef struct Model {
    Arena device, pinned, host;
    BlockStore store;
    Decoder decoder;
} Model;

static void take(Model *m, Backend *b, const ModelConfig *config, const StorePlaces *places) {
    Error error = {0};
    BlockLayout layout;
    check(block_layout(&layout, config, &error), &error);
    check(store_create(&m->store, b, &layout, places, &m->device, &m->pinned, &m->host, &error), &error);
    check(decoder_create(&m->decoder, b, config, &m->store, CAPACITY, &m->device, &m->pinned, &error), &error);
}

static void open_model(Model *m, Backend *b, const ModelConfig *config, const StorePlaces *places) {
    Error error = {0};
    Model measured = {0};
    *m = (Model){0};
    arena_measure(&measured.device, MEMORY_DEVICE);
    arena_measure(&measured.pinned, MEMORY_PINNED);
    arena_measure(&measured.host, MEMORY_HOST);
    take(&measured, b, config, places);
    decoder_free(&measured.decoder);
    store_free(&measured.store);
    check(arena_create(&m->device, b, MEMORY_DEVICE, measured.device.peak, "the test", &error), &error);
    check(arena_create(&m->pinned, b, MEMORY_PINNED, measured.pinned.peak, "the test", &error), &error);
    check(arena_create(&m->host, b, MEMORY_HOST, measured.host.peak, "the test", &error), &error);
    take(m, b, config, places);
    check(store_open(&m->store, &error), &error);
    check(model_random_weights(config, &m->store, 3, &error), &error);
    check(decoder_prepare(&m->decoder, &error), &error);
}

static void close_model(Model *m) {
    decoder_free(&m->decoder);
    store_free(&m->store);
    arena_free(&m->host);
    arena_free(&m->pinned);
    arena_free(&m->device);
}

// Layers that come to the buffers for a token: two stay there, and of three the middle one does.
static uint64_t loads_of(int streamed) {
    return streamed < 3 ? 0 : streamed == 3 ? 2 : (uint64_t)streamed;
}

// Feeds a prompt and ten further tokens, one a call; the logits after each call: [CALLS, V], caller's memory.
static float *talk(Model *m, uint64_t seed) {
    Error error = {0};
    int64_t vocabulary = m->decoder.config->vocabulary;
    float *logits = malloc(CALLS * (size_t)vocabulary * sizeof *logits);
    int32_t ids[PROMPT + FURTHER];
    assert_non_null(logits);
    for (int i = 0; i < PROMPT + FURTHER; i++) ids[i] = (int32_t)((seed * 31 + (uint64_t)i * 37) % 71);
    decoder_reset(&m->decoder);
    check(decoder_feed(&m->decoder, ids, PROMPT, logits, &error), &error);
    for (int i = 0; i < FURTHER; i++) {
        uint64_t before = m->store.loads;
        check(decoder_feed(&m->decoder, ids + PROMPT + i, 1, logits + (i + 1) * vocabulary, &error), &error);
        assert_int_equal(m->store.loads - before, loads_of(m->store.places.streamed));
    }
    return logits;
}

static const StorePlaces all_places[] = {
    {.embedding_on_host = true},
    {.streamed = 1},
    {.streamed = 3},
    {.streamed = 3, .in_file = true, .embedding_on_host = true},
    {.streamed = LAYERS, .embedding_on_host = true},
    {.streamed = 2, .in_file = true},
    {.streamed = LAYERS, .in_file = true},
};

static void check_places(Backend *b, bool tied) {
    ModelConfig config = tiny_config();
    config.tied = tied;
    config.layers = LAYERS;
    size_t bytes = CALLS * (size_t)config.vocabulary * sizeof(float);
    Model resident;
    open_model(&resident, b, &config, NULL);
    float *expected[2] = {talk(&resident, 1), talk(&resident, 2)};
    assert_memory_not_equal(expected[0], expected[1], bytes);
    for (size_t i = 0; i < sizeof all_places / sizeof *all_places; i++) {
        StorePlaces places = all_places[i];
        places.scratch_dir = ".";
        if (tied) places.embedding_on_host = false;
        Model m;
        open_model(&m, b, &config, &places);
        assert_int_equal(m.device.peak, m.device.capacity);
        for (int conversation = 0; conversation < 2; conversation++) {
            float *logits = talk(&m, (uint64_t)conversation + 1);
            if (memcmp(logits, expected[conversation], bytes))
                fail_msg("%d streamed, in a file %d, E on the host %d: conversation %d differs", places.streamed,
                         places.in_file, places.embedding_on_host, conversation);
            free(logits);
        }
        close_model(&m);
    }
    close_model(&resident);
    free(expected[0]);
    free(expected[1]);
}

static void places_change_no_bit(void **state) {
    (void)state;
    check_places(parity.exact, false);
    check_places(parity.exact, true);
    check_places(parity.cuda, false);
    emulator_queue_order(QUEUES_RANDOM, 5);
    check_places(parity.cuda, true);
    emulator_queue_order(QUEUES_LATE, 0);
    check_places(parity.cuda, false);
    emulator_queue_order(QUEUES_EARLY, 0);
}

static void check_groups(Backend *b, const StorePlaces *places) {
    static const int64_t groups[][FURTHER] = {{10}, {1, 9}, {3, 3, 4}};
    Error error = {0};
    ModelConfig config = tiny_config();
    config.layers = LAYERS;
    Model m;
    open_model(&m, b, &config, places);
    float *expected = talk(&m, 1), logits[71];
    int32_t ids[PROMPT + FURTHER];
    for (int i = 0; i < PROMPT + FURTHER; i++) ids[i] = (31 + i * 37) % 71;
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        decoder_reset(&m.decoder);
        check(decoder_feed(&m.decoder, ids, PROMPT, logits, &error), &error);
        int64_t fed = 0;
        for (int i = 0; fed < FURTHER; fed += groups[g][i++]) {
            uint64_t before = m.store.loads;
            check(decoder_feed(&m.decoder, ids + PROMPT + fed, groups[g][i], logits, &error), &error);
            assert_int_equal(m.store.loads - before, m.store.places.streamed);
            assert_memory_equal(logits, expected + (fed + groups[g][i]) * 71, sizeof logits);
        }
    }
    free(expected);
    close_model(&m);
}

static void tokens_of_a_call_equal_tokens_one_by_one(void **state) {
    (void)state;
    StorePlaces streamed = {.streamed = LAYERS, .embedding_on_host = true};
    check_groups(parity.exact, NULL);
    check_groups(parity.exact, &streamed);
    check_groups(parity.cuda, NULL);
    check_groups(parity.cuda, &streamed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_change_no_bit),
        cmocka_unit_test(tokens_of_a_call_equal_tokens_one_by_one),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
