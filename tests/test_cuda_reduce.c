// test_cuda_reduce.c - sums of losses and squares on the card, to the bit, and what the clip makes of them.
#include "tests/parity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- squares -----------------------------------------------------------------------------------------------------

// The tree that kernels/cuda/reduce.cu states, so that no change of the kernels changes its sums unnoticed.
enum { THREADS = 256, PARTS = 4096, LEAST_PART = 4096 };

static double block_total(double *sums) {
    double total = 0;
    for (int w = 0; w < THREADS; w += 32) {
        for (int distance = 16; distance; distance /= 2)
            for (int i = 0; i < distance; i++) sums[w + i] += sums[w + i + distance];
        total += sums[w];
    }
    return total;
}

static double part_squares(const float *values, int64_t count) {
    static double lanes[THREADS][4];
    double sums[THREADS];
    memset(lanes, 0, sizeof lanes);
    for (int64_t i = 0; i < count; i++) lanes[i / 4 % THREADS][i % 4] += (double)values[i] * values[i];
    for (int t = 0; t < THREADS; t++) sums[t] = (lanes[t][0] + lanes[t][1]) + (lanes[t][2] + lanes[t][3]);
    return block_total(sums);
}

static double tree_squares(const float *values, int64_t count) {
    int64_t part = round_up((count + PARTS - 1) / PARTS, LEAST_PART);
    double sums[THREADS] = {0};
    for (int64_t p = 0; p * part < count; p++) {
        int64_t left = count - p * part;
        sums[p % THREADS] += part_squares(values + p * part, left < part ? left : part);
    }
    return block_total(sums);
}

static void *device_double(double value) {
    return device_bytes(parity.cuda, &value, sizeof value);
}

// Adds the squares of count values, `offset` floats into an allocation, to `before`.
static double card_squares(const float *values, int64_t count, int64_t offset, double before) {
    Backend *b = parity.cuda;
    float *device = device_empty(b, (size_t)(offset + count) * sizeof *device);
    double *sum = device_double(before), result;
    b->copy(b, device + offset, values, (size_t)count * sizeof *device, NULL);
    b->sum_squares(b, sum, device + offset, count, NULL);
    b->copy(b, &result, sum, sizeof result, NULL);
    b->synchronize(b, NULL);
    device_free(b, device), device_free(b, sum);
    return result;
}

// Gradients of sizes from 1e-8 to 1.
static float *gradients(int64_t count) {
    static const float SIZES[] = {1, 1e-1f, 1e-2f, 1e-3f, 1e-4f, 1e-5f, 1e-6f, 1e-7f, 1e-8f};
    float *values = random_values(1, count, 1);
    for (int64_t i = 0; i < count; i++) values[i] *= SIZES[i % 9];
    return values;
}

static void squares_are_the_stated_tree(void **state) {
    (void)state;
    static const int64_t COUNTS[] = {1, 3, 4, 5, 127, 1023, 1024, 1025, 4095, 4096, 4097, 65537, 100003};
    static const EmulatorThreadOrder ORDERS[] = {THREADS_FORWARD, THREADS_REVERSE, THREADS_RANDOM};
    float *values = gradients(100003);
    for (size_t c = 0; c < sizeof COUNTS / sizeof *COUNTS; c++) {
        double expected = 3 + tree_squares(values, COUNTS[c]), plain = 3;
        for (int64_t i = 0; i < COUNTS[c]; i++) plain += (double)values[i] * values[i];
        for (int o = 0; o < 3; o++) {
            emulator_thread_order(ORDERS[o], 5);
            double sum = card_squares(values, COUNTS[c], o, 3); // 1 and 2 are not aligned for vectors
            if (sum != expected) fail_msg("%d values: %.17g instead of %.17g", (int)COUNTS[c], sum, expected);
        }
        assert_true(fabs(expected - plain) <= 1e-12 * plain);
    }
    emulator_thread_order(THREADS_FORWARD, 0);
    assert_true(card_squares(values, 0, 0, 2) == 2);
    free(values);
}

// Enough values for parts of more than the least size: a thread goes round more than once.
static void squares_of_many_values(void **state) {
    (void)state;
    if (emulator_checked()) skip(); // 17 million checked accesses say no more than the few of the other tests
    int64_t count = (int64_t)PARTS * LEAST_PART + 12345;
    float *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) values[i] = (float)(i % 8191) * 1e-3f;
    assert_true(card_squares(values, count, 0, 0) == tree_squares(values, count));
    free(values);
}

