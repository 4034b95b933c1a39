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

// Some keys of one key/value head, with their keys and values turned: [D, TILE]. The two products that sum over D have
// both operands along their rows, which OpenBLAS would turn anew for each tile.
typedef struct KeyTile {
    int64_t begin, k0, k1; // tokens: of the sequence's start, first and last + 1 of the tile
    float *keys, *values;
} KeyTile;

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

// out[d, TILE] = in[rows, d] turned
CPU_INLINE void turn_body(float *restrict out, const float *restrict in, int64_t stride, int64_t rows, int64_t d) {
    for (int64_t j = 0; j < d; j++) {
        for (int64_t i = 0; i < rows; i++) out[j * TILE + i] = in[i * stride + j];
    }
}

CPU_KERNEL(turn, (float *out, const float *in, int64_t stride, int64_t rows, int64_t d), (out, in, stride, rows, d))
CPU_KERNEL(delta_row, (float *delta, const float *x, const float *y, int64_t count), (delta, x, y, count))
CPU_KERNEL(score_gradients,
           (float *p, float *dp, int32_t count, int32_t first, int32_t last, float lse, float delta, float scale),
           (p, dp, count, first, last, lse, delta, scale))

// ---- one tile ------------------------------------------------------------------------------------------------------

// c[m, n] = alpha op(a) b + beta c; the rows of each lie its stride apart
static void product(bool transpose_a, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t a_stride,
                    const float *b, int64_t b_stride, float beta, float *c, int64_t c_stride) {
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, CblasNoTrans, (int)m, (int)n, (int)k, alpha, a,
                (int)a_stride, b, (int)b_stride, beta, c, (int)c_stride);
}

static int64_t key_column(const AttentionShape *s, int64_t kv_head) {
    return (s->heads + kv_head) * s->head_dim;
}

// Turns the tile's keys and values into its memory.
static void load_keys(const BackwardWork *w, int64_t kv_head, const KeyTile *tile) {
    const int64_t d = w->shape->head_dim, rows = tile->k1 - tile->k0;
    const float *key = w->qkv + tile->k0 * w->stride + key_column(w->shape, kv_head);
    turn(w->cpu->instructions)(tile->keys, key, w->stride, rows, d);
    turn(w->cpu->instructions)(tile->values, key + w->shape->kv_heads * d, w->stride, rows, d);
}

// P and dS of the queries q0 .. q1 - 1 (tokens) of a head and the keys of a tile.
static void tile_gradients(const BackwardWork *w, int64_t head, const KeyTile *tile, int64_t q0, int64_t q1, float *p,
                           float *dp) {
    const AttentionShape *s = w->shape;
    const int64_t rows = q1 - q0, keys = tile->k1 - tile->k0, d = s->head_dim, from = tile->k0 - tile->begin;
    const int32_t columns = (int32_t)round_up(keys, LANES); // whole vectors
    product(false, rows, keys, d, s->scale, w->qkv + q0 * w->stride + head * d, w->stride, tile->keys, TILE, 0, p,
            TILE);
    product(false, rows, keys, d, 1, w->dout + q0 * w->width + head * d, w->width, tile->values, TILE, 0, dp, TILE);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t token = head * s->tokens + q0 + i;
        int64_t first, last;
        attention_visible(q0 - tile->begin, 1, s->window, i, from, from + keys, &first, &last);
        score_gradients(w->cpu->instructions)(p + i * TILE, dp + i * TILE, columns, (int32_t)(first - from),
                                              (int32_t)(last - from), w->lse[token], w->delta[token], s->scale);
    }
}

static int64_t first_key(const AttentionShape *s, int64_t begin, int64_t query) {
    return s->window > 0 && query - s->window + 1 > begin ? query - s->window + 1 : begin;
}

