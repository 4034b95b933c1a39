// inputs.h - the stream of activations through the layers, and each layer's input until its backward pass.
//
// The inputs of all layers lie side by side on the device; or they wait in pinned host memory: copied out behind each
// layer's forward pass, and back, two ahead, for its backward pass; then the device holds one activation per
// micro-batch of the sweep and two more, whatever the depth. Without a backward pass nothing is kept.
//
// The calls follow the passes: inputs_embedded for each micro-batch; for l upward and m upward inputs_forward, the
// layer, inputs_forward_done; inputs_turn; for l downward and m upward inputs_backward, the layer,
// inputs_backward_done.
#pragma once
#include "kernels/arena.h"

typedef enum { INPUTS_ON_DEVICE, INPUTS_ON_HOST, INPUTS_DROPPED } InputsPlace;

// One activation [T, d] on the device that inputs pass through.
typedef struct InputBuffer {
    Activation *memory;
    Event *read;  // in the compute stream: going back, its layer is done
    Event *moved; // in a copying stream: what was there is on the host, or what was to come is here
    bool moving;  // `moved` has been recorded since the compute stream last waited for it
} InputBuffer;

typedef struct Inputs {
    Backend *backend; // borrowed
    InputsPlace place;
    int layers;
    int64_t sweep;    // micro-batches
    size_t row_bytes; // of a token's activation
    int64_t count;    // micro-batches of the sweep under way
    bool training;    // of the sweep under way: inputs are kept
    Activation *
        *kept; // [sweep * layers]: layer l's of micro-batch m at m * layers + l; device or pinned memory; or none
    // one for each micro-batch: its activation between two layers, then dx; and two more, which take turns
    InputBuffer *buffers; // [sweep + 2], without `kept` on the device [sweep + 1], else [sweep]
    size_t *bytes;        // [sweep]: of its activation, as far as it has tokens
    int *current;         // [sweep]: its buffer; with INPUTS_ON_DEVICE only after the last layer
    int spare[2];         // buffers that are free, the one that is longest first
    Stream *out, *back;   // INPUTS_ON_HOST
    Event *all_out;       // in `out`: every input of the sweep is in host memory
    Event *all_made;      // in the compute stream: a layer's inputs of all micro-batches have been computed
    int64_t fetched;      // going back: inputs whose copy has been queued, in order of use
} Inputs;

// Takes the memory for sweeps of up to `sweep` micro-batches of `tokens` x `hidden` elements. Measuring arenas are
// fine; their overflow flags tell of failure. false without memory for the tables. End with inputs_free.
bool inputs_create(Inputs *inputs, Backend *backend, InputsPlace place, int layers, int64_t sweep, int64_t tokens,
                   int64_t hidden, Arena *device, Arena *pinned, Error *error);
// Makes streams and events; once, on real memory.
bool inputs_open(Inputs *inputs, Error *error);
void inputs_free(Inputs *inputs); // also of a zeroed one

// A sweep of `count` micro-batches begins; training: a backward pass follows.
void inputs_begin(Inputs *inputs, int64_t count, bool training);
// Where the embedding of micro-batch m goes, which has so many tokens.
Activation *inputs_embedded(Inputs *inputs, int64_t m, int64_t tokens);
// The input of layer l, and where its output goes. `in` is to be left as it is.
void inputs_forward(Inputs *inputs, int l, int64_t m, Activation **in, Activation **out);
// The layer has been queued.
void inputs_forward_done(Inputs *inputs, int l, int64_t m);
// The last layer's output; from then on the gradient, which goes down the layers in its place.
Activation *inputs_last(const Inputs *inputs, int64_t m);
// The forward pass has been queued: inputs begin to come back.
void inputs_turn(Inputs *inputs);
// The input of layer l, ready on the compute stream.
Activation *inputs_backward(Inputs *inputs, int l, int64_t m);
// The layer has been queued.
void inputs_backward_done(Inputs *inputs, int l, int64_t m);
