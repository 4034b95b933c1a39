// attention_batch.c - see attention_batch.h.
#include "tests/attention_batch.h"
#include "tests/support.h"
#include <math.h>
#include <stdlib.h>

static float *noise_with_tail(uint64_t key, int64_t count, int64_t filled, float magnitude) {
    float *values = malloc((size_t)count * sizeof *values + 1);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++)
        values[i] = i < filled ? bf16_to_float(bf16_from_float(magnitude * noise(key, (uint64_t)i))) : NAN;
    return values;
}

void attention_batch_create(AttentionBatch *batch, const AttentionCase *c, float magnitude) {
    *batch = (AttentionBatch){.width = (int64_t)c->heads * c->head_dim,
                              .stride = ((int64_t)c->heads + 2 * (int64_t)c->kv_heads) * c->head_dim};
    for (int s = 0; s < c->sequences; s++) batch->starts[s + 1] = batch->starts[s] + c->lengths[s];
    const int64_t filled = batch->starts[c->sequences], tokens = filled + c->tail;
    batch->shape = (AttentionShape){.tokens = tokens,
                                    .heads = c->heads,
                                    .kv_heads = c->kv_heads,
                                    .head_dim = c->head_dim,
                                    .window = c->window,
                                    .scale = 1.0f / sqrtf((float)c->head_dim),
                                    .sequences = c->sequences,
                                    .starts = batch->starts};
    batch->qkv = noise_with_tail(1, tokens * batch->stride, filled * batch->stride, magnitude);
    batch->dout = noise_with_tail(2, tokens * batch->width, filled * batch->width, 1);
}

void attention_batch_free(AttentionBatch *batch) {
    free(batch->qkv), free(batch->dout);
}

static double dot(const float *a, const float *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

// Query token t of a head whose visible keys are first .. t; p and dp hold one number per key.
static void reference_query(const AttentionBatch *batch, const AttentionReference *r, int64_t head, int64_t first,
                            int64_t t, double *p, double *dp) {
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

static double *zeros(int64_t count) {
    double *values = calloc((size_t)count + 1, sizeof *values);
    assert_non_null(values);
    return values;
}

AttentionReference attention_reference(const AttentionBatch *batch) {
    const AttentionShape *s = &batch->shape;
    const AttentionReference r = {zeros(s->tokens * batch->width), zeros(s->tokens * s->heads),
                                  zeros(s->tokens * batch->stride)};
    double *p = zeros(s->tokens), *dp = zeros(s->tokens);
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

void attention_reference_free(AttentionReference *reference) {
    free(reference->out), free(reference->lse), free(reference->dqkv);
}
