// test_swiglu.c - SwiGLU on the CPU backend against fp64, in place and beside itself.
#include "kernels/kernels.h"
#include "tests/support.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct { int64_t tokens, f; } SIZES[] = {{0, 3}, {1, 1}, {5, 7}, {3, 16}, {40, 1536}, {65, 100}};
#define SIZE_COUNT (sizeof SIZES / sizeof *SIZES)

static float *random_floats(uint64_t key, int64_t count, float size) {
    float *values = malloc(((size_t)count + 1) * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) values[i] = size * noise(key, (uint64_t)i);
    return values;
}

static Backend *backend(int threads, bool round_activations) {
    Error error = {0};
    Backend *b = backend_cpu_create(threads, round_activations, &error);
    check(b != NULL, &error);
    return b;
}

static void against_double(void **state) {
    (void)state;
    Backend *b = backend(2, false);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        const int64_t tokens = SIZES[i].tokens, f = SIZES[i].f, count = tokens * f;
        float *gate_up = random_floats(1, 2 * count, 8), *dout = random_floats(2, count, 1);
        float *out = random_floats(3, count, 1), *again = random_floats(4, count, 1);
        float *expected = random_floats(5, count, 0), *gradient = random_floats(6, 2 * count, 0);
        for (int64_t at = 0; at < count; at++) {
            const int64_t gate = at / f * 2 * f + at % f, up = gate + f;
            const double g = (double)gate_up[gate], u = (double)gate_up[up], s = 1 / (1 + exp(-g));
            expected[at] = (float)(g * s * u);
            gradient[gate] = (float)((double)dout[at] * u * s * (1 + g * (1 - s)));
            gradient[up] = (float)((double)dout[at] * g * s);
        }
        b->swiglu_forward(b, out, gate_up, tokens, f, NULL);
        check_close("out", out, expected, count, 1e-6);
        b->swiglu_backward(b, gate_up, again, dout, tokens, f, NULL);
        check_close("gradient", gate_up, gradient, 2 * count, 1e-6);
        assert_memory_equal(again, out, (size_t)count * sizeof(float)); // what the down projection saw
        free(gate_up), free(dout), free(out), free(again), free(expected), free(gradient);
    }
    b->destroy(b);
}

// out may be dout or absent; neither changes the gradient.
static void in_place(void **state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        Backend *b = backend(threads, false);
        for (size_t i = 0; i < SIZE_COUNT; i++) {
            const int64_t tokens = SIZES[i].tokens, f = SIZES[i].f, count = tokens * f;
            float *a = random_floats(1, 2 * count, 8), *c = random_floats(1, 2 * count, 8);
            float *dout = random_floats(2, count, 1), *out = random_floats(3, count, 1);
            b->swiglu_forward(b, out, a, tokens, f, NULL);
            b->swiglu_backward(b, a, NULL, dout, tokens, f, NULL);
            b->swiglu_backward(b, c, dout, dout, tokens, f, NULL);
            assert_memory_equal(a, c, (size_t)(2 * count) * sizeof(float));
            assert_memory_equal(dout, out, (size_t)count * sizeof(float));
            free(a), free(c), free(dout), free(out);
        }
        b->destroy(b);
    }
}

static void extremes_are_finite(void **state) {
    (void)state;
    Backend *b = backend(1, false);
    const float gates[] = {-1e30f, -200, -88.5f, -0.0f, 88.5f, 200, 1e30f};
    enum { COUNT = sizeof gates / sizeof *gates };
    float gate_up[2 * COUNT], out[COUNT], dout[COUNT];
    for (int j = 0; j < COUNT; j++) gate_up[j] = gates[j], gate_up[COUNT + j] = 1, dout[j] = 1;
    b->swiglu_forward(b, out, gate_up, 1, COUNT, NULL);
    b->swiglu_backward(b, gate_up, NULL, dout, 1, COUNT, NULL);
    for (int j = 0; j < COUNT; j++) {
        assert_true(fabsf(out[j] - (gates[j] > 0 ? gates[j] : 0)) <= 1e-6f * fabsf(gates[j]));
        assert_true(isfinite(gate_up[j]));
    }
    b->destroy(b);
}

static void outputs_are_bf16(void **state) {
    (void)state;
    Backend *b = backend(2, true);
    enum { TOKENS = 3, F = 37 };
    float *gate_up = random_floats(1, 2 * TOKENS * F, 4), *dout = random_floats(2, TOKENS * F, 1);
    b->swiglu_backward(b, gate_up, dout, dout, TOKENS, F, NULL);
    for (int j = 0; j < 2 * TOKENS * F; j++) assert_true(bf16_to_float(bf16_from_float(gate_up[j])) == gate_up[j]);
    for (int j = 0; j < TOKENS * F; j++) assert_true(bf16_to_float(bf16_from_float(dout[j])) == dout[j]);
    free(gate_up), free(dout);
    b->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_double),
        cmocka_unit_test(in_place),
        cmocka_unit_test(extremes_are_finite),
        cmocka_unit_test(outputs_are_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
