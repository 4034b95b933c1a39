// test_rmsnorm.c - RMSNorm on the CPU backend against fp64, its rebuild, and what threads and rounding change.
#include "kernels/kernels.h"
#include "tests/support.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPSILON 1e-5f

static const struct {
    int64_t tokens, d;
} SIZES[] = {{0, 8}, {1, 1}, {3, 7}, {5, 16}, {129, 33}, {300, 576}, {128, 257}};
#define SIZE_COUNT (sizeof SIZES / sizeof *SIZES)

typedef struct Norm {
    int64_t tokens, d;
    float *x, *dout; // inputs
    bf16 *gain;
    float *out, *rstd, *dx, *gain_gradient; // results
} Norm;

static float *random_floats(uint64_t key, int64_t count) {
    float *values = malloc(((size_t)count + 1) * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) values[i] = noise(key, (uint64_t)i);
    return values;
}

static Norm norm_create(int64_t tokens, int64_t d) {
    Norm n = {.tokens = tokens, .d = d};
    n.x = random_floats(1, tokens * d);
    n.dout = random_floats(3, tokens * d);
    n.gain = malloc((size_t)d * sizeof *n.gain);
    assert_non_null(n.gain);
    for (int64_t j = 0; j < d; j++) n.gain[j] = bf16_from_float(1 + noise(4, (uint64_t)j));
    n.out = random_floats(5, tokens * d);
    n.rstd = random_floats(7, tokens);
    n.dx = random_floats(8, tokens * d);
    n.gain_gradient = random_floats(9, d);
    return n;
}

static void norm_free(Norm *n) {
    free(n->x), free(n->dout), free(n->gain), free(n->out), free(n->rstd), free(n->dx);
    free(n->gain_gradient);
}

static Backend *backend(int threads, bool round_activations) {
    Error error = {0};
    Backend *b = backend_cpu_create(threads, round_activations, &error);
    check(b != NULL, &error);
    return b;
}

static void run(Backend *b, Norm *n) {
    void *scratch = malloc(b->rmsnorm_scratch(b, n->tokens, n->d) + 1);
    assert_non_null(scratch);
    b->rmsnorm_forward(b, n->out, n->rstd, n->x, n->gain, EPSILON, n->tokens, n->d, NULL);
    b->rmsnorm_backward(b, n->dx, n->gain_gradient, n->dout, n->x, n->rstd, n->gain, scratch, n->tokens, n->d, NULL);
    free(scratch);
}

// One row of the reference; dx and gain_gradient hold what is added to.
static void reference_row(const Norm *n, int64_t t, float *out, float *rstd, float *dx, double *gain) {
    const int64_t d = n->d;
    double squares = 0, along = 0;
    for (int64_t j = 0; j < d; j++) {
        const double x = (double)n->x[t * d + j];
        squares += x * x;
    }
    const double r = 1 / sqrt(squares / (double)d + (double)EPSILON);
    *rstd = (float)r;
    for (int64_t j = 0; j < d; j++) {
        const double g = (double)bf16_to_float(n->gain[j]);
        const double x = (double)n->x[t * d + j], dout = (double)n->dout[t * d + j];
        out[j] = (float)(x * r * g);
        gain[j] += dout * x * r;
        along += dout * g * x;
    }
    for (int64_t j = 0; j < d; j++) {
        const double g = (double)bf16_to_float(n->gain[j]) * (double)n->dout[t * d + j];
        dx[j] = (float)((double)dx[j] + r * g - (double)n->x[t * d + j] * r * r * r * along / (double)d);
    }
}

static void against_double(void **state) {
    (void)state;
    Backend *b = backend(2, false);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        const int64_t tokens = SIZES[i].tokens, d = SIZES[i].d;
        Norm n = norm_create(tokens, d), r = norm_create(tokens, d);
        double *gain = calloc((size_t)d, sizeof *gain);
        assert_non_null(gain);
        for (int64_t j = 0; j < d; j++) gain[j] = (double)n.gain_gradient[j];
        for (int64_t t = 0; t < tokens; t++) reference_row(&r, t, r.out + t * d, r.rstd + t, r.dx + t * d, gain);
        for (int64_t j = 0; j < d; j++) r.gain_gradient[j] = (float)gain[j];
        run(b, &n);
        check_close("rstd", n.rstd, r.rstd, tokens, 1e-6);
        check_close("out", n.out, r.out, tokens * d, 1e-6);
        check_close("dx", n.dx, r.dx, tokens * d, 1e-6);
        check_close("gain gradient", n.gain_gradient, r.gain_gradient, d, 1e-6);
        free(gain);
        norm_free(&n);
        norm_free(&r);
    }
    b->destroy(b);
}

static void equal(const float *a, const float *b, int64_t count) {
    assert_memory_equal(a, b, (size_t)count * sizeof(float));
}

static void threads_change_no_bit(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        const int64_t tokens = SIZES[i].tokens, d = SIZES[i].d;
        Norm n[3];
        for (int threads = 1; threads <= 3; threads++) {
            Backend *b = backend(threads, false);
            n[threads - 1] = norm_create(tokens, d);
            run(b, &n[threads - 1]);
            b->destroy(b);
        }
        for (int k = 1; k < 3; k++) {
            equal(n[k].out, n[0].out, tokens * d);
            equal(n[k].dx, n[0].dx, tokens * d);
            equal(n[k].gain_gradient, n[0].gain_gradient, d);
        }
        for (int k = 0; k < 3; k++) norm_free(&n[k]);
    }
}

static void rebuild_is_forward(void **state) {
    (void)state;
    for (int rounding = 0; rounding < 2; rounding++) {
        Backend *b = backend(2, rounding);
        for (size_t i = 0; i < SIZE_COUNT; i++) {
            Norm n = norm_create(SIZES[i].tokens, SIZES[i].d);
            const int64_t count = n.tokens * n.d;
            run(b, &n);
            float *again = random_floats(1, count);
            b->rmsnorm_rebuild(b, again, n.x, n.rstd, n.gain, n.tokens, n.d, NULL);
            equal(again, n.out, count);
            for (int64_t j = 0; rounding && j < count; j++) {
                assert_true(bf16_to_float(bf16_from_float(n.out[j])) == n.out[j]);
                assert_true(bf16_to_float(bf16_from_float(n.dx[j])) == n.dx[j]);
            }
            free(again);
            norm_free(&n);
        }
        b->destroy(b);
    }
}

// A frozen block: the same dx, and no scratch is needed.
static void frozen_gain(void **state) {
    (void)state;
    Backend *b = backend(2, false);
    Norm n = norm_create(300, 40), frozen = norm_create(300, 40);
    run(b, &n);
    b->rmsnorm_backward(b, frozen.dx, NULL, n.dout, n.x, n.rstd, n.gain, NULL, n.tokens, n.d, NULL);
    equal(frozen.dx, n.dx, n.tokens * n.d);
    norm_free(&n), norm_free(&frozen);
    b->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_double),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(rebuild_is_forward),
        cmocka_unit_test(frozen_gain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
