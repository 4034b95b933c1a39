// batch_rows.h - the rows of E that an optimizer batch touches.
//
// As the input table E is needed by few rows in an optimizer batch, and only these get a gradient: it is kept compact,
// one row for each distinct token in ascending order. `places` tells for every token where its row is. With E on the
// host the weights of these rows, too, are gathered and brought to the device before each step.
//
// A tied E gets a gradient of all its rows from the head. That of the input is summed by itself all the same, and added
// when the last sweep is through: added sweep by sweep, the order of the sums would be that of the sweeps.
#pragma once
#include "data/batch.h"
#include "kernels/arena.h"
#include "model/config.h"

// The rows of one optimizer batch.
typedef struct RowSet {
    int32_t *places; // [vocabulary] pinned: the row's number among `rows`, -1 when it is not among them
    int32_t *rows;   // [capacity] distinct tokens, ascending
    int64_t count;
} RowSet;

typedef struct BatchRows {
    Backend *backend; // borrowed
    int64_t vocabulary;
    int64_t columns;  // d
    int64_t capacity; // rows at most
    bool on_host;     // E is
    bool tied;        // E is
    RowSet sets[2];   // of the batch that is current and of the one before, in turn
    int current;
    int32_t *places; // [vocabulary] device: the current places; without on_host
    float *gradient; // [capacity, d] device: the current rows' gradient as input; with tied
    bf16 *table;     // [capacity, d] device: weights of the current rows; with on_host
    bf16 *gathered;  // [capacity, d] pinned: the same on their way
    Event *sent;     // `gathered` has been copied
    bool sent_once;  // `sent` has been recorded
    int32_t *others; // [vocabulary] host: room for the rows that are not among the current ones; with on_host
} BatchRows;

// Takes the memory; measuring arenas are fine, their overflow flags tell of failure. A tied E is not on the host.
void batch_rows_take(BatchRows *rows, Backend *backend, const ModelConfig *config, int64_t capacity, bool on_host,
                     Arena *device, Arena *pinned, Arena *host);
// Makes the event; once, on real memory. End with batch_rows_free.
bool batch_rows_open(BatchRows *rows, Error *error);
void batch_rows_free(BatchRows *rows); // also of a zeroed one

// Makes the rows of these micro-batches current. What was current before stays readable as the other set, whose memory
// the call after the next overwrites. Fails when they are more than capacity.
bool batch_rows_find(BatchRows *rows, const MicroBatch *batches, int64_t count, Error *error);
const RowSet *batch_rows_current(const BatchRows *rows);
// Queues the current places to the device, for AdamW or batch_rows_add_gradient there.
void batch_rows_send_places(BatchRows *rows);
// Gathers the current rows of E's weights [vocabulary, d] (host memory) and queues them to the device.
void batch_rows_send_weights(BatchRows *rows, const bf16 *weights);
// With tied: sets the gradient of the current rows to 0; adds it to E's [vocabulary, d] once it is complete. Both
// queued.
void batch_rows_clear_gradient(BatchRows *rows);
void batch_rows_add_gradient(BatchRows *rows, float *gradient);
// Fills `others` with the rows that are not current; returns how many.
int64_t batch_rows_others(BatchRows *rows);
