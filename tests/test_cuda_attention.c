// test_cuda_attention.c - attention of the CUDA backend, forward and backward, against fp64 and the CPU backend.
#include "tests/attention_batch.h"
#include "tests/parity.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What a case gives: outputs of the operations, in this order.
enum { OUT, LSE, DQ, DK, DV, OUTPUTS };

typedef struct Work {
    const AttentionBatch *batch;
    double largest_gradient; // of the reference
} Work;

// Columns [column, column + count) of a [rows, stride] matrix, and after them one number more: the largest value of the
// whole matrix, so that the rule measures its 1e-5 by all of dqkv. (The gradient of a query that sees one key is 0.)
static float *columns_of(const float *matrix, int64_t rows, int64_t stride, int64_t column, int64_t count,
                         double largest) {
    float *values = malloc((size_t)(rows * count + 1) * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < rows; i++)
        memcpy(values + i * count, matrix + i * stride + column, (size_t)count * sizeof *values);
    values[rows * count] = (float)largest;
    return values;
}

static void take_gradients(Results *results, const Work *work, Backend *b, const void *dqkv) {
    const AttentionShape *s = &work->batch->shape;
    const int64_t stride = work->batch->stride, width = work->batch->width, kv = (int64_t)s->kv_heads * s->head_dim;
    const int64_t columns[] = {0, width, width + kv}, counts[] = {width, kv, kv};
    Results whole = {0};
    take_activations(&whole, b, dqkv, s->tokens * stride);
    for (int i = 0; i < 3; i++) {
        results->values[results->count] =
            columns_of(whole.values[0], s->tokens, stride, columns[i], counts[i], work->largest_gradient);
        results->sizes[results->count++] = s->tokens * counts[i] + 1;
    }
    results_free(&whole);
}

static void run(void *context, Backend *b, Results *results) {
    const Work *work = context;
    const AttentionBatch *batch = work->batch;
    AttentionShape s = batch->shape;
    void *qkv = device_activations(b, batch->qkv, s.tokens * batch->stride);
    void *dout = device_activations(b, batch->dout, s.tokens * batch->width);
    void *starts = device_bytes(b, batch->starts, ((size_t)s.sequences + 1) * sizeof *batch->starts);
    void *out = device_empty(b, (size_t)(s.tokens * batch->width) * b->activation_size);
    void *lse = device_empty(b, (size_t)(s.tokens * s.heads) * sizeof(float));
    void *dqkv = device_empty(b, (size_t)(s.tokens * batch->stride) * b->activation_size);
    void *scratch = device_empty(b, b->attention_scratch(b, s.tokens, s.heads));
    s.starts = starts;
    b->attention_forward(b, out, lse, qkv, &s, NULL);
    b->attention_backward(b, dqkv, dout, qkv, out, lse, scratch, &s, NULL);
    take_activations(results, b, out, s.tokens * batch->width);
    take_floats(results, b, lse, s.tokens * s.heads);
    take_gradients(results, work, b, dqkv);
    void *const memory[] = {qkv, dout, starts, out, lse, dqkv, scratch};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) device_free(b, memory[i]);
}

// ---- the rule -------------------------------------------------------------------------------------------------------

static double *reference_columns(const AttentionBatch *batch, const double *dqkv, int64_t column, int64_t count,
                                 double largest) {
    const int64_t rows = batch->shape.tokens;
    double *values = malloc((size_t)(rows * count + 1) * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < rows; i++)
        memcpy(values + i * count, dqkv + i * batch->stride + column, (size_t)count * sizeof *values);
    values[rows * count] = largest;
    return values;
}

static void check_case(const AttentionCase *c, float magnitude) {
    AttentionBatch batch;
    attention_batch_create(&batch, c, magnitude);
    const int64_t kv = (int64_t)c->kv_heads * c->head_dim;
    AttentionReference r = attention_reference(&batch);
    double largest = 0;
    for (int64_t i = 0; i < batch.shape.tokens * batch.stride; i++) largest = fmax(largest, fabs(r.dqkv[i]));
    largest = (double)(float)largest;
    double *references[OUTPUTS] = {
        [OUT] = r.out,
        [LSE] = r.lse,
        [DQ] = reference_columns(&batch, r.dqkv, 0, batch.width, largest),
        [DK] = reference_columns(&batch, r.dqkv, batch.width, kv, largest),
        [DV] = reference_columns(&batch, r.dqkv, batch.width + kv, kv, largest),
    };
    const double factors[OUTPUTS] = {PARITY_FORWARD, 0, PARITY_GRADIENT, PARITY_GRADIENT, PARITY_GRADIENT};
    char name[160];
    snprintf(name, sizeof name, "head_dim %d, heads %d/%d, window %d, sequences %d, the first %d", c->head_dim,
             c->heads, c->kv_heads, c->window, c->sequences, c->lengths[0]);
    Work work = {&batch, largest};
    parity_check(name, run, &work, references, factors, OUTPUTS);
    for (int i = DQ; i < OUTPUTS; i++) free(references[i]);
    attention_reference_free(&r);
    attention_batch_free(&batch);
}

#define PACK                                                                                                           \
    7, 5, {                                                                                                            \
        1, 7, 63, 64, 65, 200, 300                                                                                     \
    }
#define MANY_SHORT                                                                                                     \
    11, 0, {                                                                                                           \
        3, 1, 0, 20, 5, 31, 2, 2, 90, 16, 1                                                                            \
    }

