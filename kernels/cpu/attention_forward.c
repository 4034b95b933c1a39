// attention_forward.c - causal attention within sequences, one tile of queries of one head at a time.
#include "kernels/cpu/attention.h"
#include <cblas.h>

// ---- streaming softmax -------------------------------------------------------------------------------------------

// Of a row of `count` scores, a multiple of LANES, only [first, last) are seen, at least one. They become
// exp(score - maximum), the others 0, after the row's maximum and the sum of its exponentials have moved on. out, what
// the row has gathered so far, follows the maximum (NULL: nothing yet).
CPU_INLINE void softmax_row_body(float *scores, int32_t count, int32_t first, int32_t last, float *maximum, float *sum,
                                 float *out, int64_t d) {
    const float top = vector_max(scores + first, last - first, *maximum);
    for (int32_t j = 0; j < count; j++) {
        const bool seen = j >= first && j < last;
        const float e = attention_exp(seen ? scores[j] - top : 0.0f);
        scores[j] = seen ? e : 0.0f;
    }
    const float keep = *maximum == -INFINITY ? 0.0f : attention_exp(*maximum - top);
    *maximum = top;
    *sum = *sum * keep + vector_sum(scores, count);
    if (!out || keep == 1.0f) return;
    for (int64_t j = 0; j < d; j++) out[j] *= keep;
}

CPU_INLINE void divide_row_body(float *values, float divisor, int64_t count) {
    for (int64_t j = 0; j < count; j++) values[j] /= divisor;
}

CPU_KERNEL(softmax_row,
           (float *scores, int32_t count, int32_t first, int32_t last, float *maximum, float *sum, float *out,
            int64_t d),
           (scores, count, first, last, maximum, sum, out, d))
CPU_KERNEL(divide_row, (float *values, float divisor, int64_t count), (values, divisor, count))

// The keys from .. to - 1: scores, their exponentials, and what they add to out.
static void add_keys(const CpuBackend *cpu, const AttentionRows *w, int64_t from, int64_t to, bool fresh,
                     float *maximum, float *sum) {
    _Alignas(64) float scores[QUERY_TILE * KEY_TILE];
    const int keys = (int)(to - from), stride = (keys + LANES - 1) / LANES * LANES; // whole vectors
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, w->rows, keys, w->head_dim, w->scale, w->queries,
                (int)w->query_stride, w->keys + from * w->kv_stride, (int)w->kv_stride, 0.0f, scores, stride);
    for (int i = 0; i < w->rows; i++) {
        float *row = scores + (int64_t)i * stride;
        int64_t first, last;
        attention_visible(w->diagonal, w->step, w->window, i, from, to, &first, &last);
        if (first == last)
            memset(row, 0, (size_t)keys * sizeof *row);
        else
            softmax_row(cpu->instructions)(row, stride, (int32_t)(first - from), (int32_t)(last - from), maximum + i,
                                           sum + i, fresh ? NULL : w->out + i * w->out_stride, w->head_dim);
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, w->rows, w->head_dim, keys, 1.0f, scores, stride,
                w->values + from * w->kv_stride, (int)w->kv_stride, fresh ? 0.0f : 1.0f, w->out, (int)w->out_stride);
}

void attention_rows(const CpuBackend *cpu, const AttentionRows *w) {
    float maximum[QUERY_TILE], sum[QUERY_TILE];
    for (int i = 0; i < w->rows; i++) maximum[i] = -INFINITY, sum[i] = 0;
    int64_t begin, ignored;
    attention_visible(w->diagonal, w->step, w->window, 0, 0, w->key_count, &begin, &ignored);
    for (int64_t from = begin; from < w->key_count; from += KEY_TILE) {
        int64_t to = from + KEY_TILE < w->key_count ? from + KEY_TILE : w->key_count;
        add_keys(cpu, w, from, to, from == begin, maximum, sum);
    }
    for (int i = 0; i < w->rows; i++) {
        float *out = w->out + i * w->out_stride;
        divide_row(cpu->instructions)(out, sum[i], w->head_dim);
        cpu_round(cpu, out, w->head_dim);
        if (w->lse) w->lse[i] = maximum[i] + logf(sum[i]);
    }
}

// ---- the operation -------------------------------------------------------------------------------------------------

typedef struct ForwardWork {
    CpuBackend *cpu;
    const AttentionShape *shape;
    const float *qkv; // [T, (H + 2K) D]
    float *out;       // [T, H D]
    float *lse;       // [H, T]
} ForwardWork;

static void forward_tile(void *context, int64_t index, int worker) {
    (void)worker;
    const ForwardWork *w = context;
    const AttentionShape *s = w->shape;
    AttentionTile tile;
    if (!attention_tile(s, QUERY_TILE, index / s->heads, &tile)) return;
    const int64_t head = index % s->heads, d = s->head_dim, stride = (s->heads + 2 * (int64_t)s->kv_heads) * d;
    const float *sequence = w->qkv + tile.begin * stride;
    const float *keys = sequence + (s->heads + head / (s->heads / s->kv_heads)) * d;
    AttentionRows rows = {
        .queries = w->qkv + tile.first * stride + head * d,
        .query_stride = stride,
        .keys = keys,
        .values = keys + s->kv_heads * d,
        .kv_stride = stride,
        .out = w->out + (tile.first * s->heads + head) * d,
        .out_stride = s->heads * d,
        .lse = w->lse + head * s->tokens + tile.first,
        .rows = (int)(tile.last - tile.first),
        .head_dim = s->head_dim,
        .window = s->window,
        .key_count = tile.last - tile.begin,
        .diagonal = tile.first - tile.begin,
        .step = 1,
        .scale = s->scale,
    };
    attention_rows(w->cpu, &rows);
}

void cpu_attention_forward(Backend *b, Activation *out, float *lse, const Activation *qkv, const AttentionShape *shape,
                           Stream *stream) {
    (void)stream;
    ForwardWork work = {cpu_backend(b), shape, qkv, out, lse};
    const int64_t tail = shape->sequences ? shape->starts[shape->sequences] : 0,
                  width = (int64_t)shape->heads * shape->head_dim;
    memset(work.out + tail * width, 0, (size_t)((shape->tokens - tail) * width) * sizeof(float));
    for (int head = 0; head < shape->heads; head++)
        memset(lse + head * shape->tokens + tail, 0, (size_t)(shape->tokens - tail) * sizeof *lse);
    thread_pool_run(b->threads, attention_slots(shape, QUERY_TILE) * shape->heads, forward_tile, &work);
}
