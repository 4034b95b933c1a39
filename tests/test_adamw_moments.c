// test_adamw_moments.c - AdamW with moments in bf16: rounded so that what is expected of them is kept.
#include "tests/support.h"

#include "kernels/adamw.h"
#include <stdlib.h>
#include <string.h>

#define COUNT 4096

typedef struct Slot {
    Backend *b;
    bf16 weight[COUNT];
    int16_t low_bits[COUNT];
    float gradient[COUNT];
    bf16 m[COUNT], v[COUNT];
    float clip_scale;
    int32_t skip;
} Slot;

static Slot *make_slot(int threads) {
    Error error = {0};
    Slot *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->b = backend_cpu_create(threads, false, &error);
    check(s->b != NULL, &error);
    s->clip_scale = 1;
    for (int64_t i = 0; i < COUNT; i++) s->weight[i] = bf16_from_float(0.1f * noise(1, (uint64_t)i));
    return s;
}

static void free_slot(Slot *s) {
    s->b->destroy(s->b);
    free(s);
}

static AdamWStep step_number(const Slot *s, int t, uint64_t key) {
    AdamWStep step = {.learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.1};
    step.bias_correction1 = 1 - pow(0.9, t), step.bias_correction2 = 1 - pow(0.999, t);
    step.decayed = COUNT / 3, step.clip_scale = &s->clip_scale, step.skip = &s->skip;
    step.bf16_moments = true, step.moment_key = key;
    return step;
}

static void update(Slot *s, int64_t count, const AdamWStep *step) {
    s->b->adamw(s->b, s->weight, s->low_bits, s->gradient, s->m, s->v, count, step, NULL);
}

// ---- the arithmetic --------------------------------------------------------------------------------------------

// The update is that of float moments with these values; what it gives is rounded with the element's own bits.
static void the_kernel_is_the_header(void **state) {
    (void)state;
    static const int64_t COUNTS[] = {1, 7, 255, 256, 257, 1000, COUNT - 1, COUNT};
    for (size_t c = 0; c < sizeof COUNTS / sizeof *COUNTS; c++) {
        Slot *s = make_slot(1), *expected = make_slot(1);
        s->clip_scale = 0.37f;
        for (int t = 1; t <= 3; t++) {
            AdamWStep step = step_number(s, t, random_key(1, RANDOM_MOMENTS, 2, (uint64_t)t));
            AdamWFactors factors = adamw_factors(&step);
            for (int64_t i = 0; i < COUNT; i++) s->gradient[i] = i % 11 ? noise((uint64_t)t, (uint64_t)i) : 0;
            for (int64_t i = 0; i < COUNTS[c]; i++) {
                float m = bf16_to_float(s->m[i]), v = bf16_to_float(s->v[i]);
                float master = adamw_update(master_join(s->weight[i], s->low_bits[i]), s->gradient[i] * s->clip_scale,
                                            &m, &v, i < step.decayed ? factors.decay : 1, &factors);
                expected->weight[i] = master_high(master);
                expected->low_bits[i] = master_low(master, expected->weight[i]);
                expected->m[i] = moment_round_m(m, random_bits(step.moment_key, (uint64_t)i));
                expected->v[i] = moment_round_v(v, random_bits(step.moment_key, (uint64_t)i));
            }
            update(s, COUNTS[c], &step);
            assert_memory_equal(s->weight, expected->weight, sizeof s->weight);
            assert_memory_equal(s->low_bits, expected->low_bits, sizeof s->low_bits);
            assert_memory_equal(s->m, expected->m, sizeof s->m);
            assert_memory_equal(s->v, expected->v, sizeof s->v);
        }
        free_slot(s), free_slot(expected);
    }
}

