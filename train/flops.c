// flops.c - see flops.h.
#include "train/flops.h"

// A linear layer [out, in] on `tokens`: forward and input gradient `count` times, weight gradient `trained` times.
static int add_linear(GemmWork *works, int n, int64_t tokens, int64_t out, int64_t in, int64_t count, int64_t trained) {
    works[n++] = (GemmWork){GEMM_FORWARD, tokens, out, in, count};
    works[n++] = (GemmWork){GEMM_BACKWARD_INPUT, tokens, in, out, count};
    if (trained) works[n++] = (GemmWork){GEMM_BACKWARD_WEIGHT, out, in, tokens, trained};
    return n;
}

int gemm_works(const ModelConfig *config, int active, const MicroBatch *batch, int64_t chunk,
               GemmWork works[GEMM_WORKS_MAX]) {
    int64_t d = config->hidden, f = config->intermediate, q = (int64_t)config->heads * config->head_dim;
    int64_t kv = (int64_t)config->kv_heads * config->head_dim, T = batch->used, L = config->layers;
    int n = 0;
    n = add_linear(works, n, T, q + 2 * kv, d, L, active);
    n = add_linear(works, n, T, d, q, L, active);
    n = add_linear(works, n, T, 2 * f, d, L, active);
    n = add_linear(works, n, T, d, f, L, active);
    int64_t chunks = batch->targets / chunk, rest = batch->targets % chunk;
    if (chunks) n = add_linear(works, n, chunk, config->vocabulary, d, chunks, chunks);
    if (rest) n = add_linear(works, n, rest, config->vocabulary, d, 1, 1);
    return n;
}

int gemm_works_again(const ModelConfig *config, const MicroBatch *batch, const PassSizes *sizes,
                     GemmWork works[GEMM_WORKS_MAX]) {
    int64_t d = config->hidden, f = config->intermediate, q = (int64_t)config->heads * config->head_dim;
    int64_t kv = (int64_t)config->kv_heads * config->head_dim, T = batch->used, L = config->layers;
    int64_t mlps = L - sizes->keep_all, attentions = mlps - sizes->keep_attention;
    int n = 0;
    if (attentions > 0) {
        works[n++] = (GemmWork){GEMM_FORWARD, T, q + 2 * kv, d, attentions};
        works[n++] = (GemmWork){GEMM_FORWARD, T, d, q, attentions};
    }
    if (mlps > 0) works[n++] = (GemmWork){GEMM_FORWARD, T, 2 * f, d, mlps};
    return n;
}

double gemm_flops(const GemmWork *work) {
    return 2.0 * (double)work->m * (double)work->n * (double)work->k * (double)work->count;
}

double attention_product_flops(const ModelConfig *config, int layer, double tokens) {
    double window = config->windowed[layer] ? config->window : 0;
    double seen = window > 0 && window < tokens ? window : tokens;
    double pairs = seen * (seen + 1) / 2 + (tokens - seen) * seen;
    return 2 * pairs * (double)config->heads * (double)config->head_dim;
}

double attention_layer_flops(const ModelConfig *config, const MicroBatch *batch, int layer) {
    double flops = 0;
    for (int32_t s = 0; s < batch->sequences; s++)
        flops += (2 + 5) * attention_product_flops(config, layer, batch->starts[s + 1] - batch->starts[s]);
    return flops;
}

double attention_flops(const ModelConfig *config, const MicroBatch *batch) {
    double flops = 0;
    for (int layer = 0; layer < config->layers; layer++) flops += attention_layer_flops(config, batch, layer);
    return flops;
}

double attention_flops_executed(const ModelConfig *config, const MicroBatch *batch, const PassSizes *sizes,
                                const Backend *b) {
    double flops = 0;
    for (int layer = 0; layer < config->layers; layer++) {
        int forwards = pass_keep(sizes, config->layers, layer) == KEEP_INPUT ? 2 : 1;
        for (int32_t s = 0; s < batch->sequences; s++) {
            int64_t tokens = batch->starts[s + 1] - batch->starts[s];
            int products = 2 * forwards + b->attention_products(b, tokens);
            flops += products * attention_product_flops(config, layer, (double)tokens);
        }
    }
    return flops;
}
