// test_attention.c - attention on the CPU backend against fp64, and what must hold between its own results.
#include "kernels/kernels.h"
#include "tests/support.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// A batch with random contents and room for every result.
typedef struct Batch {
    AttentionShape shape;
    int64_t width, stride; // H D; (H + 2K) D
    float *qkv, *dout;
    float *out, *lse, *dqkv;
} Batch;

typedef struct Case {
    int heads, kv_heads, head_dim, window;
    int sequences, tail;
    int32_t lengths[6];
} Case;

static const Case CASES[] = {
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

static Batch batch_create(const Case *c, int32_t *starts) {
    starts[0] = 0;
    for (int s = 0; s < c->sequences; s++) starts[s + 1] = starts[s] + c->lengths[s];
    Batch batch = {.width = (int64_t)c->heads * c->head_dim,
                   .stride = ((int64_t)c->heads + 2 * (int64_t)c->kv_heads) * c->head_dim};
    const int64_t tokens = starts[c->sequences] + c->tail;
    batch.shape = (AttentionShape){.tokens = tokens,
                                   .heads = c->heads,
                                   .kv_heads = c->kv_heads,
                                   .head_dim = c->head_dim,
                                   .window = c->window,
                                   .scale = 1.0f / sqrtf((float)c->head_dim),
                                   .sequences = c->sequences,
                                   .starts = starts};
    batch.qkv = floats(tokens * batch.stride);
    batch.dout = floats(tokens * batch.width);
    batch.out = floats(tokens * batch.width);
    batch.lse = floats(tokens * c->heads);
    batch.dqkv = floats(tokens * batch.stride);
    for (int64_t i = 0; i < tokens * batch.stride; i++) batch.qkv[i] = 3 * noise(1, (uint64_t)i);
    for (int64_t i = 0; i < tokens * batch.width; i++) batch.dout[i] = noise(2, (uint64_t)i);
    return batch;
}

static void batch_free(Batch *batch) {
    free(batch->qkv), free(batch->dout), free(batch->out), free(batch->lse), free(batch->dqkv);
}

static void run(Backend *b, Batch *batch) {
    const AttentionShape *s = &batch->shape;
    void *scratch = malloc(b->attention_scratch(b, s->tokens, s->heads) + 1);
    assert_non_null(scratch);
    b->attention_forward(b, batch->out, batch->lse, batch->qkv, s, NULL);
    b->attention_backward(b, batch->dqkv, batch->dout, batch->qkv, batch->out, batch->lse, scratch, s, NULL);
    free(scratch);
}

// ---- the reference: one query at a time, in double ---------------------------------------------------------------

typedef struct Reference {
    double *out, *lse, *dqkv;
} Reference;

static double dot(const float *a, const float *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

// Query token t of a head whose visible keys are first .. t; p and dp hold one number per key.
static void reference_query(const Batch *batch, Reference *r, int64_t head, int64_t first, int64_t t, double *p,
                            double *dp) {
    const AttentionShape *s = &batch->shape;
    const int64_t d = s->head_dim, stride = batch->stride;
    const int64_t key = (s->heads + head / (s->heads / s->kv_heads)) * d, value = key + s->kv_heads * d;
    const float *q = batch->qkv + t * stride + head * d, *dout = batch->dout + t * batch->width + head * d;
    double *out = r->out + t * batch->width + head * d;
    double top = -INFINITY, sum = 0, delta = 0;
    for (int64_t k = first; k <= t; k++) {
        p[k] = dot(q, batch->qkv + k * stride + key, d) * (double)s->scale;
        if (p[k] > top) top = p[k];
    }
    for (int64_t k = first; k <= t; k++) sum += p[k] = exp(p[k] - top);
    r->lse[head * s->tokens + t] = top + log(sum);
    for (int64_t k = first; k <= t; k++) {
        p[k] /= sum;
        dp[k] = dot(dout, batch->qkv + k * stride + value, d);
        delta += p[k] * dp[k];
    }
    for (int64_t k = first; k <= t; k++) {
        const double ds = p[k] * (dp[k] - delta) * (double)s->scale;
        for (int64_t j = 0; j < d; j++) {
            out[j] += p[k] * (double)batch->qkv[k * stride + value + j];
            r->dqkv[k * stride + value + j] += p[k] * (double)dout[j];
            r->dqkv[k * stride + key + j] += ds * (double)q[j];
            r->dqkv[t * stride + head * d + j] += ds * (double)batch->qkv[k * stride + key + j];
        }
    }
}

static Reference reference(const Batch *batch) {
    const AttentionShape *s = &batch->shape;
    Reference r = {calloc((size_t)(s->tokens * batch->width) + 1, sizeof(double)),
                   calloc((size_t)(s->tokens * s->heads) + 1, sizeof(double)),
                   calloc((size_t)(s->tokens * batch->stride) + 1, sizeof(double))};
    double *p = calloc((size_t)s->tokens + 1, sizeof *p), *dp = calloc((size_t)s->tokens + 1, sizeof *dp);
    for (int n = 0; n < s->sequences; n++) {
        for (int64_t t = s->starts[n]; t < s->starts[n + 1]; t++) {
            int64_t first = s->starts[n];
            if (s->window > 0 && t - s->window + 1 > first) first = t - s->window + 1;
            for (int64_t head = 0; head < s->heads; head++) reference_query(batch, &r, head, first, t, p, dp);
        }
    }
    free(p), free(dp);
    return r;
}

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
        int32_t starts[8];
        Batch batch = batch_create(&CASES[i], starts);
        run(b, &batch);
        Reference r = reference(&batch);
        const int64_t t = batch.shape.tokens, kv = (int64_t)batch.shape.kv_heads * batch.shape.head_dim;
        check_columns("out", batch.out, r.out, t, batch.width, 0, batch.width);
        check_columns("lse", batch.lse, r.lse, batch.shape.heads, t, 0, t);
        check_columns("dq", batch.dqkv, r.dqkv, t, batch.stride, 0, batch.width);
        check_columns("dk", batch.dqkv, r.dqkv, t, batch.stride, batch.width, kv);
        check_columns("dv", batch.dqkv, r.dqkv, t, batch.stride, batch.width + kv, kv);
        free(r.out), free(r.lse), free(r.dqkv);
        batch_free(&batch);
    }
    b->destroy(b);
}

