// test_adamw.c - the optimizer against PyTorch's on stored gradients, and the split of the master weight.
#include "tests/support.h"

#include "base/json.h"
#include "kernels/adamw.h"
#include <stdlib.h>
#include <string.h>

#define GOLDEN "tests/golden/adamw.json" // made by tests/golden/make_optimizer_golden.py

// A slot of one backend and the scalars that the update reads.
typedef struct Slot {
    Backend *b;
    int64_t count;
    bf16 *weight;
    int16_t *low_bits;
    float *gradient, *m, *v;
    float clip_scale;
    int32_t skip;
} Slot;

static Slot make_slot(int threads, int64_t count) {
    Error error = {0};
    Slot s = {.b = backend_cpu_create(threads, false, &error), .count = count, .clip_scale = 1};
    check(s.b != NULL, &error);
    s.weight = calloc((size_t)count, sizeof *s.weight);
    s.low_bits = calloc((size_t)count, sizeof *s.low_bits);
    s.gradient = calloc((size_t)count, sizeof *s.gradient);
    s.m = calloc((size_t)count, sizeof *s.m);
    s.v = calloc((size_t)count, sizeof *s.v);
    return s;
}

static void free_slot(Slot *s) {
    free(s->weight), free(s->low_bits), free(s->gradient), free(s->m), free(s->v);
    s->b->destroy(s->b);
}

static AdamWStep step_number(const Slot *s, int t, double learning_rate, double weight_decay) {
    return (AdamWStep){.learning_rate = learning_rate,
                       .beta1 = 0.9,
                       .beta2 = 0.999,
                       .epsilon = 1e-8,
                       .weight_decay = weight_decay,
                       .bias_correction1 = 1 - pow(0.9, t),
                       .bias_correction2 = 1 - pow(0.999, t),
                       .decayed = s->count,
                       .clip_scale = &s->clip_scale,
                       .skip = &s->skip};
}

static void update(Slot *s, const AdamWStep *step) {
    s->b->adamw(s->b, s->weight, s->low_bits, s->gradient, s->m, s->v, s->count, step, NULL);
}

// Gradients of sizes from 1e-9 to 1 with zeros among them, weights as a model has them.
static void fill_slot(Slot *s) {
    for (int64_t i = 0; i < s->count; i++) {
        s->weight[i] = bf16_from_float(0.1f * noise(1, (uint64_t)i));
        s->gradient[i] = i % 11 ? powf(10, (float)(-i % 10)) * noise(2, (uint64_t)i) : 0;
    }
}

// ---- against PyTorch ---------------------------------------------------------------------------------------------

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static float element(const json_t *object, const char *key, int64_t i) {
    return (float)json_number_value(json_array_get(json_object_get(object, key), (size_t)i));
}

// The distance in units of the last place of the larger one, at least that of `floor`.
static double ulps(float a, float b, float floor) {
    float size = fmaxf(fmaxf(fabsf(a), fabsf(b)), floor);
    return fabs((double)a - b) / ((double)nextafterf(size, INFINITY) - size);
}

static void close_in_ulps(const char *what, float value, float expected, double limit, int64_t i) {
    double distance = ulps(value, expected, 1e-37f);
    if (!(distance <= limit))
        fail_msg("%s[%d]: %.9g instead of %.9g, %.1f ulps", what, (int)i, value, expected, distance);
}

static void run_against_pytorch(const json_t *run) {
    int64_t count = (int64_t)json_array_size(json_object_get(run, "start"));
    Slot s = make_slot(2, count);
    for (int64_t i = 0; i < count; i++) s.weight[i] = bf16_from_float(element(run, "start", i));
    const json_t *steps = json_object_get(run, "steps");
    for (size_t t = 0; t < json_array_size(steps); t++) {
        const json_t *golden = json_array_get(steps, t);
        for (int64_t i = 0; i < count; i++) s.gradient[i] = element(golden, "gradient", i);
        double squares = 0, loss = 1;
        float norm;
        s.b->sum_squares(s.b, &squares, s.gradient, count, NULL);
        s.b->clip_finish(s.b, &norm, &s.clip_scale, &s.skip, &squares, 1, &loss, (float)number(run, "max_grad_norm"),
                         NULL);
        close_in_ulps("norm", norm, (float)number(golden, "norm"), 2, (int64_t)t);
        AdamWStep step = step_number(&s, (int)t + 1, number(run, "learning_rate"), number(run, "weight_decay"));
        step.decayed = (int64_t)number(run, "decayed");
        update(&s, &step);
        for (int64_t i = 0; i < count; i++)
            close_in_ulps("master", master_join(s.weight[i], s.low_bits[i]), element(golden, "master", i), 2, i);
    }
    for (int64_t i = 0; i < count; i++) {
        close_in_ulps("m", s.m[i], element(run, "m", i), 8, i);
        close_in_ulps("v", s.v[i], element(run, "v", i), 8, i);
    }
    free_slot(&s);
}

static void updates_equal_pytorch(void **state) {
    (void)state;
    Error error = {0};
    json_t *golden = json_read_file(GOLDEN, 1 << 20, &error);
    check(golden != NULL, &error);
    const json_t *runs = json_object_get(golden, "runs");
    assert_true(json_array_size(runs) >= 3);
    for (size_t i = 0; i < json_array_size(runs); i++) run_against_pytorch(json_array_get(runs, i));
    json_decref(golden);
}

// ---- the split ---------------------------------------------------------------------------------------------------