// Enough elements for several pieces of work.
static void threads_change_no_bit(void **state) {
    (void)state;
    size_t count = 100003;
    uint16_t *states[3];
    for (int threads = 1; threads <= 3; threads++) {
        Slot *s = make_slot(threads);
        uint16_t *all = states[threads - 1] = calloc(4 * count, sizeof *all);
        float *gradient = malloc(count * sizeof *gradient);
        assert_true(all != NULL && gradient != NULL);
        for (int t = 1; t <= 3; t++) {
            AdamWStep step = step_number(s, t, (uint64_t)t);
            step.decayed = 33333;
            for (size_t i = 0; i < count; i++) gradient[i] = noise((uint64_t)t, i);
            s->b->adamw(s->b, all, (int16_t *)all + count, gradient, all + 2 * count, all + 3 * count, (int64_t)count,
                        &step, NULL);
        }
        free(gradient), free_slot(s);
    }
    assert_memory_equal(states[0], states[1], 4 * count * sizeof(uint16_t));
    assert_memory_equal(states[0], states[2], 4 * count * sizeof(uint16_t));
    for (int i = 0; i < 3; i++) free(states[i]);
}

// ---- the rounding ------------------------------------------------------------------------------------------------

static void a_rounding_is_one_of_the_two_neighbours(void **state) {
    (void)state;
    for (uint64_t i = 0; i < 1u << 20; i++) {
        float value = float_from_bits((uint32_t)random_bits(5, i));
        if (!isfinite(value)) continue;
        float below = float_from_bits(float_bits(value) & 0xffff0000u);
        float above = float_from_bits((float_bits(value) & 0xffff0000u) + 0x10000u);
        float m = bf16_to_float(moment_round_m(value, random_bits(6, i)));
        float v = bf16_to_float(moment_round_v(value, random_bits(6, i)));
        assert_true(isfinite(m) && isfinite(v));
        assert_true((m == below || m == above) && (v == below || v == above));
    }
    for (uint64_t i = 0; i < 1000; i++) { // what has no neighbour to go to
        uint64_t random = random_bits(7, i);
        assert_int_equal(moment_round_m(float_from_bits(0xff7fffffu), random), 0xff7f);
        assert_int_equal(moment_round_v(float_from_bits(0x7f7fffffu), random), 0x7f7f);
        assert_int_equal(moment_round_m(-INFINITY, random), 0xff80);
        assert_int_equal(moment_round_v(INFINITY, random), 0x7f80);
        assert_int_equal(moment_round_m(float_from_bits(0x7fc00000u), random), 0x7fc0);
        assert_int_equal(moment_round_v(float_from_bits(0x7fc00000u), random), 0x7fc0);
        assert_int_equal(moment_round_m(-0.0f, random), 0x8000);
    }
}

// How often m and v of one value go up, and how often both do, over the elements and over the keys.
static void count_ups(uint32_t cut, bool over_keys, int64_t draws, int64_t ups[3]) {
    float value = float_from_bits(0x3f800000u + cut);
    ups[0] = ups[1] = ups[2] = 0;
    for (int64_t i = 0; i < draws; i++) {
        uint64_t key = random_key(42, RANDOM_MOMENTS, 3, over_keys ? (uint64_t)i : 9);
        uint64_t random = random_bits(key, over_keys ? 9 : (uint64_t)i);
        bool m = moment_round_m(value, random) == 0x3f81, v = moment_round_v(value, random) == 0x3f81;
        ups[0] += m, ups[1] += v, ups[2] += m && v;
    }
}

static void the_share_rounded_up_is_the_distance_for_both_on_their_own(void **state) {
    (void)state;
    int64_t draws = 200000, ups[3];
    for (uint32_t cut = 0; cut < 0x10000; cut += 0x1555) {
        for (int over_keys = 0; over_keys < 2; over_keys++) {
            count_ups(cut, over_keys, draws, ups);
            double expected = cut / 65536.0, both = expected * expected;
            double bound = 5 * sqrt(expected * (1 - expected) / (double)draws);
            assert_true(fabs((double)ups[0] / (double)draws - expected) <= bound);
            assert_true(fabs((double)ups[1] / (double)draws - expected) <= bound);
            bound = 5 * sqrt(both * (1 - both) / (double)draws);
            assert_true(fabs((double)ups[2] / (double)draws - both) <= bound);
        }
    }
}

// ---- what the optimizer needs of it --------------------------------------------------------------------------------

// The mean over all elements, each of which has draws of its own, and the mean of the squares of the distances to it.
static double mean_of(const bf16 *values, double *deviation) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < COUNT; i++) sum += bf16_to_float(values[i]);
    double mean = sum / COUNT;
    for (int64_t i = 0; i < COUNT; i++) squares += pow(bf16_to_float(values[i]) - mean, 2);
    *deviation = sqrt(squares / COUNT / COUNT); // of the mean
    return mean;
}