// ---- properties ----------------------------------------------------------------------------------------------------

static void assert_equal_bits(const float *a, const float *b, int64_t count) {
    assert_memory_equal(a, b, (size_t)count * sizeof(float));
}

static void tail_is_zero(void **state) {
    (void)state;
    Backend *b = backend(2);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        int32_t starts[8];
        Batch batch = batch_create(&CASES[i], starts);
        const int64_t tokens = batch.shape.tokens, tail = starts[CASES[i].sequences];
        for (int64_t j = tail * batch.stride; j < tokens * batch.stride; j++) batch.qkv[j] = NAN; // never read
        for (int64_t j = tail * batch.width; j < tokens * batch.width; j++) batch.dout[j] = NAN;
        run(b, &batch);
        for (int64_t j = 0; j < tokens * batch.width; j++)
            assert_true(j < tail * batch.width ? isfinite(batch.out[j]) : batch.out[j] == 0);
        for (int64_t j = 0; j < tokens * batch.stride; j++)
            assert_true(j < tail * batch.stride ? isfinite(batch.dqkv[j]) : batch.dqkv[j] == 0);
        for (int64_t j = 0; j < tokens * batch.shape.heads; j++)
            assert_true(j % tokens < tail ? isfinite(batch.lse[j]) : batch.lse[j] == 0);
        batch_free(&batch);
    }
    b->destroy(b);
}

