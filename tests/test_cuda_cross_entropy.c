// test_cuda_cross_entropy.c - losses and their gradients on the card against double loops.
#include "tests/parity.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- a chunk of logits ---------------------------------------------------------------------------------------------

typedef struct Chunk {
    int64_t count, vocabulary, stride;
    float *logits; // [count, vocabulary] numbers that bf16 has
    int32_t *labels;
    float scale;
    bool gradient;
} Chunk;

// Labels: every third is ignored, the others are spread over the vocabulary, its ends included.
static Chunk make_chunk(int64_t count, int64_t vocabulary, int64_t stride, float range) {
    Chunk c = {.count = count, .vocabulary = vocabulary, .stride = stride, .scale = 0.125f, .gradient = true};
    c.logits = random_bf16_values(1, count * vocabulary, range);
    c.labels = malloc((size_t)count * sizeof *c.labels);
    assert_non_null(c.labels);
    for (int64_t i = 0; i < count; i++) c.labels[i] = (int32_t)((vocabulary - 1 + i * 7919) % vocabulary);
    for (int64_t i = 1; i < count; i += 3) c.labels[i] = LABEL_IGNORED;
    return c;
}

static void free_chunk(Chunk *c) {
    free(c->logits), free(c->labels);
}

// Only the columns of the vocabulary are uploaded: what lies beyond is not to be read.
static unsigned char *upload(Backend *b, const Chunk *c) {
    size_t size = b->activation_size, row = (size_t)c->stride * size, used = (size_t)c->vocabulary * size;
    unsigned char *logits = device_empty(b, (size_t)c->count * row);
    unsigned char *dense = device_activations(b, c->logits, c->count * c->vocabulary);
    for (int64_t i = 0; i < c->count; i++) b->copy(b, logits + (size_t)i * row, dense + (size_t)i * used, used, NULL);
    b->synchronize(b, NULL);
    device_free(b, dense);
    return logits;
}

static void run(void *context, Backend *b, Results *results) {
    const Chunk *c = context;
    void *logits = upload(b, c), *labels = device_bytes(b, c->labels, (size_t)c->count * sizeof *c->labels);
    float *losses = device_empty(b, (size_t)c->count * sizeof *losses);
    b->cross_entropy(b, logits, losses, labels, c->scale, c->gradient, c->count, c->vocabulary, c->stride, NULL);
    take_floats(results, b, losses, c->count);
    if (c->gradient) take_activations(results, b, logits, c->count * c->stride);
    device_free(b, logits), device_free(b, labels), device_free(b, losses);
}

// losses: [count]; gradient: [count, stride]
static void reference(const Chunk *c, double *losses, double *gradient) {
    for (int64_t i = 0; i < c->count; i++) {
        const float *row = c->logits + i * c->vocabulary;
        double *out = gradient + i * c->stride, sum = 0, top = -INFINITY;
        for (int64_t j = 0; j < c->stride; j++) out[j] = 0;
        losses[i] = 0;
        if (c->labels[i] == LABEL_IGNORED) continue;
        for (int64_t j = 0; j < c->vocabulary; j++) top = fmax(top, row[j]);
        for (int64_t j = 0; j < c->vocabulary; j++) sum += exp(row[j] - top);
        losses[i] = log(sum) + top - row[c->labels[i]];
        for (int64_t j = 0; j < c->vocabulary; j++) out[j] = c->scale * (exp(row[j] - top) / sum - (j == c->labels[i]));
    }
}

// Losses (float, 1e-5) and gradient by the rule; without gradient the same losses and untouched logits.
static void compare(Chunk *c) {
    double *losses = malloc((size_t)c->count * sizeof *losses);
    double *gradient = malloc((size_t)(c->count * c->stride) * sizeof *gradient);
    assert_true(losses && gradient);
    reference(c, losses, gradient);
    char name[80];
    snprintf(name, sizeof name, "%lld x %lld of %lld", (long long)c->count, (long long)c->vocabulary,
             (long long)c->stride);
    c->gradient = true;
    parity_check(name, run, c, (double *const[]){losses, gradient}, (const double[]){0, PARITY_GRADIENT}, 2);
    free(losses), free(gradient);
}

