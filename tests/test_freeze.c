// test_freeze.c - leaving the active set: stochastic rounding keeps the expected value, and its numbers are keyed.
#include "tests/support.h"

#include "kernels/adamw.h"
#include <stdlib.h>
#include <string.h>

static Backend *make_backend(int threads) {
    Error error = {0};
    Backend *b = backend_cpu_create(threads, false, &error);
    check(b != NULL, &error);
    return b;
}

// Five AdamW steps at 1e-5 from typical weights, then a freeze: how much of the mean update is still there?
static void a_short_interval_is_kept_on_average(void **state) {
    (void)state;
    Backend *b = make_backend(2);
    int64_t count = 1 << 20;
    size_t n = (size_t)count;
    bf16 *weight = malloc(n * sizeof *weight), *start = malloc(n * sizeof *start);
    int16_t *low_bits = calloc(n, sizeof *low_bits);
    float *gradient = malloc(n * sizeof *gradient), *m = calloc(n, sizeof *m), *v = calloc(n, sizeof *v);
    for (int64_t i = 0; i < count; i++) weight[i] = start[i] = bf16_from_float(0.04f * noise(1, (uint64_t)i));
    float clip_scale = 1;
    int32_t skip = 0;
    for (int t = 1; t <= 5; t++) {
        for (int64_t i = 0; i < count; i++) gradient[i] = 1.0f + noise(10 + (uint64_t)t, (uint64_t)i);
        AdamWStep step = {.learning_rate = 1e-5, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8};
        step.bias_correction1 = 1 - pow(0.9, t), step.bias_correction2 = 1 - pow(0.999, t);
        step.clip_scale = &clip_scale, step.skip = &skip;
        b->adamw(b, weight, low_bits, gradient, m, v, count, &step, NULL);
    }
    double learned = 0, nearest = 0, kept = 0;
    for (int64_t i = 0; i < count; i++) {
        learned += (double)master_join(weight[i], low_bits[i]) - bf16_to_float(start[i]);
        nearest += (double)bf16_to_float(weight[i]) - bf16_to_float(start[i]);
    }
    b->freeze(b, weight, low_bits, count, random_key(42, RANDOM_FREEZE, 3, 7), NULL);
    for (int64_t i = 0; i < count; i++) kept += (double)bf16_to_float(weight[i]) - bf16_to_float(start[i]);
    assert_true(fabs(learned / (double)count) > 4e-5);
    if (fabs(kept / learned - 1) > 0.02)
        fail_msg("%.4f of the update is kept, nearest %.4f", kept / learned, nearest / learned);
    free(weight), free(start), free(low_bits), free(gradient), free(m), free(v);
    b->destroy(b);
}

static void a_rounding_is_one_of_the_two_neighbours(void **state) {
    (void)state;
    for (uint64_t i = 0; i < 1u << 20; i++) {
        float master = float_from_bits((uint32_t)random_bits(5, i));
        if (!isfinite(master)) continue;
        float rounded = bf16_to_float(master_round(master, random_bits(6, i)));
        assert_true(isfinite(rounded));
        float below = float_from_bits(float_bits(master) & 0xffff0000u);
        float above = float_from_bits((float_bits(master) & 0xffff0000u) + 0x10000u);
        assert_true(rounded == below || rounded == above);
    }
    // What bf16 can say is never changed, and the largest finite masters stay finite.
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(master_round(float_from_bits(0x3f810000u), random_bits(7, i)), 0x3f81);
        assert_int_equal(master_round(float_from_bits(0x7f7fffffu), random_bits(7, i)), 0x7f7f);
        assert_int_equal(master_round(float_from_bits(0xff7fffffu), random_bits(7, i)), 0xff7f);
    }
}

static void the_share_rounded_up_is_the_distance(void **state) {
    (void)state;
    for (uint32_t cut = 0; cut < 0x10000; cut += 0x1555) {
        float master = float_from_bits(0x3f800000u + cut);
        int64_t up = 0, draws = 200000;
        for (int64_t i = 0; i < draws; i++) up += master_round(master, random_bits(cut, (uint64_t)i)) == 0x3f81;
        double expected = cut / 65536.0, deviation = sqrt(expected * (1 - expected) / (double)draws);
        assert_true(fabs((double)up / (double)draws - expected) <= 5 * deviation);
    }
}

static void freeze(int threads, bf16 *weight, int64_t count, uint64_t key) {
    Backend *b = make_backend(threads);
    int16_t *low_bits = malloc((size_t)count * sizeof *low_bits);
    for (int64_t i = 0; i < count; i++) {
        weight[i] = bf16_from_float(noise(1, (uint64_t)i));
        low_bits[i] = (int16_t)random_bits(2, (uint64_t)i);
    }
    b->freeze(b, weight, low_bits, count, key, NULL);
    free(low_bits);
    b->destroy(b);
}

static void the_key_and_not_the_threads_decide(void **state) {
    (void)state;
    int64_t count = 50021;
    size_t size = (size_t)count * sizeof(bf16);
    bf16 *one = malloc(size), *other = malloc(size);
    freeze(1, one, count, 11);
    for (int threads = 2; threads <= 3; threads++) {
        freeze(threads, other, count, 11);
        assert_memory_equal(one, other, size);
    }
    freeze(1, other, count, 12);
    assert_memory_not_equal(one, other, size);
    free(one), free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_short_interval_is_kept_on_average),
        cmocka_unit_test(a_rounding_is_one_of_the_two_neighbours),
        cmocka_unit_test(the_share_rounded_up_is_the_distance),
        cmocka_unit_test(the_key_and_not_the_threads_decide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
