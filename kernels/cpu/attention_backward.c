// attention_backward.c - gradients of causal attention, tile by tile from the kept log-sum-exp.
//
// Of a tile of queries and keys:   P = exp(S - lse)   dV += P^T dO   dS = P (dO V^T - delta) scale   dK += dS^T Q
// dQ += dS K, with delta = rowsum(dO O). Every gradient has one owner that adds in a fixed order. A short sequence is
// one piece of work per key/value head, which computes each tile once (5 matrix products). A long one is cut into tiles
// of keys for dK and dV and tiles of queries for dQ, so that threads share it; the tiles are computed twice (7
// products).
#include "kernels/cpu/attention.h"
#include <cblas.h>

#define SHORT_SEQUENCE 512 // tokens
#define TILE           64  // queries and keys of a tile

typedef struct BackwardWork {
    CpuBackend *cpu;
    const AttentionShape *shape;
    const float *qkv;  // [T, stride]
    const float *out;  // [T, H D]
    const float *dout; // [T, H D]
    const float *lse;  // [H, T]
    float *delta;      // [H, T]
    float *dqkv;       // [T, stride]
    int64_t stride;    // (H + 2K) D
    int64_t width;     // H D
} BackwardWork;

// What a tile adds to.
typedef enum { ADD_KEYS_VALUES = 1, ADD_QUERIES = 2 } Targets;

CPU_INLINE void delta_row_body(float *delta, const float *x, const float *y, int64_t count) {
    *delta = (float)vector_dot_double(x, y, count);
}

// Of `count` columns only [first, last) are seen: there the scores become P and the gradients of P those of the scores;
// elsewhere both become 0.
CPU_INLINE void score_gradients_body(float *restrict p, float *restrict dp, int32_t count, int32_t first, int32_t last,
                                     float lse, float delta, float scale) {
    for (int32_t j = 0; j < count; j++) {
        const bool seen = j >= first && j < last;
        const float probability = attention_exp(seen ? p[j] - lse : 0.0f);
        dp[j] = seen ? probability * (dp[j] - delta) * scale : 0.0f;
        p[j] = seen ? probability : 0.0f;
    }
}

CPU_KERNEL(delta_row, (float *delta, const float *x, const float *y, int64_t count), (delta, x, y, count))
CPU_KERNEL(score_gradients,
           (float *p, float *dp, int32_t count, int32_t first, int32_t last, float lse, float delta, float scale),
           (p, dp, count, first, last, lse, delta, scale))

// ---- one tile ------------------------------------------------------------------------------------------------------

// c[m, n] = alpha op(a) op(b) + beta c; the rows of each lie its stride apart
static void product(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t a_stride, const float *b, int64_t b_stride, float beta, float *c, int64_t c_stride) {
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, (int)m,
                (int)n, (int)k, alpha, a, (int)a_stride, b, (int)b_stride, beta, c, (int)c_stride);
}

static int64_t key_column(const AttentionShape *s, int64_t head) {
    return (s->heads + head / (s->heads / s->kv_heads)) * s->head_dim;
}

// P and dS of the queries q0 .. q1 - 1 and the keys k0 .. k1 - 1, indices of tokens of the sequence that begins at
// `begin`.
static void tile_gradients(const BackwardWork *w, int64_t head, int64_t begin, int64_t q0, int64_t q1, int64_t k0,
                           int64_t k1, float *p, float *dp) {
    const AttentionShape *s = w->shape;
    const int64_t rows = q1 - q0, keys = k1 - k0, d = s->head_dim, stride = w->stride;
    const float *key = w->qkv + k0 * stride + key_column(s, head), *value = key + s->kv_heads * d;
    const int32_t columns = (int32_t)round_up(keys, LANES); // whole vectors
    product(false, true, rows, keys, d, s->scale, w->qkv + q0 * stride + head * d, stride, key, stride, 0, p, TILE);
    product(false, true, rows, keys, d, 1, w->dout + q0 * w->width + head * d, w->width, value, stride, 0, dp, TILE);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t token = head * s->tokens + q0 + i;
        int64_t first, last;
        attention_visible(q0 - begin, 1, s->window, i, k0 - begin, k1 - begin, &first, &last);
        score_gradients(w->cpu->instructions)(p + i * TILE, dp + i * TILE, columns, (int32_t)(first - (k0 - begin)),
                                              (int32_t)(last - (k0 - begin)), w->lse[token], w->delta[token], s->scale);
    }
}

static int64_t first_key(const AttentionShape *s, int64_t begin, int64_t query) {
    return s->window > 0 && query - s->window + 1 > begin ? query - s->window + 1 : begin;
}

// What one tile adds to the gradients: to dK and dV (fresh: they are set), to dQ (set at the first keys that it sees).
static void backward_tile(const BackwardWork *w, int64_t head, int64_t begin, int64_t q0, int64_t q1, int64_t k0,
                          int64_t k1, int targets, bool fresh) {
    _Alignas(64) float p[TILE * TILE], dp[TILE * TILE];
    const AttentionShape *s = w->shape;
    const int64_t rows = q1 - q0, keys = k1 - k0, d = s->head_dim, stride = w->stride;
    const int64_t query_at = q0 * stride + head * d, key_at = k0 * stride + key_column(s, head);
    const float *dout = w->dout + q0 * w->width + head * d;
    tile_gradients(w, head, begin, q0, q1, k0, k1, p, dp);
    if (targets & ADD_KEYS_VALUES) {
        const float beta = fresh ? 0.0f : 1.0f;
        float *dkey = w->dqkv + key_at, *dvalue = dkey + s->kv_heads * d;
        product(true, false, keys, d, rows, 1, p, TILE, dout, w->width, beta, dvalue, stride);
        product(true, false, keys, d, rows, 1, dp, TILE, w->qkv + query_at, stride, beta, dkey, stride);
    }
    if (targets & ADD_QUERIES) {
        const float beta = k0 <= first_key(s, begin, q0) ? 0.0f : 1.0f;
        product(false, false, rows, d, keys, 1, dp, TILE, w->qkv + key_at, stride, beta, w->dqkv + query_at, stride);
    }
}