static void threads_change_no_bit(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Batch batches[3];
        int32_t starts[8];
        for (int threads = 1; threads <= 3; threads++) {
            Backend *b = backend(threads);
            batches[threads - 1] = batch_create(&CASES[i], starts);
            run(b, &batches[threads - 1]);
            b->destroy(b);
        }
        const int64_t tokens = batches[0].shape.tokens;
        for (int n = 1; n < 3; n++) {
            assert_equal_bits(batches[n].out, batches[0].out, tokens * batches[0].width);
            assert_equal_bits(batches[n].lse, batches[0].lse, tokens * batches[0].shape.heads);
            assert_equal_bits(batches[n].dqkv, batches[0].dqkv, tokens * batches[0].stride);
        }
        for (int n = 0; n < 3; n++) batch_free(&batches[n]);
    }
}

// A sequence gives the same bits wherever it lies in a batch.
static void sequences_do_not_touch(void **state) {
    (void)state;
    Backend *b = backend(2);
    const Case together = {6, 2, 16, 0, 4, 9, {41, 600, 1, 130}};
    int32_t starts[8];
    Batch batch = batch_create(&together, starts);
    run(b, &batch);
    for (int n = 0; n < together.sequences; n++) {
        const Case alone = {6, 2, 16, 0, 1, 0, {together.lengths[n]}};
        const int64_t length = together.lengths[n], first = starts[n];
        int32_t own[8];
        Batch single = batch_create(&alone, own);
        memcpy(single.qkv, batch.qkv + first * batch.stride, (size_t)(length * batch.stride) * sizeof(float));
        memcpy(single.dout, batch.dout + first * batch.width, (size_t)(length * batch.width) * sizeof(float));
        run(b, &single);
        assert_equal_bits(single.out, batch.out + first * batch.width, length * batch.width);
        assert_equal_bits(single.dqkv, batch.dqkv + first * batch.stride, length * batch.stride);
        batch_free(&single);
    }
    batch_free(&batch);
    b->destroy(b);
}

static void wide_window_is_none(void **state) {
    (void)state;
    Backend *b = backend(2);
    const int32_t lengths[] = {5, 600, 64};
    Case open = {4, 2, 8, 0, 3, 2, {lengths[0], lengths[1], lengths[2]}}, wide = open;
    wide.window = 600;
    int32_t starts[8];
    Batch one = batch_create(&open, starts), other = batch_create(&wide, starts);
    run(b, &one);
    run(b, &other);
    assert_equal_bits(one.out, other.out, one.shape.tokens * one.width);
    assert_equal_bits(one.dqkv, other.dqkv, one.shape.tokens * one.stride);
    batch_free(&one);
    batch_free(&other);
    b->destroy(b);
}

// Grouped heads equal as many key/value heads as query heads that hold copies; their dK and dV are summed.
static void groups_equal_copies(void **state) {
    (void)state;
    Backend *b = backend(2);
    enum { HEADS = 6, KV_HEADS = 2, D = 20, GROUP = HEADS / KV_HEADS };
    const Case grouped = {HEADS, KV_HEADS, D, 0, 2, 1, {140, 65}}, copied = {HEADS, HEADS, D, 0, 2, 1, {140, 65}};
    int32_t starts[8];
    Batch few = batch_create(&grouped, starts), many = batch_create(&copied, starts);
    const int64_t tokens = few.shape.tokens;
    memcpy(many.dout, few.dout, (size_t)(tokens * few.width) * sizeof(float));
    for (int64_t t = 0; t < tokens; t++) {
        const float *from = few.qkv + t * few.stride;
        float *to = many.qkv + t * many.stride;
        memcpy(to, from, HEADS * D * sizeof(float));
        for (int h = 0; h < HEADS; h++) {
            memcpy(to + (HEADS + h) * D, from + (HEADS + h / GROUP) * D, D * sizeof(float));
            memcpy(to + (2 * HEADS + h) * D, from + (HEADS + KV_HEADS + h / GROUP) * D, D * sizeof(float));
        }
    }
    run(b, &few);
    run(b, &many);
    assert_equal_bits(few.out, many.out, tokens * few.width);
    double *sums = calloc((size_t)(tokens * few.stride), sizeof *sums);
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t j = 0; j < HEADS * D; j++) sums[t * few.stride + j] = (double)many.dqkv[t * many.stride + j];
        for (int64_t j = 0; j < 2 * HEADS * D; j++) {
            const int64_t head = j / D;
            sums[t * few.stride + (HEADS + head / GROUP) * D + j % D] +=
                (double)many.dqkv[t * many.stride + HEADS * D + j];
        }
    }
    check_columns("grouped dqkv", few.dqkv, sums, tokens, few.stride, 0, few.stride);
    free(sums);
    batch_free(&few);
    batch_free(&many);
    b->destroy(b);
}

