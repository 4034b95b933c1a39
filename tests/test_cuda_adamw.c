// test_cuda_adamw.c - the optimizer and the rounding at a freeze give the CPU backend's bits, whatever the values.
#include "tests/parity.h"

#include "base/random.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- some steps of a slot ------------------------------------------------------------------------------------------

// A slot that lies `offset` elements into its arrays; as many elements follow it. Those must stay as they are.
typedef struct Case {
    int64_t count, decayed;
    int64_t offset;
    int steps;
    float clip_scale;
    int32_t skip;
    bool any_bits; // else weights and gradients as in training
    bool bf16_moments;
    double learning_rate;
} Case;

static int64_t room(const Case *c) {
    return round_up(c->count + 2 * c->offset, 2); // even, so that 16-bit arrays are whole words
}

static float any_float(uint64_t key, int64_t i) {
    static const uint32_t SPECIAL[] = {0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff,
                                       0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc12345, 0x7f800001,
                                       0x3f800000, 0xbf808000, 0x00008000, 0x7f7f8000};
    uint64_t bits = random_bits(key, (uint64_t)i);
    return float_from_bits(bits >> 62 ? (uint32_t)bits : SPECIAL[bits % 16]);
}

// What training has: sizes from 1e-9 to 1 with zeros among them.
static float any_gradient(uint64_t key, int64_t i) {
    return i % 11 ? powf(10, (float)(-i % 10)) * noise(key, (uint64_t)i) : 0;
}

static void *make_floats(Backend *b, const Case *c, uint64_t key, bool zero) {
    int64_t count = room(c);
    float *values = calloc((size_t)count, sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count && !zero; i++) values[i] = c->any_bits ? any_float(key, i) : any_gradient(key, i);
    void *device = device_floats(b, values, count);
    free(values);
    return device;
}

static void *make_halves(Backend *b, const Case *c, uint64_t key, bool zero) {
    int64_t count = room(c);
    uint16_t *values = calloc((size_t)count, sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count && !zero; i++) {
        float value = c->any_bits ? any_float(key, i) : 0.1f * noise(key, (uint64_t)i);
        values[i] = (uint16_t)(float_bits(value) >> (c->any_bits && i % 2 ? 0 : 16));
    }
    void *device = device_bytes(b, values, (size_t)count * sizeof *values);
    free(values);
    return device;
}

static void *make_moments(Backend *b, const Case *c, uint64_t key) {
    return c->bf16_moments ? make_halves(b, c, key, !c->any_bits) : make_floats(b, c, key, !c->any_bits);
}

static void *moment(const Case *c, void *moments, int64_t index) {
    return (char *)moments + (size_t)index * (c->bf16_moments ? sizeof(bf16) : sizeof(float));
}

static void run_steps(void *context, Backend *b, Results *results) {
    const Case *c = context;
    int64_t count = room(c), offset = c->offset;
    bf16 *weight = make_halves(b, c, 1, false);
    int16_t *low_bits = make_halves(b, c, 2, !c->any_bits);
    void *m = make_moments(b, c, 3), *v = make_moments(b, c, 4);
    float *clip_scale = device_floats(b, &c->clip_scale, 1);
    int32_t *skip = device_bytes(b, &c->skip, sizeof c->skip);
    for (int t = 1; t <= c->steps; t++) {
        float *gradient = make_floats(b, c, 10 + (uint64_t)t, false);
        AdamWStep step = {.learning_rate = c->learning_rate, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8};
        step.weight_decay = 0.1, step.decayed = c->decayed;
        step.bias_correction1 = 1 - pow(0.9, t), step.bias_correction2 = 1 - pow(0.999, t);
        step.clip_scale = clip_scale, step.skip = skip;
        step.bf16_moments = c->bf16_moments, step.moment_key = random_key(42, RANDOM_MOMENTS, 5, (uint64_t)t);
        b->adamw(b, weight + offset, low_bits + offset, gradient + offset, moment(c, m, offset), moment(c, v, offset),
                 c->count, &step, NULL);
        b->synchronize(b, NULL);
        device_free(b, gradient);
    }
    take_bits(results, b, weight, count / 2);
    take_bits(results, b, low_bits, count / 2);
    take_bits(results, b, m, c->bf16_moments ? count / 2 : count);
    take_bits(results, b, v, c->bf16_moments ? count / 2 : count);
    device_free(b, weight), device_free(b, low_bits), device_free(b, m), device_free(b, v);
    device_free(b, clip_scale), device_free(b, skip);
}

static void same_bits(const Case *c, const Results *card, const Results *cpu) {
    static const char *const NAMES[] = {"weights", "low bits", "m", "v"};
    assert_int_equal(card->count, cpu->count);
    for (int j = 0; j < card->count; j++) {
        for (int64_t i = 0; i < card->sizes[j]; i++) {
            uint32_t a = float_bits(card->values[j][i]), b = float_bits(cpu->values[j][i]);
            if (a != b)
                fail_msg("%d elements, %d steps: word %d of the %s is %08x, the CPU's %08x", (int)c->count, c->steps,
                         (int)i, NAMES[j], a, b);
        }
    }
}

// On the card in three thread orders and on the CPU, compared bit for bit.
static void compare(Case c, ParityRun *run) {
    Results card, cpu = {0};
    parity_run_orders(run, &c, &card);
    run(&c, parity.exact, &cpu);
    same_bits(&c, &card, &cpu);
    results_free(&card), results_free(&cpu);
}

