// step_costs.h - how long the pieces of an optimizer step take, each by itself on the resource that does it.
#pragma once
#include "model/layer.h"
#include "train/estimate.h"

// Seconds. FLOPs and bytes as in docs/step.md's passes: what is executed, recomputation included, on full
// micro-batches.
typedef struct StepCosts {
    // on the device, of one micro-batch
    double embed_forward, embed_backward;
    double forward[2];                // of a layer; [1]: of one with a sliding window
    double backward[2][KEEP_ALL + 1]; // the same of a frozen one, by what it has kept
    double weight_gradients;          // what an active layer's backward takes more
    double head;                      // forward and backward, or forward alone
    // on the device, of one step: reading or zeroing a gradient for its norm, and AdamW
    double embedding_gradient, layer_gradient, head_gradient;
    double embedding_update, layer_update, head_update;
    // over the link
    double load;                                   // a layer's weights up, from the scratch file where they lie there
    double load_link, load_disk;                   // how long that keeps link and disk busy
    double store, store_disk;                      // a layer's weights down, and to the file
    double input_down, input_up;                   // a layer's input, of one micro-batch
    double rows_up, rows_down;                     // E's rows of an optimizer batch, their gradient
    double layer_up, head_up;                      // the weights of a block whose state is on the host
    double layer_gradient_down, layer_gradient_up; // fp32
    double head_gradient_down, head_gradient_up;
    // by the CPU
    double rows_host, rest_host; // AdamW on E: the rows of the next batch, the others
    double layer_host, head_host;
} StepCosts;

// What layer l keeps.
LayerKeep layer_keep_of(const StepPlan *plan, int l);

void step_costs(StepCosts *costs, const StepPlan *plan, const Rates *rates);

// Tokens per sweep from which on the loads of streamed layers hide behind the computing; see Estimate.
int64_t tokens_to_hide_link(const StepCosts *costs, const StepPlan *plan);