static void what_is_not_finite_reaches_the_sum(void **state) {
    (void)state;
    float *values = gradients(9000);
    values[8999] = -INFINITY;
    assert_true(isinf(card_squares(values, 9000, 0, 0)));
    values[4097] = NAN;
    assert_true(isnan(card_squares(values, 9000, 0, 0)));
    values[4097] = 3e38f, values[8999] = 1e-45f; // neither overflows nor vanishes in double
    assert_true(card_squares(values, 9000, 0, 0) == tree_squares(values, 9000));
    assert_true(card_squares(values + 8999, 1, 0, 0) > 0);
    free(values);
}

// ---- losses --------------------------------------------------------------------------------------------------------

static void losses_are_added_in_order(void **state) {
    (void)state;
    static const int64_t COUNTS[] = {0, 1, 255, 256, 257, 1000};
    Backend *b = parity.cuda;
    float *losses = random_values(2, 1000, 10);
    for (size_t c = 0; c < sizeof COUNTS / sizeof *COUNTS; c++) {
        double expected = 0, result;
        for (int64_t i = 0; i < COUNTS[c]; i++) expected += losses[i];
        double *sum = device_double(0.5);
        void *device = device_floats(b, losses, COUNTS[c]);
        b->sum_losses(b, sum, device, COUNTS[c], NULL);
        b->copy(b, &result, sum, sizeof result, NULL);
        b->synchronize(b, NULL);
        assert_true(result == 0.5 + expected);
        device_free(b, device), device_free(b, sum);
    }
    free(losses);
}

// ---- the clip -------------------------------------------------------------------------------------------------------

typedef struct Clip {
    float norm, scale;
    int32_t skip;
} Clip;

static Clip clip_parts(Backend *b, const double *squares, int64_t count, double loss, float max_norm) {
    Clip result, *device = device_empty(b, sizeof result);
    double *parts = device_bytes(b, squares, (size_t)count * sizeof *squares);
    double *losses = device_bytes(b, &loss, sizeof loss);
    b->clip_finish(b, &device->norm, &device->scale, &device->skip, parts, count, losses, max_norm, NULL);
    b->copy(b, &result, device, sizeof result, NULL);
    b->synchronize(b, NULL);
    device_free(b, device), device_free(b, parts), device_free(b, losses);
    return result;
}

static Clip clip(Backend *b, double squares, double loss, float max_norm) {
    return clip_parts(b, &squares, 1, loss, max_norm);
}

static void the_parts_are_added_as_on_the_cpu(void **state) {
    (void)state;
    double parts[] = {0x1p53, 1, 1, -0x1p53, 3, 1e-9, 7, 0.1, 0.2, 0.3, 1e3, 1e-3, 0, 5};
    for (int64_t count = 0; count <= (int64_t)(sizeof parts / sizeof *parts); count++) {
        Clip card = clip_parts(parity.cuda, parts, count, 1, 0.7f),
             cpu = clip_parts(parity.exact, parts, count, 1, 0.7f);
        assert_true(card.norm == cpu.norm && card.scale == cpu.scale);
        assert_int_equal(card.skip, 0);
    }
    assert_true(clip_parts(parity.cuda, parts, 4, 1, 1).norm == 0); // in ascending order each 1 is rounded away
    parts[9] = NAN;
    assert_int_equal(clip_parts(parity.cuda, parts, 14, 1, 1).skip, 1);
    assert_int_equal(clip_parts(parity.cuda, parts, 9, 1, 1).skip, 0);
}

static void the_clip_is_the_cpus(void **state) {
    (void)state;
    static const double SQUARES[] = {0, 5e-324, 1e-90, 1e-12, 0.25, 1, 2, 16, 1e6, 1e76, 1e80, INFINITY, NAN};
    static const double LOSSES[] = {1, -1e300, INFINITY, NAN};
    static const float NORMS[] = {0, 1e-30f, 0.3f, 1, 1e30f};
    for (size_t s = 0; s < sizeof SQUARES / sizeof *SQUARES; s++) {
        for (size_t l = 0; l < sizeof LOSSES / sizeof *LOSSES; l++) {
            for (size_t n = 0; n < sizeof NORMS / sizeof *NORMS; n++) {
                Clip card = clip(parity.cuda, SQUARES[s], LOSSES[l], NORMS[n]);
                Clip cpu = clip(parity.exact, SQUARES[s], LOSSES[l], NORMS[n]);
                assert_true(card.norm == cpu.norm || (isnan(card.norm) && isnan(cpu.norm)));
                assert_true(card.scale == cpu.scale);
                assert_int_equal(card.skip, cpu.skip);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(squares_are_the_stated_tree),
        cmocka_unit_test(squares_of_many_values),
        cmocka_unit_test(what_is_not_finite_reaches_the_sum),
        cmocka_unit_test(losses_are_added_in_order),
        cmocka_unit_test(the_clip_is_the_cpus),
        cmocka_unit_test(the_parts_are_added_as_on_the_cpu),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