static void odd_counts_and_places(void **state) {
    (void)state;
    static const int64_t COUNTS[] = {1, 3, 4, 5, 8, 1023, 1024, 1025, 2047, 2048, 2049, 5003};
    Case c = {.steps = 2, .clip_scale = 0.37f, .learning_rate = 1e-3};
    compare((Case){.steps = 1, .clip_scale = 1, .learning_rate = 1}, run_steps); // no elements
    for (int bf16_moments = 0; bf16_moments < 2; bf16_moments++) {
        c.bf16_moments = bf16_moments;
        for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++) {
            c.count = COUNTS[i], c.decayed = COUNTS[i] / 2;
            c.offset = i % 3 ? 4 : 0; // both aligned for vectors
            compare(c, run_steps);
        }
        for (c.offset = 1; c.offset <= 3; c.offset++) compare(c, run_steps); // not aligned
    }
}

static void the_decay_ends_where_it_should(void **state) {
    (void)state;
    static const int64_t DECAYED[] = {0, 1, 1022, 1023, 1024, 2500, 2999, 3000, 4000};
    Case c = {.count = 3000, .offset = 4, .steps = 1, .clip_scale = 1, .learning_rate = 0.5};
    for (size_t i = 0; i < sizeof DECAYED / sizeof *DECAYED; i++) {
        c.decayed = DECAYED[i];
        compare(c, run_steps);
    }
}

static void many_steps_of_training(void **state) {
    (void)state;
    compare((Case){.count = 3001, .decayed = 2000, .steps = 12, .clip_scale = 0.123f, .learning_rate = 1e-5},
            run_steps);
    Case c = {.count = 3001, .decayed = 2000, .steps = 12, .clip_scale = 1, .learning_rate = 3e-4};
    compare(c, run_steps);
    c.bf16_moments = true;
    compare(c, run_steps);
}

// Every kind of bit pattern in every array: denormals, infinities, NaNs, negative second moments.
static void any_bits_at_all(void **state) {
    (void)state;
    Case c = {.count = 30011, .decayed = 15000, .steps = 1, .clip_scale = 0.7f, .learning_rate = 1e-3};
    c.any_bits = true;
    compare(c, run_steps);
    c.bf16_moments = true;
    compare(c, run_steps);
    c.clip_scale = 1e30f; // moments close to what overflows, and beyond
    compare(c, run_steps);
    c.bf16_moments = false;
    c.count = 7001, c.steps = 4;
    for (c.clip_scale = 1e-40f; c.clip_scale <= 1; c.clip_scale *= 1e20f) compare(c, run_steps);
    c.clip_scale = 1, c.learning_rate = 1e30;
    compare(c, run_steps);
}

static void a_skipped_step_changes_nothing(void **state) {
    (void)state;
    Case c = {.count = 2051, .decayed = 100, .steps = 0, .clip_scale = 1, .learning_rate = 1e-3};
    Results before = {0}, after;
    run_steps(&c, parity.cuda, &before);
    c.steps = 1, c.skip = 1;
    parity_run_orders(run_steps, &c, &after);
    same_bits(&c, &after, &before);
    results_free(&after);
    c.bf16_moments = true, c.steps = 0;
    results_free(&before);
    run_steps(&c, parity.cuda, &before);
    c.steps = 1;
    parity_run_orders(run_steps, &c, &after);
    same_bits(&c, &after, &before);
    results_free(&after);
    c.skip = 0;
    run_steps(&c, parity.cuda, &after);
    assert_memory_not_equal(after.values[0], before.values[0], (size_t)after.sizes[0] * sizeof(float));
    results_free(&before), results_free(&after);
}

// A NaN that comes about is the same one everywhere, and the weight that the forward pass reads shows it.
static void a_nan_is_seen_in_the_weight(void **state) {
    (void)state;
    Case c = {.count = 4000, .decayed = 0, .steps = 1, .clip_scale = INFINITY, .learning_rate = 1e-3};
    Results card = {0};
    run_steps(&c, parity.cuda, &card); // gradients: infinite, and NaN where they were 0; infinite / infinite is NaN
    for (int64_t i = 0; i < c.count; i++) {
        uint32_t pair = float_bits(card.values[0][i / 2]), weight = i % 2 ? pair >> 16 : pair & 0xffff;
        assert_int_equal(weight, 0x7fc0);
        assert_true(i % 11 ? isinf(card.values[2][i]) : float_bits(card.values[2][i]) == 0x7fc00000);
    }
    results_free(&card);
}

// ---- freeze --------------------------------------------------------------------------------------------------------

static void run_freeze(void *context, Backend *b, Results *results) {
    const Case *c = context;
    bf16 *weight = make_halves(b, c, 1, false);
    int16_t *low_bits = make_halves(b, c, 2, false);
    uint64_t key = random_key(42, RANDOM_FREEZE, 3, (uint64_t)c->count);
    b->freeze(b, weight + c->offset, low_bits + c->offset, c->count, key, NULL);
    take_bits(results, b, weight, room(c) / 2);
    device_free(b, weight), device_free(b, low_bits);
}

static void a_freeze_draws_the_cpus_numbers(void **state) {
    (void)state;
    static const int64_t COUNTS[] = {0, 1, 3, 4, 5, 1023, 1024, 1025, 20011};
    for (int any_bits = 0; any_bits < 2; any_bits++) {
        for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++)
            compare((Case){.count = COUNTS[i], .offset = i % 2 ? 4 : 0, .any_bits = any_bits}, run_freeze);
        for (int64_t offset = 1; offset <= 3; offset++)
            compare((Case){.count = 1025, .offset = offset, .any_bits = any_bits}, run_freeze);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_counts_and_places),           cmocka_unit_test(the_decay_ends_where_it_should),
        cmocka_unit_test(many_steps_of_training),          cmocka_unit_test(any_bits_at_all),
        cmocka_unit_test(a_skipped_step_changes_nothing),  cmocka_unit_test(a_nan_is_seen_in_the_weight),
        cmocka_unit_test(a_freeze_draws_the_cpus_numbers),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
