// test_sample.c - drawing the next token: greedy, the shares of a draw, the nucleus, and logits that are not numbers.
#include "model/sample.h"
#include "tests/support.h"
#include <math.h>
#include <string.h>

#define VOCABULARY 7
#define DRAWS      20000

static const float logits[VOCABULARY] = {0.5f, 2.0f, -1.0f, 2.0f, -INFINITY, 1.0f, -30.0f};

static Sampler sampler(double temperature, double top_p) {
    Sampler made;
    Error error = {0};
    check(sampler_create(&made, VOCABULARY, temperature, top_p, 42, &error), &error);
    return made;
}

static void count_draws(double temperature, double top_p, double shares[VOCABULARY]) {
    Sampler s = sampler(temperature, top_p);
    for (int i = 0; i < VOCABULARY; i++) shares[i] = 0;
    for (int position = 0; position < DRAWS; position++) shares[sampler_next(&s, logits, position)] += 1.0 / DRAWS;
    sampler_free(&s);
}

static void test_greedy(void **state) {
    (void)state;
    Sampler s = sampler(0, 1);
    for (int position = 0; position < 5; position++) assert_int_equal(sampler_next(&s, logits, position), 1);
    sampler_free(&s);
}

// Each share is within five standard deviations of the softmax.
static void test_shares(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        double temperature = k ? 0.5 : 1.0, shares[VOCABULARY], total = 0;
        count_draws(temperature, 1, shares);
        for (int i = 0; i < VOCABULARY; i++) total += exp((double)logits[i] / temperature);
        for (int i = 0; i < VOCABULARY; i++) {
            double p = exp((double)logits[i] / temperature) / total;
            assert_true(fabs(shares[i] - p) <= 5 * sqrt(p * (1 - p) / DRAWS) + 1e-9);
        }
    }
}

// At temperature 1 tokens 1 and 3 have 0.360 each, token 5 has 0.132, token 0 has 0.080.
static void test_nucleus(void **state) {
    (void)state;
    double shares[VOCABULARY];
    count_draws(1, 0.3, shares); // the first alone is enough
    assert_true(fabs(shares[1] - 1) < 1e-9);
    count_draws(1, 0.5, shares);
    assert_true(shares[1] > 0.48 && shares[3] > 0.48 && shares[5] == 0);
    count_draws(1, 0.8, shares);
    assert_true(shares[5] > 0.13 && shares[0] == 0 && shares[2] == 0);
}

static void test_same_seed_same_token(void **state) {
    (void)state;
    Sampler a = sampler(1, 0.9), b = sampler(1, 0.9);
    for (int position = 0; position < 100; position++)
        assert_int_equal(sampler_next(&a, logits, position), sampler_next(&b, logits, position));
    sampler_free(&a);
    sampler_free(&b);
}

static void test_not_numbers(void **state) {
    (void)state;
    Sampler s = sampler(1, 1);
    float broken[VOCABULARY];
    memcpy(broken, logits, sizeof broken);
    broken[0] = -INFINITY; // a token that is ruled out
    assert_true(sampler_next(&s, broken, 0) > 0);
    broken[0] = INFINITY;
    assert_int_equal(sampler_next(&s, broken, 0), -1);
    memcpy(broken, logits, sizeof broken);
    broken[VOCABULARY - 1] = NAN;
    assert_int_equal(sampler_next(&s, broken, 0), -1);
    sampler_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),      cmocka_unit_test(test_shares),
        cmocka_unit_test(test_nucleus),     cmocka_unit_test(test_same_seed_same_token),
        cmocka_unit_test(test_not_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