static void every_master_survives_the_split(void **state) {
    (void)state;
    // A stride that is prime to 2^32 walks over all kinds of patterns; the ties are taken on top.
    for (uint64_t i = 0; i < 1u << 22; i++) {
        uint32_t bits = (uint32_t)(i * 1048583u);
        if (i % 16 == 0) bits = (bits & 0xffff0000u) | 0x8000u;
        float master = float_from_bits(bits);
        if (!isfinite(master)) continue;
        bf16 high = master_high(master);
        assert_int_equal(float_bits(master_join(high, master_low(master, high))), bits);
    }
    assert_int_equal(master_high(float_from_bits(0x3f808000u)), 0x3f81); // half away from zero
    assert_int_equal(master_high(float_from_bits(0xbf808000u)), 0xbf81);
    assert_int_equal(master_high(float_from_bits(0x3f807fffu)), 0x3f80);
    assert_int_equal(master_high(-0.0f), 0x8000);
}

static void every_bf16_starts_as_its_own_master(void **state) {
    (void)state;
    for (uint32_t high = 0; high < 0x10000; high++) {
        float master = master_join((bf16)high, 0);
        assert_int_equal(float_bits(master), high << 16);
        assert_int_equal(master_high(master), high);
    }
}

// ---- properties of the update ------------------------------------------------------------------------------------

static void a_skipped_step_changes_nothing(void **state) {
    (void)state;
    Slot s = make_slot(2, 40000), before = make_slot(1, 40000);
    fill_slot(&s), fill_slot(&before);
    s.gradient[5] = NAN;
    double squares = NAN, loss = 1;
    float norm;
    s.b->clip_finish(s.b, &norm, &s.clip_scale, &s.skip, &squares, 1, &loss, 1, NULL);
    assert_int_equal(s.skip, 1);
    AdamWStep step = step_number(&s, 1, 1e-3, 0.1);
    update(&s, &step);
    assert_memory_equal(s.weight, before.weight, (size_t)s.count * sizeof *s.weight);
    assert_memory_equal(s.low_bits, before.low_bits, (size_t)s.count * sizeof *s.low_bits);
    assert_memory_equal(s.m, before.m, (size_t)s.count * sizeof *s.m);
    assert_memory_equal(s.v, before.v, (size_t)s.count * sizeof *s.v);
    free_slot(&s), free_slot(&before);
}

static void padding_stays_zero(void **state) {
    (void)state;
    Slot s = make_slot(2, 100);
    for (int t = 1; t <= 20; t++) {
        AdamWStep step = step_number(&s, t, 1e-2, 0.1);
        update(&s, &step);
    }
    for (int64_t i = 0; i < s.count; i++)
        assert_true(s.weight[i] == 0 && s.low_bits[i] == 0 && s.m[i] == 0 && s.v[i] == 0);
    free_slot(&s);
}

static void threads_change_no_bit(void **state) {
    (void)state;
    int64_t count = 100003;
    Slot one = make_slot(1, count);
    fill_slot(&one);
    for (int t = 1; t <= 3; t++) {
        AdamWStep step = step_number(&one, t, 1e-3, 0.1);
        step.decayed = 33333;
        update(&one, &step);
    }
    for (int threads = 2; threads <= 3; threads++) {
        Slot many = make_slot(threads, count);
        fill_slot(&many);
        for (int t = 1; t <= 3; t++) {
            AdamWStep step = step_number(&many, t, 1e-3, 0.1);
            step.decayed = 33333;
            update(&many, &step);
        }
        assert_memory_equal(one.weight, many.weight, (size_t)count * sizeof *one.weight);
        assert_memory_equal(one.low_bits, many.low_bits, (size_t)count * sizeof *one.low_bits);
        assert_memory_equal(one.m, many.m, (size_t)count * sizeof *one.m);
        assert_memory_equal(one.v, many.v, (size_t)count * sizeof *one.v);
        free_slot(&many);
    }
    free_slot(&one);
}

// The kernel is vectorised, the header is not here: both must be the same arithmetic.
static void the_kernel_is_the_header(void **state) {
    (void)state;
    Slot s = make_slot(2, 20011);
    fill_slot(&s);
    s.clip_scale = 0.37f;
    for (int t = 1; t <= 3; t++) {
        AdamWStep step = step_number(&s, t, 1e-3, 0.1);
        step.decayed = 10007;
        AdamWFactors factors = adamw_factors(&step);
        Slot expected = make_slot(1, s.count);
        for (int64_t i = 0; i < s.count; i++) {
            expected.m[i] = s.m[i], expected.v[i] = s.v[i];
            float master = adamw_update(master_join(s.weight[i], s.low_bits[i]), s.gradient[i] * s.clip_scale,
                                        &expected.m[i], &expected.v[i], i < step.decayed ? factors.decay : 1, &factors);
            expected.weight[i] = master_high(master);
            expected.low_bits[i] = master_low(master, expected.weight[i]);
        }
        update(&s, &step);
        assert_memory_equal(s.weight, expected.weight, (size_t)s.count * sizeof *s.weight);
        assert_memory_equal(s.low_bits, expected.low_bits, (size_t)s.count * sizeof *s.low_bits);
        assert_memory_equal(s.m, expected.m, (size_t)s.count * sizeof *s.m);
        assert_memory_equal(s.v, expected.v, (size_t)s.count * sizeof *s.v);
        free_slot(&expected);
    }
    free_slot(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(updates_equal_pytorch),
        cmocka_unit_test(every_master_survives_the_split),
        cmocka_unit_test(every_bf16_starts_as_its_own_master),
        cmocka_unit_test(a_skipped_step_changes_nothing),
        cmocka_unit_test(padding_stays_zero),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(the_kernel_is_the_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
