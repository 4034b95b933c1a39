// passes.h - the forward and backward pass of one sweep: micro-batches that go through each block together.
//
// One set of buffers serves training and evaluation; all are taken from the device arena before step 0. Gradients and
// the loss are sums over micro-batches in ascending order, so the size of a sweep changes no bit.
#pragma once
#include "data/batch.h"
#include "model/head.h"
#include "model/layer.h"
#include "model/store.h"
#include "train/phases.h"

// One micro-batch's indices in device memory, with the host's knowledge of their extents.
typedef struct DeviceBatch {
    int64_t tokens;       // T of this micro-batch: used tokens rounded up to the backend's multiple
    int64_t targets;      // rows with a label
    int64_t row_count;    // distinct ids
    int64_t pad_row;      // where the padding token is among them; row_count when it did not occur
    LayerTokens layer;    // positions, starts, sequences
    int32_t *ids;         // [T]
    int32_t *positions;   // [T], as in layer
    int32_t *starts;      // [sequences + 1], as in layer
    int32_t *target_rows; // [targets]
    int32_t *labels;      // [targets]
    int32_t *rows;        // [row_count], see MicroBatch
    int32_t *row_starts;  // [row_count + 1]
    int32_t *row_tokens;  // [used]
} DeviceBatch;

// What the plan decided about the passes.
typedef struct PassSizes {
    int64_t tokens;    // capacity of a micro-batch
    int64_t sweep;     // micro-batches of a sweep
    int64_t positions; // rows of the rotary tables
    int64_t chunk;     // rows of logits at a time
    LayerKeep keep;    // what each layer keeps between forward and backward
} PassSizes;

typedef struct Passes {
    Backend *backend;
    const ModelConfig *config; // borrowed
    BlockStore *store;         // borrowed
    PassSizes sizes;
    float *cosine, *sine; // [positions, D / 2]
    LayerContext layer;   // shares its memory with head: one or the other is in use
    HeadContext head;
    DeviceBatch *batches;   // [sweep]
    LayerActivations *kept; // [sweep * L]: layer l of micro-batch m at m * L + l
    Activation **last;      // [sweep]: the last layer's output, then dx: [T, d]
    double *loss;           // device: summed loss of the micro-batches since passes_begin
    PhaseClock *clock;      // borrowed; set by who measures, else NULL
} Passes;

// Takes every buffer. Fails on overflow or without memory for the tables; measuring arenas are fine. End with
// passes_free.
bool passes_create(Passes *passes, Backend *backend, const ModelConfig *config, BlockStore *store,
                   const PassSizes *sizes, Arena *device, Error *error);
void passes_free(Passes *passes);
// Fills the rotary tables; once, on real memory. Needs host memory for a moment.
bool passes_fill_tables(Passes *passes, Error *error);

// Sets the summed loss to 0.
void passes_begin(Passes *passes);

// Where a sweep's gradients go.
typedef struct GradientSink {
    float *const *gradients; // [blocks] device memory, added to; NULL for a frozen block; E and H must have one
    // Called when the sweep has added all it has to a block's gradient: H first, then active layers downward, then E.
    // From then on the sweep neither reads the block's weights nor touches its gradient. NULL: not wanted.
    void (*complete)(void *context, int block);
    void *context;
} GradientSink;

// Forward and backward of `count` <= sweep micro-batches; the gradient of scale * (summed loss) goes to the sink.
void passes_train(Passes *passes, const MicroBatch *batches, int64_t count, float scale, const GradientSink *sink);
// Forward only; adds to the summed loss.
void passes_evaluate(Passes *passes, const MicroBatch *batches, int64_t count);
