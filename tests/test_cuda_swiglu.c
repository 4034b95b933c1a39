// test_cuda_swiglu.c - SwiGLU of the CUDA backend, in place and beside itself, against fp64 and the CPU backend.
#include "tests/parity.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// skew: the activations start this many elements after an aligned address.
static const struct {
    int64_t tokens, f, skew;
} CASES[] = {{0, 8, 0}, {1, 8, 0}, {3, 24, 0}, {129, 257, 0}, {40, 1536, 0}, {3, 11008, 0}, {129, 40, 0}, {7, 104, 5}};
#define CASE_COUNT (sizeof CASES / sizeof *CASES)

// What a case gives: outputs of the operations, in this order.
enum { OUT, GRADIENT, OUT_IN_PLACE, OUTPUTS };

typedef struct Swiglu {
    int64_t tokens, f, skew;
    float *gate_up, *dout; // [skew + T 2f], [skew + T f], bf16 numbers
    double *references[OUTPUTS];
} Swiglu;

static Swiglu swiglu_create(int64_t tokens, int64_t f, int64_t skew) {
    const int64_t count = tokens * f;
    Swiglu s = {.tokens = tokens, .f = f, .skew = skew};
    s.gate_up = random_bf16_values(1, skew + 2 * count, 8);
    s.dout = random_bf16_values(2, skew + count, 1);
    for (int i = 0; i < OUTPUTS; i++) {
        s.references[i] = calloc((size_t)(2 * count) + 1, sizeof(double));
        assert_non_null(s.references[i]);
    }
    for (int64_t at = 0; at < count; at++) {
        const int64_t gate = at / f * 2 * f + at % f, up = gate + f;
        const double g = (double)s.gate_up[skew + gate], u = (double)s.gate_up[skew + up], x = 1 / (1 + exp(-g));
        const double dout = (double)s.dout[skew + at];
        s.references[OUT][at] = s.references[OUT_IN_PLACE][at] = g * x * u;
        s.references[GRADIENT][gate] = dout * u * x * (1 + g * (1 - x));
        s.references[GRADIENT][up] = dout * g * x;
    }
    return s;
}

static void swiglu_free(Swiglu *s) {
    free(s->gate_up), free(s->dout);
    for (int i = 0; i < OUTPUTS; i++) free(s->references[i]);
}

// The gradient three times: with out in place of dout, beside it, and without.
static void run(void *context, Backend *b, Results *results) {
    const Swiglu *s = context;
    const int64_t count = s->tokens * s->f, skew = s->skew;
    void *gate_up[3], *dout = device_activations(b, s->dout, skew + count);
    void *out = device_empty(b, (size_t)(skew + count) * b->activation_size), *at_out = device_element(b, out, skew);
    void *at_dout = device_element(b, dout, skew);
    for (int i = 0; i < 3; i++) gate_up[i] = device_activations(b, s->gate_up, skew + 2 * count);
    b->swiglu_forward(b, at_out, device_element(b, gate_up[0], skew), s->tokens, s->f, NULL);
    take_activations(results, b, at_out, count);
    b->swiglu_backward(b, device_element(b, gate_up[1], skew), NULL, at_dout, s->tokens, s->f, NULL);
    b->swiglu_backward(b, device_element(b, gate_up[2], skew), at_out, at_dout, s->tokens, s->f, NULL);
    b->swiglu_backward(b, device_element(b, gate_up[0], skew), at_dout, at_dout, s->tokens, s->f, NULL);
    take_activations(results, b, device_element(b, gate_up[0], skew), 2 * count);
    take_activations(results, b, at_dout, count);
    Results others = {0};
    take_activations(&others, b, device_element(b, gate_up[1], skew), 2 * count);
    take_activations(&others, b, device_element(b, gate_up[2], skew), 2 * count);
    take_activations(&others, b, at_out, count);
    const size_t bytes = (size_t)count * sizeof(float);
    assert_memory_equal(others.values[0], results->values[GRADIENT], 2 * bytes);
    assert_memory_equal(others.values[1], results->values[GRADIENT], 2 * bytes);
    assert_memory_equal(others.values[2], results->values[OUT], bytes); // what the down projection saw
    assert_memory_equal(results->values[OUT_IN_PLACE], results->values[OUT], bytes);
    results_free(&others);
    for (int i = 0; i < 3; i++) device_free(b, gate_up[i]);
    device_free(b, dout), device_free(b, out);
}

static const double FACTORS[OUTPUTS] = {PARITY_FORWARD, PARITY_GRADIENT, PARITY_FORWARD};

static void against_fp64(void **state) {
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        char what[64];
        Swiglu s = swiglu_create(CASES[i].tokens, CASES[i].f, CASES[i].skew);
        snprintf(what, sizeof what, "swiglu of %lld x %lld", (long long)s.tokens, (long long)s.f);
        parity_check(what, run, &s, s.references, FACTORS, OUTPUTS);
        swiglu_free(&s);
    }
}

// Gates at which e^-g overflows or vanishes: silu is 0 or the gate itself, and the gradient stays finite.
static void extremes_are_finite(void **state) {
    (void)state;
    const float gates[] = {-1e30f, -200, -88.5f, -87.5f, -0.0f, 88.5f, 200, 1e30f};
    enum { COUNT = sizeof gates / sizeof *gates };
    Swiglu s = swiglu_create(1, COUNT, 0);
    for (int j = 0; j < COUNT; j++) s.gate_up[j] = gates[j], s.gate_up[COUNT + j] = 1, s.dout[j] = 1;
    Results results = {0};
    run(&s, parity.cuda, &results);
    for (int j = 0; j < COUNT; j++) {
        const float gate = gates[j] > 0 ? gates[j] : 0;
        assert_true(fabsf(results.values[OUT][j] - gate) <= 0.01f * gate + 1e-30f);
        assert_true(isfinite(results.values[GRADIENT][j]) && isfinite(results.values[GRADIENT][COUNT + j]));
    }
    results_free(&results);
    swiglu_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_fp64),
        cmocka_unit_test(extremes_are_finite),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
