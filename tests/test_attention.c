// test_attention.c - attention on the CPU backend against fp64, and what must hold between its own results.
#include "tests/attention_batch.h"
#include "tests/support.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// A batch and room for every result
typedef struct Batch {
    AttentionBatch in;
    float *out, *lse, *dqkv;
} Batch;

static const AttentionCase CASES[] = {
    {1, 1, 2, 0, 2, 0, {1, 20}},         {3, 1, 6, 0, 4, 3, {1, 2, 5, 1}},
    {2, 2, 16, 0, 3, 0, {63, 64, 65}},   {9, 3, 64, 0, 4, 37, {150, 129, 256, 7}},
    {4, 1, 10, 3, 3, 2, {9, 1, 70}},     {2, 1, 8, 100, 2, 1, {300, 33}},
    {2, 1, 24, 0, 3, 5, {513, 40, 700}}, // two passes beside one
    {4, 2, 32, 130, 2, 0, {600, 530}},   {2, 1, 256, 0, 2, 0, {70, 20}},
    {2, 2, 128, 2, 2, 0, {66, 3}},       {2, 1, 8, 0, 0, 17, {0}}, // nothing but a tail
    {2, 1, 8, 0, 3, 0, {0, 12, 0}},
};

static float *floats(int64_t count) {
    float *values = malloc((size_t)(count ? count : 1) * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) values[i] = NAN; // whatever is not written shows
    return values;
}

static Backend *backend(int threads) {
    Error error = {0};
    Backend *b = backend_cpu_create(threads, false, &error);
    check(b != NULL, &error);
    return b;
}

static void batch_create(Batch *batch, const AttentionCase *c) {
    attention_batch_create(&batch->in, c, 3);
    const int64_t tokens = batch->in.shape.tokens;
    batch->out = floats(tokens * batch->in.width);
    batch->lse = floats(tokens * c->heads);
    batch->dqkv = floats(tokens * batch->in.stride);
}

static void batch_free(Batch *batch) {
    attention_batch_free(&batch->in);
    free(batch->out), free(batch->lse), free(batch->dqkv);
}

static void run(Backend *b, Batch *batch) {
    const AttentionShape *s = &batch->in.shape;
    void *scratch = malloc(b->attention_scratch(b, s->tokens, s->heads) + 1);
    assert_non_null(scratch);
    b->attention_forward(b, batch->out, batch->lse, batch->in.qkv, s, NULL);
    b->attention_backward(b, batch->dqkv, batch->in.dout, batch->in.qkv, batch->out, batch->lse, scratch, s, NULL);
    free(scratch);
}

// ---- against double ------------------------------------------------------------------------------------------------

// One column range of a [rows, stride] matrix against the reference.
static void check_columns(const char *what, const float *out, const double *expected, int64_t rows, int64_t stride,
                          int64_t column, int64_t count) {
    float *a = floats(rows * count), *b = floats(rows * count);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < count; j++) {
            a[i * count + j] = out[i * stride + column + j];
            b[i * count + j] = (float)expected[i * stride + column + j];
        }
    }
    check_close(what, a, b, rows * count, 1e-5);
    free(a), free(b);
}

static void against_double(void **state) {
    (void)state;
    Backend *b = backend(2);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Batch batch;
        batch_create(&batch, &CASES[i]);
        run(b, &batch);
        AttentionReference r = attention_reference(&batch.in);
        const int64_t t = batch.in.shape.tokens, kv = (int64_t)batch.in.shape.kv_heads * batch.in.shape.head_dim;
        check_columns("out", batch.out, r.out, t, batch.in.width, 0, batch.in.width);
        check_columns("lse", batch.lse, r.lse, batch.in.shape.heads, t, 0, t);
        check_columns("dq", batch.dqkv, r.dqkv, t, batch.in.stride, 0, batch.in.width);
        check_columns("dk", batch.dqkv, r.dqkv, t, batch.in.stride, batch.in.width, kv);
        check_columns("dv", batch.dqkv, r.dqkv, t, batch.in.stride, batch.in.width + kv, kv);
        attention_reference_free(&r);
        batch_free(&batch);
    }
    b->destroy(b);
}

// ---- properties ----------------------------------------------------------------------------------------------------

static void assert_equal_bits(const float *a, const float *b, int64_t count) {
    assert_memory_equal(a, b, (size_t)count * sizeof(float));
}

// The inputs of the tail are NaN in all tests: they are not read.
static void tail_is_zero(void **state) {
    (void)state;
    Backend *b = backend(2);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Batch batch;
        batch_create(&batch, &CASES[i]);
        const int64_t tokens = batch.in.shape.tokens, tail = batch.in.starts[CASES[i].sequences];
        run(b, &batch);
        for (int64_t j = 0; j < tokens * batch.in.width; j++)
            assert_true(j < tail * batch.in.width ? isfinite(batch.out[j]) : batch.out[j] == 0);
        for (int64_t j = 0; j < tokens * batch.in.stride; j++)
            assert_true(j < tail * batch.in.stride ? isfinite(batch.dqkv[j]) : batch.dqkv[j] == 0);
        for (int64_t j = 0; j < tokens * batch.in.shape.heads; j++)
            assert_true(j % tokens < tail ? isfinite(batch.lse[j]) : batch.lse[j] == 0);
        batch_free(&batch);
    }
    b->destroy(b);
}

