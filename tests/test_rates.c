// test_rates.c - what a machine is assumed and measured to do: train/rates.h.
#include "base/clock.h"
#include "tests/emulator/emulator.h"
#include "tests/support.h"
#include "tests/tiny_model.h"
#include "train/rates.h"
#include <math.h>
#include <string.h>

static void cards_are_told_by_their_memory(void **state) {
    (void)state;
    static const struct {
        double gib;
        const char *name;
    } CASES[] = {{0, "RTX 4060 laptop"}, {8, "RTX 4060 laptop"}, {12, "RTX 4080 laptop"}, {16, "RTX 4090 laptop"},
                 {23.5, "RTX 4090"},     {24, "RTX 4090"},       {32, "RTX 5090"},        {80, "H200"},
                 {140, "H200"},          {1 << 30, "H200"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Rates r = rates_assumed((uint64_t)(CASES[i].gib * (1 << 30)));
        assert_string_equal(r.name, CASES[i].name);
        assert_true(r.flops > r.memory && r.memory > r.to_device && r.to_device > r.disk && r.host > r.disk);
        assert_true(r.to_device == r.to_host);
    }
    Rates card = rates_assumed((uint64_t)24 << 30);
    assert_true(fabs(card.flops / (0.8 * 165.2e12) - 1) < 1e-3);
    assert_true(fabs(card.memory / (0.85 * 1008e9) - 1) < 1e-9);
}

static void plausible(const Rates *r) {
    const double rates[] = {r->flops, r->memory, r->to_device, r->to_host, r->disk, r->host};
    assert_string_equal(r->name, "measured");
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) assert_true(rates[i] > 1e6 && rates[i] < 1e16);
}

static ModelConfig llama_7b(void) {
    ModelConfig config = tiny_config();
    config.layers = 32, config.heads = config.kv_heads = 32, config.head_dim = 128, config.hidden = 4096;
    config.intermediate = 11008, config.vocabulary = 32000;
    return config;
}

// A model whose products take minutes here is measured by a part of one.
static void the_cpu_is_measured_quickly(void **state) {
    (void)state;
    Error error = {0};
    Backend *cpu = backend_cpu_create(0, false, &error);
    check(cpu != NULL, &error);
    const ModelConfig configs[] = {llama_7b(), tiny_config()};
    for (int i = 0; i < 2; i++) {
        Rates r;
        double start = clock_seconds();
        check(rates_measure(&r, cpu, &configs[i], &error), &error);
        double seconds = clock_seconds() - start;
        print_message("%.2f s: %.1f GFLOP/s, memory %.1f, AdamW %.1f GB/s\n", seconds, r.flops / 1e9, r.memory / 1e9,
                      r.host / 1e9);
        plausible(&r);
        assert_true(r.to_device == r.memory && r.to_host == r.memory);
        assert_true(seconds < 10); // under two, were the machine not busy with other tests
    }
    cpu->destroy(cpu);
}

static void a_card_is_measured_and_left_as_it_was(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    Error error = {0};
    Backend *card = backend_cuda_create(0, 1, &error);
    check(card != NULL, &error);
    ModelConfig config = tiny_config();
    uint64_t before = card->memory_in_use(card);
    Rates r;
    check(rates_measure(&r, card, &config, &error), &error);
    plausible(&r);
    assert_int_equal(card->memory_in_use(card), before);
    assert_int_equal(emulator_errors(), 0);

    // with hardly any memory left it makes do with less, with none it says so and leaves nothing behind
    emulator_memory_limit(card->workspace_bytes + (6 << 20));
    check(rates_measure(&r, card, &config, &error), &error);
    plausible(&r);
    assert_int_equal(card->memory_in_use(card), before);
    emulator_memory_limit(card->workspace_bytes + (1 << 20));
    assert_false(rates_measure(&r, card, &config, &error));
    assert_non_null(strstr(error.text, "out of memory on the card"));
    assert_int_equal(card->memory_in_use(card), before);
    emulator_memory_limit((size_t)8 << 30);
    check(card->check(card, &error), &error);
    card->destroy(card);
}

static void a_fault_is_told(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    Error error = {0};
    Backend *card = backend_cuda_create(0, 1, &error);
    check(card != NULL, &error);
    ModelConfig config = tiny_config();
    Rates r;
    emulator_quiet(true);
    emulator_fail_launch(1, 719);
    assert_false(rates_measure(&r, card, &config, &error));
    assert_non_null(strstr(error.text, "CUDA: "));
    emulator_clear_errors();
    emulator_quiet(false);
    card->destroy(card);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cards_are_told_by_their_memory),
        cmocka_unit_test(the_cpu_is_measured_quickly),
        cmocka_unit_test(a_card_is_measured_and_left_as_it_was),
        cmocka_unit_test(a_fault_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