static void compare_range(int64_t count, int64_t vocabulary, int64_t stride, float range) {
    Chunk c = make_chunk(count, vocabulary, stride, range);
    compare(&c);
    free_chunk(&c);
}

static void losses_and_gradients_are_right(void **state) {
    (void)state;
    compare_range(5, 1, 1, 3);
    compare_range(7, 2, 5, 3);
    compare_range(4, 8, 8, 3);
    compare_range(4, 17, 64, 100); // one logit above all others
    compare_range(3, 4095, 4096, 5);
    compare_range(3, 4096, 4096, 1e-3f);
    compare_range(2, 4097, 4160, 20);
    compare_range(4, 5003, 5003, 8); // no alignment: one column at a time
    compare_range(4, 5003, 5056, 8);
    Backend *b = parity.cuda;
    b->cross_entropy(b, NULL, NULL, NULL, 1, true, 0, 10, 10, NULL);
}

static void vocabularies_of_real_models(void **state) {
    (void)state;
    compare_range(1, 32000, 32000, 6);
    compare_range(1, 49152, 49152, 12);
    compare_range(1, 128256, 128256, 12);
}

// The largest logit grows from group to group, so every group rescales the sum before it.
static void rising_logits_lose_nothing(void **state) {
    (void)state;
    Chunk c = make_chunk(1, 20000, 20032, 1);
    for (int64_t j = 0; j < c.vocabulary; j++) c.logits[j] = bf16_to_float(bf16_from_float(-300 + 0.02f * (float)j));
    compare(&c);
    for (int64_t j = 0; j < c.vocabulary; j++) c.logits[j] = j % 3 ? -INFINITY : c.logits[j]; // as masked ones are
    c.labels[0] = 19998;
    compare(&c);
    free_chunk(&c);
}

static void losses_alone_leave_the_logits(void **state) {
    (void)state;
    Chunk c = make_chunk(4, 700, 700, 5);
    Backend *b = parity.cuda;
    Results with = {0}, without, kept = {0}, fresh = {0};
    run(&c, b, &with);
    c.gradient = false;
    parity_run_orders(run, &c, &without);
    assert_memory_equal(with.values[0], without.values[0], (size_t)c.count * sizeof(float));
    void *logits = upload(b, &c), *labels = device_bytes(b, c.labels, (size_t)c.count * sizeof *c.labels);
    float *losses = device_empty(b, (size_t)c.count * sizeof *losses);
    take_activations(&fresh, b, logits, c.count * c.stride);
    b->cross_entropy(b, logits, losses, labels, c.scale, false, c.count, c.vocabulary, c.stride, NULL);
    take_activations(&kept, b, logits, c.count * c.stride);
    assert_memory_equal(fresh.values[0], kept.values[0], (size_t)(c.count * c.stride) * sizeof(float));
    device_free(b, logits), device_free(b, labels), device_free(b, losses);
    results_free(&with), results_free(&without), results_free(&kept), results_free(&fresh);
    free_chunk(&c);
}

static void what_is_not_finite_reaches_the_loss(void **state) {
    (void)state;
    static const float BAD[] = {NAN, INFINITY};
    for (int i = 0; i < 2; i++) {
        Chunk c = make_chunk(2, 5000, 5056, 1);
        c.logits[4321] = c.logits[5000 + 4321] = BAD[i];
        Results results = {0};
        run(&c, parity.cuda, &results);
        assert_true(isnan(results.values[0][0]));
        assert_true(results.values[0][1] == 0); // ignored
        for (int64_t j = 0; j < c.stride; j++) assert_int_equal(float_bits(results.values[1][c.stride + j]), 0);
        results_free(&results);
        free_chunk(&c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_and_gradients_are_right),      cmocka_unit_test(vocabularies_of_real_models),
        cmocka_unit_test(rising_logits_lose_nothing),          cmocka_unit_test(losses_alone_leave_the_logits),
        cmocka_unit_test(what_is_not_finite_reaches_the_loss),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
