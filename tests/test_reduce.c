// test_reduce.c - sums of losses and squares, and what the clip makes of them.
#include "tests/support.h"

#include "kernels/kernels.h"
#include <math.h>
#include <stdlib.h>

static Backend *make_backend(int threads) {
    Error error = {0};
    Backend *b = backend_cpu_create(threads, false, &error);
    check(b != NULL, &error);
    return b;
}

static void squares_are_added_in_double_on_any_number_of_threads(void **state) {
    (void)state;
    static const int64_t COUNTS[] = {0, 1, 7, 31, 32, 33, 1023, 1024, 65535, 65536, 65537, 1000003};
    Backend *backends[3] = {make_backend(1), make_backend(2), make_backend(3)};
    float *values = malloc(1000003 * sizeof *values);
    for (int64_t i = 0; i < 1000003; i++) values[i] = powf(10, (float)(i % 9 - 8)) * noise(1, (uint64_t)i);
    for (size_t c = 0; c < sizeof COUNTS / sizeof *COUNTS; c++) {
        double expected = 3, sums[3] = {3, 3, 3};
        for (int64_t i = 0; i < COUNTS[c]; i++) expected += (double)values[i] * values[i];
        for (int i = 0; i < 3; i++) backends[i]->sum_squares(backends[i], &sums[i], values, COUNTS[c], NULL);
        assert_true(fabs(sums[0] - expected) <= 1e-12 * expected);
        assert_memory_equal(&sums[0], &sums[1], sizeof *sums);
        assert_memory_equal(&sums[0], &sums[2], sizeof *sums);
    }
    values[777] = INFINITY;
    double sum = 0;
    backends[1]->sum_squares(backends[1], &sum, values, 1000003, NULL);
    assert_true(isinf(sum));
    free(values);
    for (int i = 0; i < 3; i++) backends[i]->destroy(backends[i]);
}

static void losses_are_added_in_order(void **state) {
    (void)state;
    Backend *b = make_backend(2);
    float losses[1000];
    double expected = 0, sum = 0.5;
    for (int64_t i = 0; i < 1000; i++) {
        losses[i] = noise(1, (uint64_t)i);
        expected += losses[i];
    }
    b->sum_losses(b, &sum, losses, 1000, NULL);
    assert_true(sum == 0.5 + expected);
    b->destroy(b);
}

typedef struct Clip {
    float norm, scale;
    int32_t skip;
} Clip;

static Clip clip_parts(const double *squares, int64_t count, double loss, float max_norm) {
    Backend *b = make_backend(1);
    Clip c;
    b->clip_finish(b, &c.norm, &c.scale, &c.skip, squares, count, &loss, max_norm, NULL);
    b->destroy(b);
    return c;
}

static Clip clip(double squares, double loss, float max_norm) {
    return clip_parts(&squares, 1, loss, max_norm);
}

static void the_clip_is_pytorchs(void **state) {
    (void)state;
    Clip c = clip(16, 1, 1);
    assert_true(c.norm == 4 && c.scale == 1.0f / (4.0f + 1e-6f) && c.skip == 0);
    c = clip(0.25, 1, 1);
    assert_true(c.norm == 0.5f && c.scale == 1 && c.skip == 0);
    c = clip(1e6, 1, 0); // 0: no clip
    assert_true(c.norm == 1000 && c.scale == 1 && c.skip == 0);
    c = clip(0, 1, 1);
    assert_true(c.norm == 0 && c.scale == 1 && c.skip == 0);
}

static void the_parts_are_added_in_ascending_order_in_double(void **state) {
    (void)state;
    Clip c = clip_parts((double[]){9, 16, 0, 144}, 4, 1, 1);
    assert_true(c.norm == 13 && c.scale == 1.0f / (13.0f + 1e-6f) && c.skip == 0);
    assert_true(clip_parts((double[]){9, 16, 0, 144}, 3, 1, 1).norm == 5); // the part beyond the count is not read
    assert_true(clip_parts(NULL, 0, 1, 1).norm == 0);
    // A sum in another order, or in float, gives other bits.
    double parts[] = {0x1p53, 1, 1, -0x1p53}; // each 1 is half a unit of the last place: rounded away
    assert_true(clip_parts(parts, 4, 1, 1).norm == 0);
    double reversed[] = {-0x1p53, 1, 1, 0x1p53};
    assert_true(clip_parts(reversed, 4, 1, 1).norm == sqrtf(2));
    assert_int_equal(clip_parts((double[]){1, 1, NAN}, 3, 1, 1).skip, 1);
    assert_int_equal(clip_parts((double[]){1, INFINITY, 1}, 3, 1, 1).skip, 1);
}

static void what_is_not_finite_skips_the_step(void **state) {
    (void)state;
    assert_int_equal(clip(NAN, 1, 1).skip, 1);
    assert_int_equal(clip(INFINITY, 1, 1).skip, 1);
    assert_int_equal(clip(1e80, 1, 1).skip, 1); // a norm beyond float
    assert_int_equal(clip(1, NAN, 1).skip, 1);
    assert_int_equal(clip(1, INFINITY, 0).skip, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(squares_are_added_in_double_on_any_number_of_threads),
        cmocka_unit_test(losses_are_added_in_order),
        cmocka_unit_test(the_clip_is_pytorchs),
        cmocka_unit_test(the_parts_are_added_in_ascending_order_in_double),
        cmocka_unit_test(what_is_not_finite_skips_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
