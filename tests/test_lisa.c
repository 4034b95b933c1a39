// test_lisa.c - the draws.
#include "tests/support.h"

#include "train/lisa.h"
#include <math.h>
#include <string.h>

static Method method(int layers, int activated, int64_t interval, LisaSampling sampling, uint64_t seed) {
    return (Method){layers, activated, interval, sampling, seed};
}

static void a_draw_holds_for_an_interval(void **state) {
    (void)state;
    Method m = method(32, 2, 20, SAMPLING_UNIFORM, 1);
    assert_int_equal(method_draw_index(&m, 0), 0);
    assert_int_equal(method_draw_index(&m, 1), 0); // no second draw at step 1
    assert_int_equal(method_draw_index(&m, 19), 0);
    assert_int_equal(method_draw_index(&m, 20), 1);
    assert_int_equal(method_draws(&m, 0), 0);
    assert_int_equal(method_draws(&m, 20), 1);
    assert_int_equal(method_draws(&m, 21), 2);
    TrainSettings full = {.finetuning_type = METHOD_FULL, .lisa_activated_layers = 2, .lisa_interval_steps = 20};
    m = method_of(&full, 32);
    assert_int_equal(m.activated, 32);
    assert_int_equal(method_draws(&m, 1000000), 1);
}

static void draws_are_distinct_sorted_and_repeatable(void **state) {
    (void)state;
    for (int sampling = SAMPLING_UNIFORM; sampling <= SAMPLING_CYCLE; sampling++)
        for (int gamma = 0; gamma <= 7; gamma++)
            for (int64_t draw = 0; draw < 50; draw++) {
                Method m = method(7, gamma, 5, (LisaSampling)sampling, 3);
                int a[7] = {0}, b[7] = {0};
                method_draw(&m, draw, a);
                method_draw(&m, draw, b);
                assert_memory_equal(a, b, sizeof a);
                for (int i = 0; i < gamma; i++) assert_in_range(a[i], i ? a[i - 1] + 1 : 0, 6);
            }
}

// Chi-squared over single layers and over pairs: 31 and 27 degrees of freedom, limits at p = 1e-4.
static void uniform_draws_are_uniform(void **state) {
    (void)state;
    int single[32] = {0}, pair[8][8] = {{0}}, layers[2];
    Method m = method(32, 2, 5, SAMPLING_UNIFORM, 42);
    for (int64_t draw = 0; draw < 16000; draw++) {
        method_draw(&m, draw, layers);
        single[layers[0]]++, single[layers[1]]++;
    }
    double chi = 0;
    for (int i = 0; i < 32; i++) chi += pow(single[i] - 1000, 2) / 1000 / (1 - 2.0 / 32);
    assert_true(chi < 69);
    m = method(8, 2, 5, SAMPLING_UNIFORM, 42);
    for (int64_t draw = 0; draw < 28000; draw++) {
        method_draw(&m, draw, layers);
        pair[layers[0]][layers[1]]++;
    }
    chi = 0;
    for (int i = 0; i < 8; i++)
        for (int j = i + 1; j < 8; j++) chi += pow(pair[i][j] - 1000, 2) / 1000;
    assert_true(chi < 64);
}

static void cycles_visit_every_layer(void **state) {
    (void)state;
    for (int gamma = 1; gamma <= 5; gamma++) {
        Method m = method(13, gamma, 5, SAMPLING_CYCLE, 9);
        int64_t per_round = (13 + gamma - 1) / gamma;
        int first[13] = {0}, second[13] = {0}, layers[13];
        for (int64_t draw = 0; draw < 2 * per_round; draw++) {
            method_draw(&m, draw, layers);
            for (int i = 0; i < gamma; i++) (draw < per_round ? first : second)[layers[i]]++;
        }
        for (int layer = 0; layer < 13; layer++) assert_true(first[layer] >= 1 && second[layer] >= 1);
    }
}

static void seeds_give_other_draws(void **state) {
    (void)state;
    int equal = 0;
    for (int64_t draw = 0; draw < 100; draw++) {
        int a[2], b[2];
        Method one = method(32, 2, 5, SAMPLING_UNIFORM, 1), two = method(32, 2, 5, SAMPLING_UNIFORM, 2);
        method_draw(&one, draw, a);
        method_draw(&two, draw, b);
        equal += !memcmp(a, b, sizeof a);
    }
    assert_true(equal < 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_draw_holds_for_an_interval), cmocka_unit_test(draws_are_distinct_sorted_and_repeatable),
        cmocka_unit_test(uniform_draws_are_uniform),    cmocka_unit_test(cycles_visit_every_layer),
        cmocka_unit_test(seeds_give_other_draws),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
