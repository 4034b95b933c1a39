// test_cross_entropy.c - losses and their gradients against double loops.
#include "tests/support.h"

#include "kernels/kernels.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// A chunk of logits. Labels: every third is ignored when `ignore` is set.
typedef struct Chunk {
    int64_t count, vocabulary, stride;
    float *logits;
    float *losses;
    int32_t *labels;
} Chunk;

static Backend *make_backend(int threads, bool round_activations) {
    Error error = {0};
    Backend *b = backend_cpu_create(threads, round_activations, &error);
    check(b != NULL, &error);
    return b;
}

static Chunk make_chunk(int64_t count, int64_t vocabulary, int64_t stride, float range) {
    Chunk c = {.count = count, .vocabulary = vocabulary, .stride = stride};
    c.logits = malloc((size_t)(count * stride) * sizeof *c.logits);
    c.losses = malloc((size_t)count * sizeof *c.losses);
    c.labels = malloc((size_t)count * sizeof *c.labels);
    for (int64_t i = 0; i < count * stride; i++) c.logits[i] = range * noise(1, (uint64_t)i);
    for (int64_t i = 0; i < count; i++) c.labels[i] = i % 3 == 1 ? LABEL_IGNORED : (int32_t)((i * 7919) % vocabulary);
    return c;
}

static void free_chunk(Chunk *c) {
    free(c->logits), free(c->losses), free(c->labels);
}

// The reference in double; gradient may be NULL.
static void reference(const Chunk *c, float scale, float *losses, float *gradient) {
    for (int64_t i = 0; i < c->count; i++) {
        const float *row = c->logits + i * c->stride;
        double sum = 0, top = -INFINITY;
        for (int64_t j = 0; j < c->vocabulary; j++) top = fmax(top, row[j]);
        for (int64_t j = 0; j < c->vocabulary; j++) sum += exp(row[j] - top);
        bool ignored = c->labels[i] == LABEL_IGNORED;
        losses[i] = ignored ? 0 : (float)(log(sum) + top - row[c->labels[i]]);
        for (int64_t j = 0; gradient && j < c->stride; j++) {
            double p = j < c->vocabulary ? exp(row[j] - top) / sum - (j == c->labels[i]) : 0;
            gradient[i * c->stride + j] = ignored ? 0 : (float)(scale * p);
        }
    }
}

static void compare(Backend *b, int64_t count, int64_t vocabulary, int64_t stride, float range) {
    Chunk c = make_chunk(count, vocabulary, stride, range);
    size_t bytes = (size_t)(count * stride) * sizeof(float);
    float *losses = malloc((size_t)count * sizeof *losses), *gradient = malloc(bytes), *before = malloc(bytes);
    memcpy(before, c.logits, bytes);
    reference(&c, 0.125f, losses, gradient);
    b->cross_entropy(b, c.logits, c.losses, c.labels, 0.125f, false, count, vocabulary, stride, NULL);
    assert_memory_equal(c.logits, before, bytes);
    check_close("losses", c.losses, losses, count, 1e-6);
    b->cross_entropy(b, c.logits, c.losses, c.labels, 0.125f, true, count, vocabulary, stride, NULL);
    check_close("losses with gradient", c.losses, losses, count, 1e-6);
    check_close("gradient", c.logits, gradient, count * stride, 1e-6);
    for (int64_t i = 0; i < count; i++) {
        int64_t used = c.labels[i] == LABEL_IGNORED ? 0 : vocabulary;
        for (int64_t j = used; j < stride; j++) assert_int_equal(float_bits(c.logits[i * stride + j]), 0);
    }
    free(losses), free(gradient), free(before);
    free_chunk(&c);
}

static void losses_and_gradients_are_right(void **state) {
    (void)state;
    Backend *b = make_backend(2, false);
    compare(b, 5, 1, 1, 3);
    compare(b, 7, 2, 5, 3);
    compare(b, 4, 17, 64, 100); // one logit above all others
    compare(b, 9, 2047, 2048, 5);
    compare(b, 3, 2048, 2048, 1e-3f);
    compare(b, 5, 2049, 2112, 20);
    compare(b, 4, 49152, 49152, 8);
    compare(b, 2, 128256, 128256, 12);
    b->cross_entropy(b, NULL, NULL, NULL, 1, true, 0, 10, 10, NULL);
    b->destroy(b);
}

// The largest logit grows from piece to piece, so every piece rescales the sum before it.
static void rising_logits_lose_nothing(void **state) {
    (void)state;
    Backend *b = make_backend(1, false);
    Chunk c = make_chunk(1, 20000, 20000, 1);
    for (int64_t j = 0; j < c.vocabulary; j++) c.logits[j] = -300 + 0.02f * (float)j;
    float loss;
    reference(&c, 1, &loss, NULL);
    b->cross_entropy(b, c.logits, c.losses, c.labels, 1, false, 1, c.vocabulary, c.stride, NULL);
    check_close("loss", c.losses, &loss, 1, 1e-6);
    free_chunk(&c);
    b->destroy(b);
}

static void a_nan_reaches_the_loss(void **state) {
    (void)state;
    Backend *b = make_backend(1, false);
    Chunk c = make_chunk(1, 5000, 5000, 1);
    c.logits[4321] = NAN;
    b->cross_entropy(b, c.logits, c.losses, c.labels, 1, true, 1, c.vocabulary, c.stride, NULL);
    assert_true(isnan(c.losses[0]));
    free_chunk(&c);
    b->destroy(b);
}

static void threads_change_no_bit(void **state) {
    (void)state;
    Chunk one = make_chunk(37, 3001, 3008, 9);
    Backend *b = make_backend(1, false);
    b->cross_entropy(b, one.logits, one.losses, one.labels, 0.3f, true, one.count, one.vocabulary, one.stride, NULL);
    b->destroy(b);
    for (int threads = 2; threads <= 3; threads++) {
        Chunk many = make_chunk(37, 3001, 3008, 9);
        b = make_backend(threads, false);
        b->cross_entropy(b, many.logits, many.losses, many.labels, 0.3f, true, many.count, many.vocabulary, many.stride,
                         NULL);
        b->destroy(b);
        assert_memory_equal(one.losses, many.losses, (size_t)one.count * sizeof(float));
        assert_memory_equal(one.logits, many.logits, (size_t)(one.count * one.stride) * sizeof(float));
        free_chunk(&many);
    }
    free_chunk(&one);
}

static void gradients_are_rounded_and_losses_are_not(void **state) {
    (void)state;
    Backend *plain = make_backend(2, false), *rounding = make_backend(2, true);
    Chunk exact = make_chunk(6, 501, 512, 4), rounded = make_chunk(6, 501, 512, 4);
    plain->cross_entropy(plain, exact.logits, exact.losses, exact.labels, 0.3f, true, 6, 501, 512, NULL);
    rounding->cross_entropy(rounding, rounded.logits, rounded.losses, rounded.labels, 0.3f, true, 6, 501, 512, NULL);
    for (int64_t i = 0; i < 6 * 512; i++)
        assert_true(rounded.logits[i] == bf16_to_float(bf16_from_float(exact.logits[i])));
    assert_memory_equal(rounded.losses, exact.losses, 6 * sizeof(float));
    free_chunk(&exact), free_chunk(&rounded);
    plain->destroy(plain), rounding->destroy(rounding);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_and_gradients_are_right),
        cmocka_unit_test(rising_logits_lose_nothing),
        cmocka_unit_test(a_nan_reaches_the_loss),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(gradients_are_rounded_and_losses_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
