// step_costs.c - see step_costs.h.
#include "train/step_costs.h"
#include "model/block.h"
#include "train/flops.h"
#include <math.h>

#define ADAMW_BYTES    12 // read and written per weight: weight 2 + 2, gradient 4, low bits 2 + 2; and m and v
#define MOMENT_MOVES   4  // of AdamW: m and v are read and written
#define GRADIENT_BYTES 4  // and once more the gradient: for the norm, or to set it to zero
#define PRODUCTS       7  // that attention's backward pass executes where 5 are needed; see kernels.h

// AdamW with moments of 2 bytes by the CPU: so many times the seconds of the same with 4 bytes, as measured. The random
// bits of the stochastic rounding cost more there than the bytes that are saved. On a card, where AdamW waits for
// memory, they are taken to cost nothing.
#define HOST_ROUNDING 2.2

// Widths of the model, as numbers of elements per token.
typedef struct Widths {
    double d, q, kv, f, vocabulary;
} Widths;

static Widths widths_of(const ModelConfig *c) {
    return (Widths){(double)c->hidden, (double)c->heads * c->head_dim, (double)c->kv_heads * c->head_dim,
                    (double)c->intermediate, (double)c->vocabulary};
}

// FLOPs per token of a forward pass through a layer's matrices, in the parts that are computed again or not.
static double attention_matrices(const Widths *w) {
    return 2 * (w->d * (w->q + 2 * w->kv) + w->q * w->d);
}

static double gate_up_matrix(const Widths *w) {
    return 4 * w->d * w->f;
}

static double layer_matrices(const Widths *w) {
    return attention_matrices(w) + gate_up_matrix(w) + 2 * w->d * w->f;
}

// FLOPs of one attention product of a micro-batch of full sequences.
static double attention_product(const StepPlan *plan, bool windowed) {
    const ModelConfig *c = plan->config;
    double tokens = (double)plan->tokens, length = fmin((double)plan->sequence_tokens, tokens);
    int layer = 0;
    while (layer + 1 < c->layers && c->windowed[layer] != windowed) layer++;
    return length < 1 ? 0 : attention_product_flops(c, layer, length) * tokens / length;
}

static void layer_costs(StepCosts *costs, const StepPlan *plan, const Rates *rates, const Widths *w) {
    double tokens = (double)plan->tokens, matrices = tokens * layer_matrices(w);
    // elementwise bytes: norms and residuals, SwiGLU, RoPE
    double forward_bytes = tokens * (16 * w->d + 6 * w->f + 4 * (w->q + w->kv));
    double backward_bytes = tokens * (16 * w->d + 10 * w->f + 4 * (w->q + w->kv) + 4 * w->q);
    double mlp_again = tokens * gate_up_matrix(w), norm_bytes = tokens * 4 * w->d;
    for (int windowed = 0; windowed < 2; windowed++) {
        double product = attention_product(plan, windowed);
        double attention_again = tokens * attention_matrices(w) + 2 * product;
        double *backward = costs->backward[windowed];
        costs->forward[windowed] = (matrices + 2 * product) / rates->flops + forward_bytes / rates->memory;
        backward[KEEP_ALL] = (matrices + PRODUCTS * product) / rates->flops + backward_bytes / rates->memory;
        backward[KEEP_ATTENTION] = backward[KEEP_ALL] + mlp_again / rates->flops + norm_bytes / rates->memory;
        backward[KEEP_INPUT] =
            backward[KEEP_ALL] + (mlp_again + attention_again) / rates->flops + forward_bytes / rates->memory;
    }
    costs->weight_gradients = matrices / rates->flops;
}

// E and H. In the head a logit is written, made a gradient in place and read again.
static void end_costs(StepCosts *costs, const StepPlan *plan, const Rates *rates, const Widths *w) {
    double tokens = (double)plan->tokens, product = 2 * tokens * w->d * w->vocabulary;
    costs->embed_forward = tokens * 4 * w->d / rates->memory;
    costs->embed_backward = tokens * 10 * w->d / rates->memory;
    costs->head = (plan->training ? 3 : 1) * product / rates->flops +
                  (plan->training ? 6 : 2) * tokens * w->vocabulary / rates->memory;
}

static double rows_of_batch(const StepPlan *plan) {
    double vocabulary = (double)plan->config->vocabulary;
    return plan->config->tied ? vocabulary : fmin(vocabulary, (double)plan->tokens * (double)plan->batches);
}