// heads, kv_heads, head_dim, window; sequences, tail, lengths
static const AttentionCase CASES[] = {
    {2, 2, 64, 0, PACK},
    {4, 2, 8, 0, PACK},
    {2, 1, 128, 50, PACK},
    {2, 1, 96, 0, MANY_SHORT},
    {4, 1, 128, 0, MANY_SHORT},
    {8, 1, 40, 0, 3, 0, {65, 1, 200}},
    {4, 1, 64, 1, 1, 2, {70}},
    {4, 1, 128, 129, 2, 0, {300, 7}},
    {1, 1, 128, 0, 1, 0, {1}},
    {1, 1, 80, 0, 1, 0, {256}},
    {8, 2, 64, 50, 2, 0, {129, 64}},
    {32, 1, 64, 0, 1, 0, {100}},
    {2, 1, 160, 0, 2, 3, {130, 20}},
    {2, 1, 256, 50, 2, 0, {90, 70}},
};

static void against_double(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) check_case(&CASES[i], 1.5f);
}

// Scores of some hundreds: one key takes nearly all.
static void large_scores(void **state) {
    (void)state;
    check_case(&(AttentionCase){4, 2, 64, 100, 2, 0, {150, 33}}, 12);
    check_case(&(AttentionCase){2, 1, 128, 0, 2, 0, {70, 33}}, 12);
}

// ---- properties -----------------------------------------------------------------------------------------------------

// On the CUDA backend, in one thread order
static Results results_of(const AttentionBatch *batch) {
    Results results = {0};
    run(&(Work){batch, 0}, parity.cuda, &results);
    assert_int_equal(results.count, OUTPUTS);
    return results;
}

static void assert_zero_tail(const float *values, int64_t rows, int64_t filled, int64_t columns) {
    for (int64_t i = 0; i < rows * columns; i++)
        assert_true(i < filled * columns ? isfinite(values[i]) : values[i] == 0);
}

// Tail inputs are NaN here and everywhere, so they are not read; blocks may hold nothing else.
static void tail_is_zero(void **state) {
    (void)state;
    const AttentionCase cases[] = {
        {2, 1, 64, 0, 1, 200, {30}},
        {2, 1, 256, 3, 2, 150, {64, 0}},
        {2, 1, 128, 0, 0, 17, {0}},
        {1, 1, 24, 0, 3, 9, {0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_case(&cases[i], 1.5f);
        AttentionBatch batch;
        attention_batch_create(&batch, &cases[i], 1.5f);
        const int64_t tokens = batch.shape.tokens, filled = tokens - cases[i].tail, d = cases[i].head_dim;
        Results results = results_of(&batch);
        assert_zero_tail(results.values[OUT], tokens, filled, cases[i].heads * d);
        for (int64_t j = 0; j < tokens * cases[i].heads; j++)
            assert_true(j % tokens < filled ? isfinite(results.values[LSE][j]) : results.values[LSE][j] == 0);
        assert_zero_tail(results.values[DQ], tokens, filled, cases[i].heads * d);
        assert_zero_tail(results.values[DK], tokens, filled, cases[i].kv_heads * d);
        assert_zero_tail(results.values[DV], tokens, filled, cases[i].kv_heads * d);
        results_free(&results);
        attention_batch_free(&batch);
    }
}

static void no_tokens(void **state) {
    (void)state;
    Error error = {0};
    Backend *b = parity.cuda;
    const AttentionShape nothing = {.heads = 4, .kv_heads = 2, .head_dim = 64, .scale = 0.125f};
    b->attention_forward(b, NULL, NULL, NULL, &nothing, NULL);
    b->attention_backward(b, NULL, NULL, NULL, NULL, NULL, NULL, &nothing, NULL);
    check(b->check(b, &error), &error);
    assert_int_equal(b->attention_scratch(b, 0, 4), 0);
}

// Nothing is launched for a head that no tile holds; the backend has a fault from then on.
static void odd_heads_are_a_fault(void **state) {
    (void)state;
    const int head_dims[] = {20, 264};
    for (int i = 0; i < 2; i++) {
        Error error = {0};
        Backend *b = backend_cuda_create(0, 1, &error);
        check(b != NULL, &error);
        const AttentionShape odd = {.tokens = 1, .heads = 1, .kv_heads = 1, .head_dim = head_dims[i], .scale = 1};
        b->attention_forward(b, NULL, NULL, NULL, &odd, NULL);
        assert_false(b->check(b, &error));
        assert_non_null(strstr(error.text, "(cudaErrorInvalidValue), noticed at attention_forward"));
        b->destroy(b);
    }
}

static void wide_window_is_none(void **state) {
    (void)state;
    AttentionCase c = {2, 1, 32, 0, 3, 2, {5, 200, 64}};
    AttentionBatch batch;
    attention_batch_create(&batch, &c, 1.5f);
    Results open = results_of(&batch);
    const int windows[] = {200, INT32_MAX};
    for (int i = 0; i < 2; i++) {
        batch.shape.window = windows[i];
        Results wide = results_of(&batch);
        for (int j = 0; j < OUTPUTS; j++)
            assert_memory_equal(wide.values[j], open.values[j], (size_t)open.sizes[j] * sizeof(float));
        results_free(&wide);
    }
    results_free(&open);
    attention_batch_free(&batch);
}

// The tiles of every width are read without bank conflicts: a property of speed that needs no card.
static void no_bank_conflicts(void **state) {
    (void)state;
    parity_assert_no_bank_conflicts(100000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_double),      cmocka_unit_test(large_scores),
        cmocka_unit_test(tail_is_zero),        cmocka_unit_test(no_tokens),
        cmocka_unit_test(wide_window_is_none), cmocka_unit_test(odd_heads_are_a_fault),
        cmocka_unit_test(no_bank_conflicts),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
