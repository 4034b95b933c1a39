// batch.h - examples as tokens, and the micro-batches that an optimizer step is cut into.
#pragma once
#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

// All examples of a data set, tokenised, laid end to end. A sequence is what an optimizer batch counts: one example,
// or, with packing, as many as fit cutoff_len. Attention is confined to each example in either case.
typedef struct Dataset {
    int64_t count;     // examples
    int64_t *starts;   // [count + 1]: example e is tokens starts[e] .. starts[e + 1] - 1
    int32_t *ids;      // [starts[count]]
    uint8_t *trained;  // [starts[count]]: 1 when the token is a target
    int64_t sequences; // sequences
    int64_t
        *sequence_starts; // [sequences + 1]: sequence s is examples sequence_starts[s] .. sequence_starts[s + 1] - 1
    int64_t longest;      // tokens of the longest sequence
    int64_t targets;      // trained tokens that have a token of their example before them
} Dataset;

void dataset_free(Dataset *dataset);
// Tokens of one sequence.
int64_t dataset_sequence_tokens(const Dataset *dataset, int64_t sequence);

// One micro-batch: whole sequences end to end in a fixed capacity of tokens. All arrays are owned by the micro-batch.
typedef struct MicroBatch {
    int64_t tokens;       // capacity T; the tail beyond used has id 0, position 0 and ignored labels
    int64_t used;         // tokens of real examples
    int32_t sequences;    // runs of tokens that attention is confined to: the examples of its sequences
    int64_t targets;      // labels that are not ignored
    int32_t *ids;         // [T]
    int32_t *positions;   // [T], from 0 in each run
    int32_t *starts;      // [sequences + 1] first token of each run, then used (room for T + 1)
    int32_t *target_rows; // [targets] tokens with a label, ascending (room for T)
    int32_t *labels;      // [targets] the label of each: the next token's id (room for T)
    // the tokens grouped by id, for the embedding's gradient; the tail is left out
    int32_t row_count;   // distinct ids
    int32_t *rows;       // [row_count], ascending (room for T)
    int32_t *row_starts; // [row_count + 1] (room for T + 1)
    int32_t *row_tokens; // [used] token indices, ascending within a row (room for T)
    int32_t *spare;      // [T] what sorting needs
} MicroBatch;

// tokens: the capacity, 1 .. INT32_MAX - 1. false when memory runs out.
bool micro_batch_create(MicroBatch *batch, int64_t tokens, Error *error);
void micro_batch_free(MicroBatch *batch);
// Empties it, then appends sequences with micro_batch_add until that returns false (no room); then micro_batch_finish,
// which makes the groups by id.
void micro_batch_clear(MicroBatch *batch);
bool micro_batch_add(MicroBatch *batch, const Dataset *dataset, int64_t sequence);
void micro_batch_finish(MicroBatch *batch);

// How many micro-batches of `tokens` capacity the given sequences need when each goes, in order, into the last
// micro-batch if it has room and else opens a new one. sequences: [count] indices; none is longer than tokens.
int64_t micro_batches_needed(const Dataset *dataset, const int64_t *sequences, int64_t count, int64_t tokens);