// Bytes per weight that AdamW takes the time of.
static double adamw_bytes(const StepPlan *plan, bool on_host) {
    double wide = ADAMW_BYTES + MOMENT_MOVES * sizeof(float);
    if (plan->moment_bytes != sizeof(bf16)) return wide;
    return on_host ? HOST_ROUNDING * wide : ADAMW_BYTES + MOMENT_MOVES * sizeof(bf16);
}

static void update_costs(StepCosts *costs, const StepPlan *plan, const Rates *rates, const BlockLayout *layout) {
    double layer = (double)layout->layer.elements, head = (double)layout->head_elements;
    double embedding = (double)layout->embedding_elements;
    double rows = rows_of_batch(plan) * (double)plan->config->hidden;
    double gradient = plan->embedding_on_host ? rows : embedding;
    double device = adamw_bytes(plan, false) / rates->memory, host = adamw_bytes(plan, true) / rates->host;
    costs->embedding_gradient = GRADIENT_BYTES * gradient / rates->memory;
    costs->layer_gradient = GRADIENT_BYTES * layer / rates->memory;
    costs->head_gradient = GRADIENT_BYTES * head / rates->memory;
    costs->embedding_update = device * embedding;
    costs->layer_update = device * layer;
    costs->head_update = device * head;
    costs->rows_host = host * rows;
    costs->rest_host = host * fmax(0, embedding - rows);
    costs->layer_host = host * layer;
    costs->head_host = host * head;
    costs->rows_up = sizeof(bf16) * rows / rates->to_device;
    costs->rows_down = sizeof(float) * rows / rates->to_host;
    costs->layer_up = sizeof(bf16) * layer / rates->to_device;
    costs->head_up = sizeof(bf16) * head / rates->to_device;
    costs->layer_gradient_down = sizeof(float) * layer / rates->to_host;
    costs->layer_gradient_up = sizeof(float) * layer / rates->to_device;
    costs->head_gradient_down = sizeof(float) * head / rates->to_host;
    costs->head_gradient_up = sizeof(float) * head / rates->to_device;
}

static void streaming_costs(StepCosts *costs, const StepPlan *plan, const Rates *rates, const BlockLayout *layout) {
    double weights = sizeof(bf16) * (double)layout->layer.elements;
    double input = sizeof(bf16) * (double)plan->tokens * (double)plan->config->hidden;
    costs->load_link = weights / rates->to_device;
    costs->load_disk = plan->streamed_from_file ? weights / rates->disk : 0;
    costs->load = fmax(costs->load_link, costs->load_disk); // piece by piece
    costs->store = weights / rates->to_host;
    costs->store_disk = costs->load_disk;
    costs->input_down = input / rates->to_host;
    costs->input_up = input / rates->to_device;
}

void step_costs(StepCosts *costs, const StepPlan *plan, const Rates *rates) {
    BlockLayout layout;
    Error error;
    *costs = (StepCosts){0};
    if (!block_layout(&layout, plan->config, &error)) return; // no such model has been read
    Widths w = widths_of(plan->config);
    layer_costs(costs, plan, rates, &w);
    end_costs(costs, plan, rates, &w);
    update_costs(costs, plan, rates, &layout);
    streaming_costs(costs, plan, rates, &layout);
}

LayerKeep layer_keep_of(const StepPlan *plan, int l) {
    int above = plan->config->layers - 1 - l;
    return above < plan->keep_all                          ? KEEP_ALL
           : above < plan->keep_all + plan->keep_attention ? KEEP_ATTENTION
                                                           : KEEP_INPUT;
}

// ---- what hides the link ----

// The mean seconds of a micro-batch in a layer, less what its input takes of the link up.
static double hiding_seconds(const StepCosts *costs, const StepPlan *plan, bool backward) {
    const ModelConfig *c = plan->config;
    double seconds = 0;
    for (int l = 0; l < c->layers; l++)
        seconds += backward ? costs->backward[c->windowed[l]][layer_keep_of(plan, l)] : costs->forward[c->windowed[l]];
    return seconds / c->layers - (backward && plan->inputs_on_host ? costs->input_up : 0);
}

int64_t tokens_to_hide_link(const StepCosts *costs, const StepPlan *plan) {
    if (plan->streamed <= (plan->training ? 2 : 0)) return 0; // two stay in the buffers
    double seconds = hiding_seconds(costs, plan, false), tokens = (double)plan->tokens;
    if (plan->training) seconds = fmin(seconds, hiding_seconds(costs, plan, true));
    double needed = costs->load * plan->streamed / plan->config->layers * tokens / seconds;
    return seconds > 0 && needed < 1e18 ? (int64_t)ceil(needed) : INT64_MAX;
}
