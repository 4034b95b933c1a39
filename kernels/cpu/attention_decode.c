// attention_decode.c - one new token against the keys and values kept of its sequence.
#include "kernels/cpu/attention.h"

typedef struct DecodeWork {
    CpuBackend *cpu;
    float *out;                 // [H, D]
    const float *q;             // [H, D]
    const float *keys, *values; // [length, K D]
    int64_t length;
    int group; // query heads of a key/value head
    int kv_heads, head_dim, window;
    float scale;
} DecodeWork;

// The query heads of one key/value head are the rows; all of them see the same keys.
static void decode_head(void *context, int64_t kv_head, int worker) {
    (void)worker;
    const DecodeWork *w = context;
    const int64_t d = w->head_dim;
    for (int row = 0; row < w->group; row += QUERY_TILE) {
        const int64_t head = kv_head * w->group + row;
        AttentionRows rows = {
            .queries = w->q + head * d,
            .query_stride = d,
            .keys = w->keys + kv_head * d,
            .values = w->values + kv_head * d,
            .kv_stride = w->kv_heads * d,
            .out = w->out + head * d,
            .out_stride = d,
            .rows = w->group - row < QUERY_TILE ? w->group - row : QUERY_TILE,
            .head_dim = w->head_dim,
            .window = w->window,
            .key_count = w->length,
            .diagonal = w->length - 1,
            .scale = w->scale,
        };
        attention_rows(w->cpu, &rows);
    }
}

void cpu_attention_decode(Backend *b, Activation *out, const Activation *q, const Activation *keys,
                          const Activation *values, int64_t length, int heads, int kv_heads, int head_dim, int window,
                          float scale, Stream *stream) {
    (void)stream;
    DecodeWork work = {cpu_backend(b),   out,      q,        keys,   values, length,
                       heads / kv_heads, kv_heads, head_dim, window, scale};
    thread_pool_run(b->threads, kv_heads, decode_head, &work);
}