// What one tile adds to the gradients: to dK and dV (fresh: they are set), to dQ (set at the first keys that it sees).
static void backward_tile(const BackwardWork *w, int64_t head, const KeyTile *tile, int64_t q0, int64_t q1, int targets,
                          bool fresh) {
    _Alignas(64) float p[TILE * TILE], dp[TILE * TILE];
    const AttentionShape *s = w->shape;
    const int64_t rows = q1 - q0, keys = tile->k1 - tile->k0, d = s->head_dim, stride = w->stride;
    const int64_t query_at = q0 * stride + head * d;
    const int64_t key_at = tile->k0 * stride + key_column(s, head / (s->heads / s->kv_heads));
    tile_gradients(w, head, tile, q0, q1, p, dp);
    if (targets & ADD_KEYS_VALUES) {
        const float beta = fresh ? 0.0f : 1.0f, *dout = w->dout + q0 * w->width + head * d;
        float *dkey = w->dqkv + key_at, *dvalue = dkey + s->kv_heads * d;
        product(true, keys, d, rows, 1, p, TILE, dout, w->width, beta, dvalue, stride);
        product(true, keys, d, rows, 1, dp, TILE, w->qkv + query_at, stride, beta, dkey, stride);
    }
    if (targets & ADD_QUERIES) {
        const float beta = tile->k0 <= first_key(s, tile->begin, q0) ? 0.0f : 1.0f;
        product(false, rows, d, keys, 1, dp, TILE, w->qkv + key_at, stride, beta, w->dqkv + query_at, stride);
    }
}

// ---- pieces of work ------------------------------------------------------------------------------------------------

static void round_columns(const BackwardWork *w, int64_t first, int64_t last, int64_t column, int64_t count) {
    for (int64_t t = first; t < last; t++) cpu_round(w->cpu, w->dqkv + t * w->stride + column, count);
}

// What the keys of a tile take part in: dK and dV of one key/value head, with ADD_QUERIES dQ of its query heads too.
// Tiles of queries and keys start on the same tokens, so the first tile, on the diagonal, holds every key.
static void add_key_tile(const BackwardWork *w, int64_t kv_head, int64_t begin, int64_t end, int64_t k0, int64_t k1,
                         int targets) {
    _Alignas(64) float keys[HEAD_DIM_LIMIT * TILE], values[HEAD_DIM_LIMIT * TILE];
    const KeyTile tile = {begin, k0, k1, keys, values};
    const AttentionShape *s = w->shape;
    const int64_t group = s->heads / s->kv_heads;
    int64_t last = end; // of the queries that see a key of the tile
    if (s->window > 0 && k1 - 1 + s->window < end) last = k1 - 1 + s->window;
    load_keys(w, kv_head, &tile);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        for (int64_t q0 = k0; q0 < last; q0 += TILE)
            backward_tile(w, head, &tile, q0, q0 + TILE < end ? q0 + TILE : end, targets,
                          head == kv_head * group && q0 == k0);
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
    const int64_t key = key_column(s, kv_head);
    const bool whole = tile.end - tile.begin <= SHORT_SEQUENCE;
    if (whole && tile.first != tile.begin) return;
    const int64_t last = whole ? tile.end : tile.last;
    for (int64_t from = tile.first; from < last; from += TILE)
        add_key_tile(w, kv_head, tile.begin, tile.end, from, from + TILE < last ? from + TILE : last,
                     whole ? ADD_KEYS_VALUES | ADD_QUERIES : ADD_KEYS_VALUES);
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
    _Alignas(64) float keys[HEAD_DIM_LIMIT * TILE], values[HEAD_DIM_LIMIT * TILE];
    for (int64_t from = first_key(s, tile.begin, tile.first); from < tile.last; from += TILE) {
        const KeyTile key_tile = {tile.begin, from, from + TILE < tile.last ? from + TILE : tile.last, keys, values};
        load_keys(w, head / (s->heads / s->kv_heads), &key_tile);
        backward_tile(w, head, &key_tile, tile.first, tile.last, ADD_QUERIES, false);
    }
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

int cpu_attention_products(const Backend *b, int64_t sequence_tokens) {
    (void)b;
    return sequence_tokens <= SHORT_SEQUENCE ? 5 : 7;
}