static void threads_change_no_bit(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Batch batches[3];
        for (int threads = 1; threads <= 3; threads++) {
            Backend *b = backend(threads);
            batch_create(&batches[threads - 1], &CASES[i]);
            run(b, &batches[threads - 1]);
            b->destroy(b);
        }
        const int64_t tokens = batches[0].in.shape.tokens;
        for (int n = 1; n < 3; n++) {
            assert_equal_bits(batches[n].out, batches[0].out, tokens * batches[0].in.width);
            assert_equal_bits(batches[n].lse, batches[0].lse, tokens * batches[0].in.shape.heads);
            assert_equal_bits(batches[n].dqkv, batches[0].dqkv, tokens * batches[0].in.stride);
        }
        for (int n = 0; n < 3; n++) batch_free(&batches[n]);
    }
}

// A sequence gives the same bits wherever it lies in a batch.
static void sequences_do_not_touch(void **state) {
    (void)state;
    Backend *b = backend(2);
    const AttentionCase together = {6, 2, 16, 0, 4, 9, {41, 600, 1, 130}};
    Batch batch;
    batch_create(&batch, &together);
    run(b, &batch);
    for (int n = 0; n < together.sequences; n++) {
        const AttentionCase alone = {6, 2, 16, 0, 1, 0, {together.lengths[n]}};
        const int64_t length = together.lengths[n], first = batch.in.starts[n];
        Batch single;
        batch_create(&single, &alone);
        memcpy(single.in.qkv, batch.in.qkv + first * batch.in.stride,
               (size_t)(length * batch.in.stride) * sizeof(float));
        memcpy(single.in.dout, batch.in.dout + first * batch.in.width,
               (size_t)(length * batch.in.width) * sizeof(float));
        run(b, &single);
        assert_equal_bits(single.out, batch.out + first * batch.in.width, length * batch.in.width);
        assert_equal_bits(single.dqkv, batch.dqkv + first * batch.in.stride, length * batch.in.stride);
        batch_free(&single);
    }
    batch_free(&batch);
    b->destroy(b);
}

static void wide_window_is_none(void **state) {
    (void)state;
    Backend *b = backend(2);
    const int32_t lengths[] = {5, 600, 64};
    AttentionCase open = {4, 2, 8, 0, 3, 2, {lengths[0], lengths[1], lengths[2]}}, wide = open;
    wide.window = 600;
    Batch one, other;
    batch_create(&one, &open);
    batch_create(&other, &wide);
    run(b, &one);
    run(b, &other);
    assert_equal_bits(one.out, other.out, one.in.shape.tokens * one.in.width);
    assert_equal_bits(one.dqkv, other.dqkv, one.in.shape.tokens * one.in.stride);
    batch_free(&one);
    batch_free(&other);
    b->destroy(b);
}

// Grouped heads equal as many key/value heads as query heads that hold copies; their dK and dV are summed.
static void groups_equal_copies(void **state) {
    (void)state;
    Backend *b = backend(2);
    enum { HEADS = 6, KV_HEADS = 2, D = 20, GROUP = HEADS / KV_HEADS };
    const AttentionCase grouped = {HEADS, KV_HEADS, D, 0, 2, 1, {140, 65}},
                        copied = {HEADS, HEADS, D, 0, 2, 1, {140, 65}};
    Batch few, many;
    batch_create(&few, &grouped);
    batch_create(&many, &copied);
    const int64_t tokens = few.in.shape.tokens;
    memcpy(many.in.dout, few.in.dout, (size_t)(tokens * few.in.width) * sizeof(float));
    for (int64_t t = 0; t < tokens; t++) {
        const float *from = few.in.qkv + t * few.in.stride;
        float *to = many.in.qkv + t * many.in.stride;
        memcpy(to, from, HEADS * D * sizeof(float));
        for (int h = 0; h < HEADS; h++) {
            memcpy(to + (HEADS + h) * D, from + (HEADS + h / GROUP) * D, D * sizeof(float));
            memcpy(to + (2 * HEADS + h) * D, from + (HEADS + KV_HEADS + h / GROUP) * D, D * sizeof(float));
        }
    }
    run(b, &few);
    run(b, &many);
    assert_equal_bits(few.out, many.out, tokens * few.in.width);
    double *sums = calloc((size_t)(tokens * few.in.stride), sizeof *sums);
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t j = 0; j < HEADS * D; j++) sums[t * few.in.stride + j] = (double)many.dqkv[t * many.in.stride + j];
        for (int64_t j = 0; j < 2 * HEADS * D; j++) {
            const int64_t head = j / D;
            sums[t * few.in.stride + (HEADS + head / GROUP) * D + j % D] +=
                (double)many.dqkv[t * many.in.stride + HEADS * D + j];
        }
    }
    check_columns("grouped dqkv", few.dqkv, sums, tokens, few.in.stride, 0, few.in.stride);
    free(sums);
    batch_free(&few);
    batch_free(&many);
    b->destroy(b);
}