// (L(x + e u) - L(x - e u)) / 2e along a random direction, L = sum of dout * out.
static void against_differences(void **state) {
    (void)state;
    Backend *b = backend(2);
    const Case small = {4, 2, 8, 5, 2, 0, {11, 6}};
    int32_t starts[8];
    Batch batch = batch_create(&small, starts);
    const int64_t count = batch.shape.tokens * batch.stride, outputs = batch.shape.tokens * batch.width;
    run(b, &batch);
    double expected = 0, loss[2] = {0, 0};
    for (int64_t i = 0; i < count; i++) expected += (double)batch.dqkv[i] * (double)noise(3, (uint64_t)i);
    const float step = 0x1p-8f;
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < count; i++)
            batch.qkv[i] = 3 * noise(1, (uint64_t)i) + (side ? step : -step) * noise(3, (uint64_t)i);
        b->attention_forward(b, batch.out, batch.lse, batch.qkv, &batch.shape, NULL);
        loss[side] = dot(batch.out, batch.dout, outputs);
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
        int32_t starts[8];
        Batch batch = batch_create(&CASES[i], starts);
        const AttentionShape *s = &batch.shape;
        run(b, &batch);
        const int64_t kv = (int64_t)s->kv_heads * s->head_dim;
        float *keys = floats(s->tokens * kv), *values = floats(s->tokens * kv), *out = floats(batch.width);
        for (int n = 0; n < s->sequences; n++) {
            const int64_t length = starts[n + 1] - starts[n], last = starts[n + 1] - 1;
            if (!length) continue;
            for (int64_t t = 0; t < length; t++) {
                const float *row = batch.qkv + (starts[n] + t) * batch.stride + batch.width;
                memcpy(keys + t * kv, row, (size_t)kv * sizeof(float));
                memcpy(values + t * kv, row + kv, (size_t)kv * sizeof(float));
            }
            b->attention_decode(b, out, batch.qkv + last * batch.stride, keys, values, length, s->heads, s->kv_heads,
                                s->head_dim, s->window, s->scale, NULL);
            check_close("decode", out, batch.out + last * batch.width, batch.width, 1e-5);
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
    const Case c = {1, 1, 4, 0, 1, 0, {300}};
    int32_t starts[8];
    Batch batch = batch_create(&c, starts);
    for (int64_t i = 0; i < 300 * batch.stride; i++) batch.qkv[i] *= 1000;
    run(b, &batch);
    for (int64_t i = 0; i < 300 * batch.stride; i++) assert_true(isfinite(batch.dqkv[i]));
    for (int64_t i = 0; i < 300 * batch.width; i++) assert_true(fabsf(batch.out[i]) <= 3000);
    batch_free(&batch);
    b->destroy(b);
}

static void outputs_are_bf16(void **state) {
    (void)state;
    Error error = {0};
    Backend *b = backend_cpu_create(2, true, &error);
    check(b != NULL, &error);
    const Case c = {3, 1, 10, 0, 2, 1, {520, 9}};
    int32_t starts[8];
    Batch batch = batch_create(&c, starts);
    run(b, &batch);
    for (int64_t i = 0; i < batch.shape.tokens * batch.width; i++)
        assert_true(bf16_to_float(bf16_from_float(batch.out[i])) == batch.out[i]);
    for (int64_t i = 0; i < batch.shape.tokens * batch.stride; i++)
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
