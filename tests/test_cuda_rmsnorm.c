// test_cuda_rmsnorm.c - RMSNorm of the CUDA backend, its rebuild and its backward, against fp64 and the CPU backend.
#include "tests/parity.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EPSILON 1e-5f

// skew: the activations start this many elements after an aligned address.
static const struct {
    int64_t tokens, d, skew;
} CASES[] = {{0, 8, 0},    {1, 8, 0},    {3, 24, 0},   {129, 24, 0}, {129, 576, 0}, {33, 257, 0}, {5, 576, 1},
             {2, 1032, 0}, {3, 4096, 0}, {1, 8200, 0}, {2, 1031, 0}, {3, 7, 0},     {65, 100, 0}, {32, 40, 3}};
#define CASE_COUNT (sizeof CASES / sizeof *CASES)

// What a case gives: outputs of the operations, in this order.
enum { OUT, RSTD, REBUILT, DX, DX_FROZEN, GAIN_GRADIENT, OUTPUTS };

typedef struct Norm {
    int64_t tokens, d, skew;
    float *x, *dout, *dx;      // [skew + T d], bf16 numbers
    float *gain, *gain_before; // [d]; gain are bf16 numbers
    double *references[OUTPUTS];
} Norm;

static double *doubles(int64_t count) {
    double *values = calloc((size_t)count + 1, sizeof *values);
    assert_non_null(values);
    return values;
}

static void reference_row(const Norm *n, int64_t t) {
    const int64_t d = n->d;
    const float *x = n->x + n->skew + t * d, *dout = n->dout + n->skew + t * d, *dx = n->dx + n->skew + t * d;
    double squares = 0, along = 0;
    for (int64_t j = 0; j < d; j++) squares += (double)x[j] * (double)x[j];
    const double r = 1 / sqrt(squares / (double)d + (double)EPSILON);
    n->references[RSTD][t] = r;
    for (int64_t j = 0; j < d; j++) {
        n->references[OUT][t * d + j] = n->references[REBUILT][t * d + j] = (double)x[j] * r * (double)n->gain[j];
        n->references[GAIN_GRADIENT][j] += (double)dout[j] * (double)x[j] * r;
        along += (double)dout[j] * (double)n->gain[j] * (double)x[j];
    }
    for (int64_t j = 0; j < d; j++) {
        const double g = (double)dout[j] * (double)n->gain[j];
        const double sum = (double)dx[j] + r * g - (double)x[j] * r * r * r * along / (double)d;
        n->references[DX][t * d + j] = n->references[DX_FROZEN][t * d + j] = sum;
    }
}

static Norm norm_create(size_t index) {
    Norm n = {.tokens = CASES[index].tokens, .d = CASES[index].d, .skew = CASES[index].skew};
    const int64_t count = n.tokens * n.d, sizes[] = {count, n.tokens, count, count, count, n.d};
    n.x = random_bf16_values(1, n.skew + count, 2);
    n.dout = random_bf16_values(2, n.skew + count, 1);
    n.dx = random_bf16_values(3, n.skew + count, 1);
    n.gain = random_bf16_values(4, n.d, 2);
    n.gain_before = random_values(5, n.d, 1);
    for (int i = 0; i < OUTPUTS; i++) n.references[i] = doubles(sizes[i]);
    for (int64_t j = 0; j < n.d; j++) n.references[GAIN_GRADIENT][j] = (double)n.gain_before[j];
    for (int64_t t = 0; t < n.tokens; t++) reference_row(&n, t);
    return n;
}

static void norm_free(Norm *n) {
    free(n->x), free(n->dout), free(n->dx), free(n->gain), free(n->gain_before);
    for (int i = 0; i < OUTPUTS; i++) free(n->references[i]);
}

static void run(void *context, Backend *b, Results *results) {
    const Norm *n = context;
    const int64_t T = n->tokens, d = n->d, count = T * d, all = n->skew + count;
    void *x = device_activations(b, n->x, all), *dout = device_activations(b, n->dout, all);
    void *dx = device_activations(b, n->dx, all), *frozen = device_activations(b, n->dx, all);
    void *gain = device_weights(b, n->gain, d), *gain_gradient = device_floats(b, n->gain_before, d);
    void *out = device_empty(b, (size_t)all * b->activation_size), *rstd = device_empty(b, (size_t)T * sizeof(float));
    void *rebuilt = device_empty(b, (size_t)all * b->activation_size);
    void *scratch = device_empty(b, b->rmsnorm_scratch(b, T, d));
    void *at_x = device_element(b, x, n->skew), *at_dout = device_element(b, dout, n->skew);
    void *at_dx = device_element(b, dx, n->skew), *at_frozen = device_element(b, frozen, n->skew);
    void *at_out = device_element(b, out, n->skew), *at_rebuilt = device_element(b, rebuilt, n->skew);
    b->rmsnorm_forward(b, at_out, rstd, at_x, gain, EPSILON, T, d, NULL);
    b->rmsnorm_rebuild(b, at_rebuilt, at_x, rstd, gain, T, d, NULL);
    b->rmsnorm_backward(b, at_dx, gain_gradient, at_dout, at_x, rstd, gain, scratch, T, d, NULL);
    b->rmsnorm_backward(b, at_frozen, NULL, at_dout, at_x, rstd, gain, NULL, T, d, NULL);
    take_activations(results, b, at_out, count);
    take_floats(results, b, rstd, T);
    take_activations(results, b, at_rebuilt, count);
    take_activations(results, b, at_dx, count);
    take_activations(results, b, at_frozen, count);
    take_floats(results, b, gain_gradient, d);
    assert_memory_equal(results->values[REBUILT], results->values[OUT], (size_t)count * sizeof(float));
    assert_memory_equal(results->values[DX_FROZEN], results->values[DX], (size_t)count * sizeof(float));
    void *const memory[] = {x, dout, dx, frozen, gain, gain_gradient, out, rstd, rebuilt, scratch};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) device_free(b, memory[i]);
}

static void against_fp64(void **state) {
    (void)state;
    static const double factors[OUTPUTS] = {
        [OUT] = PARITY_FORWARD, [REBUILT] = PARITY_FORWARD, [DX] = PARITY_GRADIENT, [DX_FROZEN] = PARITY_GRADIENT};
    for (size_t i = 0; i < CASE_COUNT; i++) {
        char what[64];
        Norm n = norm_create(i);
        snprintf(what, sizeof what, "rmsnorm of %lld x %lld", (long long)n.tokens, (long long)n.d);
        parity_check(what, run, &n, n.references, factors, OUTPUTS);
        norm_free(&n);
    }
}

// A row's bits do not depend on how many rows there are.
static void rows_are_independent(void **state) {
    (void)state;
    Norm all = norm_create(4), one = norm_create(4);
    one.tokens = 1;
    Results many = {0}, single = {0};
    run(&all, parity.cuda, &many);
    run(&one, parity.cuda, &single);
    for (int i = OUT; i <= DX_FROZEN; i++)
        assert_memory_equal(single.values[i], many.values[i], (size_t)single.sizes[i] * sizeof(float));
    results_free(&many);
    results_free(&single);
    norm_free(&all);
    norm_free(&one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_fp64),
        cmocka_unit_test(rows_are_independent),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
