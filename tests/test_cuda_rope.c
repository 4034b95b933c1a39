// test_cuda_rope.c - rotary embedding of the CUDA backend, and its inverse, against fp64 and the CPU backend.
#include "tests/parity.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define POSITIONS 50

static const struct {
    int64_t tokens;
    int heads, kv_heads, head_dim;
    int64_t skew; // qkv starts this many elements after an aligned address
} CASES[] = {{0, 1, 1, 8, 0},  {1, 1, 1, 8, 0},  {3, 3, 1, 24, 0},  {129, 9, 3, 64, 0}, {3, 33, 2, 128, 0},
             {7, 5, 5, 80, 0}, {5, 2, 1, 72, 0}, {3, 4, 1, 256, 0}, {5, 4, 2, 64, 1}};
#define CASE_COUNT (sizeof CASES / sizeof *CASES)

typedef struct Rope {
    int64_t tokens, stride, skew;
    int heads, kv_heads, head_dim;
    bool inverse;
    float *qkv; // [skew + T stride], bf16 numbers
    int32_t *positions;
    float *cosine, *sine;
} Rope;

static Rope rope_create(size_t index, bool inverse) {
    const int64_t d = CASES[index].head_dim, half = d / 2;
    Rope r = {.tokens = CASES[index].tokens,
              .skew = CASES[index].skew,
              .heads = CASES[index].heads,
              .kv_heads = CASES[index].kv_heads,
              .head_dim = CASES[index].head_dim,
              .inverse = inverse};
    r.stride = (r.heads + 2 * r.kv_heads) * d;
    r.qkv = random_bf16_values(1, r.skew + r.tokens * r.stride, 4);
    r.positions = malloc((size_t)(r.tokens + 1) * sizeof *r.positions);
    r.cosine = malloc((size_t)(POSITIONS * half) * sizeof *r.cosine);
    r.sine = malloc((size_t)(POSITIONS * half) * sizeof *r.sine);
    assert_true(r.positions && r.cosine && r.sine);
    for (int64_t t = 0; t < r.tokens; t++) r.positions[t] = (int32_t)(t * 17 % POSITIONS);
    for (int64_t i = 0; i < POSITIONS * half; i++) {
        const double angle = (double)(i / half) * pow(10000, -(double)(i % half) / (double)half);
        r.cosine[i] = (float)cos(angle);
        r.sine[i] = (float)sin(angle);
    }
    return r;
}

static void rope_free(Rope *r) {
    free(r->qkv), free(r->positions), free(r->cosine), free(r->sine);
}

static double *reference(const Rope *r) {
    const int64_t half = r->head_dim / 2, rotated = (r->heads + r->kv_heads) * r->head_dim;
    double *expected = calloc((size_t)(r->tokens * r->stride) + 1, sizeof *expected);
    assert_non_null(expected);
    for (int64_t at = 0; at < r->tokens * r->stride; at++) {
        const float *x = r->qkv + r->skew + at;
        const int64_t column = at % r->stride, j = column % r->head_dim;
        const int64_t angle = r->positions[at / r->stride] * half + j % half;
        const double c = (double)r->cosine[angle], s = (double)r->sine[angle] * (r->inverse ? -1 : 1);
        if (column >= rotated)
            expected[at] = (double)*x; // values are left alone
        else if (j < half)
            expected[at] = (double)*x * c - (double)x[half] * s;
        else
            expected[at] = (double)*x * c + (double)x[-half] * s;
    }
    return expected;
}

static void run(void *context, Backend *b, Results *results) {
    const Rope *r = context;
    const int64_t count = r->tokens * r->stride, angles = POSITIONS * r->head_dim / 2;
    void *qkv = device_activations(b, r->qkv, r->skew + count), *at_qkv = device_element(b, qkv, r->skew);
    void *positions = device_bytes(b, r->positions, (size_t)r->tokens * sizeof *r->positions);
    void *cosine = device_floats(b, r->cosine, angles), *sine = device_floats(b, r->sine, angles);
    b->rope(b, at_qkv, positions, cosine, sine, r->tokens, r->heads, r->kv_heads, r->head_dim, r->inverse, NULL);
    take_activations(results, b, at_qkv, count);
    device_free(b, qkv), device_free(b, positions), device_free(b, cosine), device_free(b, sine);
}

static void against_fp64(void **state) {
    (void)state;
    for (size_t i = 0; i < 2 * CASE_COUNT; i++) {
        Rope r = rope_create(i / 2, i % 2);
        double *expected = reference(&r);
        char what[96];
        snprintf(what, sizeof what, "rope of %lld tokens, %d + %d heads of %d%s", (long long)r.tokens, r.heads,
                 r.kv_heads, r.head_dim, r.inverse ? ", inverse" : "");
        parity_check(what, run, &r, &expected, &(double){PARITY_FORWARD}, 1);
        free(expected);
        rope_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_fp64),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
