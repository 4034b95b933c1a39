// test_rope.c - rotary embedding on the CPU backend against fp64 and against its own inverse.
#include "kernels/kernels.h"
#include "tests/support.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POSITIONS 50

static const struct {
    int64_t tokens;
    int heads, kv_heads, head_dim;
} SIZES[] = {{0, 1, 1, 2}, {1, 1, 1, 2}, {7, 3, 1, 6}, {70, 9, 3, 64}, {33, 2, 2, 34}, {5, 4, 1, 256}};
#define SIZE_COUNT (sizeof SIZES / sizeof *SIZES)

typedef struct Rope {
    int64_t stride;
    float *qkv;
    int32_t *positions;
    float *cosine, *sine;
} Rope;

static Rope rope_create(size_t size) {
    const int64_t tokens = SIZES[size].tokens, d = SIZES[size].head_dim, half = d / 2;
    Rope r = {.stride = (SIZES[size].heads + 2 * SIZES[size].kv_heads) * d};
    r.qkv = malloc((size_t)(tokens * r.stride + 1) * sizeof *r.qkv);
    r.positions = malloc((size_t)(tokens + 1) * sizeof *r.positions);
    r.cosine = malloc((size_t)(POSITIONS * half) * sizeof *r.cosine);
    r.sine = malloc((size_t)(POSITIONS * half) * sizeof *r.sine);
    assert_true(r.qkv && r.positions && r.cosine && r.sine);
    for (int64_t i = 0; i < tokens * r.stride; i++) r.qkv[i] = noise(1, (uint64_t)i);
    for (int64_t t = 0; t < tokens; t++) r.positions[t] = (int32_t)(t * 17 % POSITIONS);
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

static void rotate(Backend *b, const Rope *r, size_t size, bool inverse) {
    b->rope(b, r->qkv, r->positions, r->cosine, r->sine, SIZES[size].tokens, SIZES[size].heads, SIZES[size].kv_heads,
            SIZES[size].head_dim, inverse, NULL);
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
        Rope r = rope_create(i), original = rope_create(i);
        const int64_t tokens = SIZES[i].tokens, d = SIZES[i].head_dim, half = d / 2;
        const int64_t rotated = (SIZES[i].heads + SIZES[i].kv_heads) * d;
        float *expected = malloc((size_t)(tokens * r.stride + 1) * sizeof *expected);
        assert_non_null(expected);
        for (int64_t at = 0; at < tokens * r.stride; at++) {
            const int64_t t = at / r.stride, column = at % r.stride, j = column % d;
            const int64_t angle = r.positions[t] * half + j % half;
            const double c = (double)r.cosine[angle], s = (double)r.sine[angle], x = (double)original.qkv[at];
            if (column >= rotated)
                expected[at] = original.qkv[at]; // values are left alone
            else if (j < half)
                expected[at] = (float)(x * c - (double)original.qkv[at + half] * s);
            else
                expected[at] = (float)(x * c + (double)original.qkv[at - half] * s);
        }
        rotate(b, &r, i, false);
        check_close("rotated", r.qkv, expected, tokens * r.stride, 1e-6);
        rotate(b, &r, i, true);
        check_close("rotated back", r.qkv, original.qkv, tokens * r.stride, 1e-6);
        free(expected);
        rope_free(&r);
        rope_free(&original);
    }
    b->destroy(b);
}

static void threads_change_no_bit(void **state) {
    (void)state;
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        Rope r[3];
        for (int threads = 1; threads <= 3; threads++) {
            Backend *b = backend(threads, false);
            r[threads - 1] = rope_create(i);
            rotate(b, &r[threads - 1], i, false);
            b->destroy(b);
        }
        const size_t bytes = (size_t)(SIZES[i].tokens * r[0].stride) * sizeof(float);
        assert_memory_equal(r[1].qkv, r[0].qkv, bytes);
        assert_memory_equal(r[2].qkv, r[0].qkv, bytes);
        for (int k = 0; k < 3; k++) rope_free(&r[k]);
    }
}

static void rounds_what_it_writes(void **state) {
    (void)state;
    Backend *b = backend(1, true);
    const size_t size = 2;
    Rope r = rope_create(size), original = rope_create(size);
    rotate(b, &r, size, false);
    const int64_t rotated = (SIZES[size].heads + SIZES[size].kv_heads) * SIZES[size].head_dim;
    for (int64_t at = 0; at < SIZES[size].tokens * r.stride; at++) {
        if (at % r.stride < rotated)
            assert_true(bf16_to_float(bf16_from_float(r.qkv[at])) == r.qkv[at]);
        else
            assert_true(r.qkv[at] == original.qkv[at]);
    }
    rope_free(&r);
    rope_free(&original);
    b->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_double),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(rounds_what_it_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