// (L(x + e u) - L(x - e u)) / 2e along a random direction, L = sum of dout * out.
static void against_differences(void **state) {
    (void)state;
    Backend *b = backend(2);
    const AttentionCase small = {4, 2, 8, 5, 2, 0, {11, 6}};
    Batch batch;
    batch_create(&batch, &small);
    const int64_t count = batch.in.shape.tokens * batch.in.stride, outputs = batch.in.shape.tokens * batch.in.width;
    run(b, &batch);
    double expected = 0, loss[2] = {0, 0};
    for (int64_t i = 0; i < count; i++) expected += (double)batch.dqkv[i] * (double)noise(3, (uint64_t)i);
    const float step = 0x1p-8f;
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < count; i++)
            batch.in.qkv[i] += (side ? 2 : -1) * step * noise(3, (uint64_t)i); // to x - e u, then to x + e u
        b->attention_forward(b, batch.out, batch.lse, batch.in.qkv, &batch.in.shape, NULL);
        for (int64_t i = 0; i < outputs; i++) loss[side] += (double)batch.out[i] * (double)batch.in.dout[i];
    }
    const double slope = (loss[1] - loss[0]) / (2 * (double)step);
    assert_true(fabs(slope - expected) < 2e-3 * fabs(expected));
    batch_free(&batch);
    b->destroy(b);
}

static void decode_is_last_row(void **state) {
    (void)state;
    Backend *b = backend(2);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Batch batch;
        batch_create(&batch, &CASES[i]);
        const AttentionShape *s = &batch.in.shape;
        run(b, &batch);
        const int64_t kv = (int64_t)s->kv_heads * s->head_dim;
        float *keys = floats(s->tokens * kv), *values = floats(s->tokens * kv), *out = floats(batch.in.width);
        for (int n = 0; n < s->sequences; n++) {
            const int64_t length = batch.in.starts[n + 1] - batch.in.starts[n], last = batch.in.starts[n + 1] - 1;
            if (!length) continue;
            for (int64_t t = 0; t < length; t++) {
                const float *row = batch.in.qkv + (batch.in.starts[n] + t) * batch.in.stride + batch.in.width;
                memcpy(keys + t * kv, row, (size_t)kv * sizeof(float));
                memcpy(values + t * kv, row + kv, (size_t)kv * sizeof(float));
            }
            b->attention_decode(b, out, batch.in.qkv + last * batch.in.stride, keys, values, length, s->heads,
                                s->kv_heads, s->head_dim, s->window, s->scale, NULL);
            check_close("decode", out, batch.out + last * batch.in.width, batch.in.width, 1e-5);
        }
        free(keys), free(values), free(out);
        batch_free(&batch);
    }
    b->destroy(b);
}

// Scores far apart and large: no overflow, and the largest takes all.
static void large_scores(void **state) {
    (void)state;
    Backend *b = backend(1);
    const AttentionCase c = {1, 1, 4, 0, 1, 0, {300}};
    Batch batch;
    batch_create(&batch, &c);
    for (int64_t i = 0; i < 300 * batch.in.stride; i++) batch.in.qkv[i] *= 1000;
    run(b, &batch);
    for (int64_t i = 0; i < 300 * batch.in.stride; i++) assert_true(isfinite(batch.dqkv[i]));
    for (int64_t i = 0; i < 300 * batch.in.width; i++) assert_true(fabsf(batch.out[i]) <= 3000);
    batch_free(&batch);
    b->destroy(b);
}

static void outputs_are_bf16(void **state) {
    (void)state;
    Error error = {0};
    Backend *b = backend_cpu_create(2, true, &error);
    check(b != NULL, &error);
    const AttentionCase c = {3, 1, 10, 0, 2, 1, {520, 9}};
    Batch batch;
    batch_create(&batch, &c);
    run(b, &batch);
    for (int64_t i = 0; i < batch.in.shape.tokens * batch.in.width; i++)
        assert_true(bf16_to_float(bf16_from_float(batch.out[i])) == batch.out[i]);
    for (int64_t i = 0; i < batch.in.shape.tokens * batch.in.stride; i++)
        assert_true(bf16_to_float(bf16_from_float(batch.dqkv[i])) == batch.dqkv[i]);
    batch_free(&batch);
    b->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_double),        cmocka_unit_test(tail_is_zero),
        cmocka_unit_test(threads_change_no_bit), cmocka_unit_test(sequences_do_not_touch),
        cmocka_unit_test(wide_window_is_none),   cmocka_unit_test(groups_equal_copies),
        cmocka_unit_test(against_differences),   cmocka_unit_test(decode_is_last_row),
        cmocka_unit_test(large_scores),          cmocka_unit_test(outputs_are_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
