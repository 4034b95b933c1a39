// passes.h - the forward and backward pass of one sweep: micro-batches that go through each block together.
//
// One set of buffers serves training and evaluation; all are taken from the device arena before step 0. Gradients and
// the loss are sums over micro-batches in ascending order, so the size of a sweep changes no bit.
#pragma once
#include "model/head.h"
#include "model/store.h"
#include "train/inputs.h"
#include "train/phases.h"
#include "train/upload.h"

// What the plan decided about the passes.
typedef struct PassSizes {
    int64_t tokens;     // capacity of a micro-batch
    int64_t sweep;      // micro-batches of a sweep
    int64_t positions;  // rows of the rotary tables
    int64_t chunk;      // rows of logits at a time
    int64_t rows;       // distinct tokens of an optimizer batch, and of a sweep, at most
    int keep_all;       // so many of the top layers keep all that their backward pass needs,
    int keep_attention; // so many below them all but the MLP's intermediates; the others their input alone
    InputsPlace inputs; // where layer inputs wait for the backward pass
} PassSizes;

// What layer l of `layers` keeps.
LayerKeep pass_keep(const PassSizes *sizes, int layers, int l);
// Every layer keeps the same.
void pass_keep_everywhere(PassSizes *sizes, int layers, LayerKeep keep);

typedef struct Passes {
    Backend *backend;
    const ModelConfig *config; // borrowed
    BlockStore *store;         // borrowed
    PassSizes sizes;
    float *cosine, *sine; // [positions, D / 2]
    LayerContext layer;   // shares its memory with head: one or the other is in use
    HeadContext head;
    Upload upload;
    Inputs inputs;
    const DeviceBatch *batches; // [sweep] of the sweep that is being queued
    LayerActivations *kept;     // [sweep * L]: layer l of micro-batch m at m * L + l; inputs are in `inputs`
    double *loss;               // device: summed loss of the micro-batches since passes_begin
    PhaseClock *clock;          // borrowed; set by who measures, else NULL
    // Only some rows of E count: places[id] is the row of `table` (when E is on the host) and of the gradient of
    // E as the input table (when it is compact) that stands for the token. NULL: tables with all rows. Borrowed; set
    // before passes are queued.
    const int32_t *places; // [V]
    const bf16 *table;     // device memory: rows of E's weights
} Passes;

// Takes every buffer. Fails on overflow or without memory for the tables; measuring arenas are fine. End with
// passes_free.
bool passes_create(Passes *passes, Backend *backend, const ModelConfig *config, BlockStore *store,
                   const PassSizes *sizes, Arena *device, Arena *pinned, Error *error);
void passes_free(Passes *passes);
// Fills the rotary tables and opens the upload; once, on real memory. Needs host memory for a moment.
bool passes_prepare(Passes *passes, Error *error);

// Sets the summed loss to 0.
void passes_begin(Passes *passes);

// Where a sweep's gradients go.
typedef struct GradientSink {
    float *const *gradients; // [blocks] device memory, added to; NULL for a frozen block; E and H must have one
    float *embedding;        // E's gradient as the input table, added to, with the rows that Passes.places says or all
                             // of them; NULL: gradients[0], which with tied embeddings has the head's gradient too
    // Called before anything is added to a block's gradient. NULL: not wanted.
    void (*begin)(void *context, int block);
    // Called when the sweep has added all it has to a block's gradient: H first, then active layers downward, then E.
    // From then on the sweep neither reads the block's weights nor touches its gradient. NULL: not wanted.
    void (*complete)(void *context, int block);
    void *context;
} GradientSink;

// Queues forward and backward of `count` <= sweep micro-batches; the gradient of scale * (summed loss) goes to the
// sink. Waits for nothing but an upload buffer; the micro-batches are the caller's again on return.
void passes_train(Passes *passes, const MicroBatch *batches, int64_t count, float scale, const GradientSink *sink);
// The same without the backward pass; adds to the summed loss.
void passes_evaluate(Passes *passes, const MicroBatch *batches, int64_t count);
