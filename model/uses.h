// uses.h - what the memory of a run is for: arenas count by it, the plan shows it.
#pragma once

typedef enum {
    USE_LAYERS,         // bf16 weights of decoder layers
    USE_STREAM_BUFFERS, // two layers on their way, and what weights pass through
    USE_EMBEDDING,      // E's weights
    USE_HEAD,           // H's weights
    USE_MOMENTS,        // AdamW's m and v
    USE_LOW_BITS,       // the low 16 bits of the fp32 masters
    USE_MASTERS,        // bf16 weights beside a state in host memory
    USE_GRADIENTS,      // of H and the active layers, and of a tied E
    USE_ROWS,           // of E that occur in an optimizer batch: gradient, weights
    USE_KEPT,           // what layers keep between forward and backward, and the stream of activations
    USE_WORK,           // of one layer or the head at work
    USE_SMALL,          // indices, rotary tables, norms, reports
    USE_COUNT
} MemoryUse;