// ---- pieces of work ------------------------------------------------------------------------------------------------

static void round_columns(const BackwardWork *w, int64_t first, int64_t last, int64_t column, int64_t count) {
    for (int64_t t = first; t < last; t++) cpu_round(w->cpu, w->dqkv + t * w->stride + column, count);
}

// What the keys of a tile take part in: dK and dV of one key/value head, with ADD_QUERIES dQ of its query heads too.
// Tiles of queries and keys start on the same tokens, so the first tile, on the diagonal, holds every key.
static void add_key_tile(const BackwardWork *w, const AttentionTile *tile, int64_t kv_head, int targets) {
    const AttentionShape *s = w->shape;
    const int64_t group = s->heads / s->kv_heads;
    int64_t end = tile->end; // of the queries that see a key of the tile
    if (s->window > 0 && tile->last - 1 + s->window < end) end = tile->last - 1 + s->window;
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        for (int64_t q0 = tile->first; q0 < end; q0 += TILE) {
            const int64_t q1 = q0 + TILE < tile->end ? q0 + TILE : tile->end;
            backward_tile(w, head, tile->begin, q0, q1, tile->first, tile->last, targets,
                          head == kv_head * group && q0 == tile->first);
        }
    }
}

// One slot of key tiles and one key/value head; the first tile of a short sequence stands for all of the sequence.
static void keys_task(void *context, int64_t index, int worker) {
    (void)worker;
    const BackwardWork *w = context;
    const AttentionShape *s = w->shape;
    AttentionTile tile;
    if (!attention_tile(s, TILE, index / s->kv_heads, &tile)) return;
    const int64_t kv_head = index % s->kv_heads, d = s->head_dim, group = s->heads / s->kv_heads;
    const int64_t key = (s->heads + kv_head) * d;
    const bool whole = tile.end - tile.begin <= SHORT_SEQUENCE;
    if (whole && tile.first != tile.begin) return;
    const int64_t last = whole ? tile.end : tile.last;
    for (int64_t from = tile.first; from < last; from += TILE) {
        const AttentionTile part = {tile.begin, tile.end, from, from + TILE < last ? from + TILE : last};
        add_key_tile(w, &part, kv_head, whole ? ADD_KEYS_VALUES | ADD_QUERIES : ADD_KEYS_VALUES);
    }
    round_columns(w, tile.first, last, key, d);
    round_columns(w, tile.first, last, key + s->kv_heads * d, d);
    if (whole) round_columns(w, tile.first, last, kv_head * group * d, group * d);
}

// One slot of query tiles and one query head of a long sequence: dQ.
static void queries_task(void *context, int64_t index, int worker) {
    (void)worker;
    const BackwardWork *w = context;
    const AttentionShape *s = w->shape;
    AttentionTile tile;
    if (!attention_tile(s, TILE, index / s->heads, &tile) || tile.end - tile.begin <= SHORT_SEQUENCE) return;
    const int64_t head = index % s->heads, d = s->head_dim;
    for (int64_t from = first_key(s, tile.begin, tile.first); from < tile.last; from += TILE)
        backward_tile(w, head, tile.begin, tile.first, tile.last, from,
                      from + TILE < tile.last ? from + TILE : tile.last, ADD_QUERIES, false);
    round_columns(w, tile.first, tile.last, head * d, d);
}

static void delta_rows(void *context, int64_t first, int64_t last, int worker) {
    (void)worker;
    const BackwardWork *w = context;
    const int64_t d = w->shape->head_dim;
    for (int64_t t = first; t < last; t++) {
        for (int64_t head = 0; head < w->shape->heads; head++) {
            const int64_t at = t * w->width + head * d;
            delta_row(w->cpu->instructions)(w->delta + head * w->shape->tokens + t, w->dout + at, w->out + at, d);
        }
    }
}

void cpu_attention_backward(Backend *b, Activation *dqkv, const Activation *dout, const Activation *qkv,
                            const Activation *out, const float *lse, void *scratch, const AttentionShape *shape,
                            Stream *stream) {
    (void)stream;
    const int64_t d = shape->head_dim, tail = shape->sequences ? shape->starts[shape->sequences] : 0;
    BackwardWork work = {
        .cpu = cpu_backend(b),
        .shape = shape,
        .qkv = qkv,
        .out = out,
        .dout = dout,
        .lse = lse,
        .delta = scratch,
        .dqkv = dqkv,
        .stride = (shape->heads + 2 * (int64_t)shape->kv_heads) * d,
        .width = shape->heads * d,
    };
    memset(work.dqkv + tail * work.stride, 0, (size_t)((shape->tokens - tail) * work.stride) * sizeof *work.dqkv);
    cpu_for_rows(work.cpu, tail, cpu_rows_per_task(work.width), delta_rows, &work);
    thread_pool_run(b->threads, attention_slots(shape, TILE) * shape->kv_heads, keys_task, &work);
    thread_pool_run(b->threads, attention_slots(shape, TILE) * shape->heads, queries_task, &work);
}

size_t cpu_attention_scratch(const Backend *b, int64_t tokens, int heads) {
    (void)b;
    return (size_t)tokens * (size_t)heads * sizeof(float);
}