// Steps of one and the same gradient on every element: the mean of m and v follows what float would have.
static void follow(Slot *s, int first, int steps, float gradient, double *m, double *v) {
    for (int64_t i = 0; i < COUNT; i++) s->gradient[i] = gradient;
    for (int t = first; t < first + steps; t++) {
        AdamWStep step = step_number(s, t, random_key(42, RANDOM_MOMENTS, 3, (uint64_t)t));
        update(s, COUNT, &step);
        *m += (1 - 0.9) * (gradient - *m);
        *v += (1 - 0.999) * ((double)gradient * gradient - *v);
    }
    double deviation, mean = mean_of(s->m, &deviation);
    if (!(fabs(mean - *m) <= 5 * deviation + 1e-5 * fabs(*m) + 1e-37))
        fail_msg("m is %g on average and not %g (deviation %g)", mean, *m, deviation);
    mean = mean_of(s->v, &deviation);
    if (!(fabs(mean - *v) <= 5 * deviation + 1e-4 * *v)) // beta2 and 1 - beta2 are floats in the update
        fail_msg("v is %g on average and not %g (deviation %g)", mean, *v, deviation);
    if (!(deviation * sqrt(COUNT) < 0.1 * *v)) fail_msg("v scatters by %g around %g", deviation * sqrt(COUNT), *v);
}

static void the_means_of_the_moments_are_floats(void **state) {
    (void)state;
    Slot *s = make_slot(2);
    double m = 0, v = 0;
    follow(s, 1, 1, 0.3f, &m, &v);
    follow(s, 2, 300, 0.3f, &m, &v);
    follow(s, 302, 50, -0.02f, &m, &v); // v falls by a thousandth at a time, m changes its sign
    follow(s, 352, 1000, 0.0f, &m, &v);
    assert_true(v < 0.3 * (1 - pow(0.999, 301)) * 0.09 * 1.2); // it has fallen to about e^-1.05 of its height
    free_slot(s);
}

// A bf16 has steps of 1/128 to 1/256 of its value: rounded to nearest, a thousandth less is no less.
static void v_would_stand_still_without_it(void **state) {
    (void)state;
    Slot *s = make_slot(2);
    float nearest = 0.7f;
    for (int64_t i = 0; i < COUNT; i++) s->v[i] = bf16_from_float(nearest);
    float start = nearest = bf16_to_float(s->v[0]);
    for (int t = 1; t <= 1000; t++) {
        AdamWStep step = step_number(s, t, (uint64_t)t);
        update(s, COUNT, &step);
        nearest = bf16_to_float(bf16_from_float(nearest * 0.999f));
    }
    assert_true(nearest == start);
    double deviation, mean = mean_of(s->v, &deviation);
    assert_true(fabs(mean - start * pow(0.999, 1000)) <= 5 * deviation + 1e-4 * start);
    free_slot(s);
}

static void what_is_not_finite_stays_what_it_is(void **state) {
    (void)state;
    Slot *s = make_slot(2);
    for (int64_t i = 0; i < COUNT; i++)
        s->gradient[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : 1.84467e19f; // the last: just below what overflows
    AdamWStep step = step_number(s, 1, 5);
    step.beta2 = 0; // v becomes the gradient's square
    update(s, COUNT, &step);
    for (int64_t i = 0; i < COUNT; i++) {
        assert_int_equal(s->v[i], i % 3 == 0 ? 0x7fc0 : i % 3 == 1 ? 0x7f80 : 0x7f7f);
        if (i % 3 == 0) assert_int_equal(s->m[i], 0x7fc0);
        if (i % 3 == 2) assert_true(isfinite(bf16_to_float(s->m[i])));
    }
    free_slot(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_is_the_header),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(a_rounding_is_one_of_the_two_neighbours),
        cmocka_unit_test(the_share_rounded_up_is_the_distance_for_both_on_their_own),
        cmocka_unit_test(the_means_of_the_moments_are_floats),
        cmocka_unit_test(v_would_stand_still_without_it),
        cmocka_unit_test(what_is_not_finite_stays_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
