// batch.c - see batch.h.
#include "data/batch.h"
#include <stdlib.h>
#include <string.h>

void dataset_free(Dataset *dataset) {
    free(dataset->starts);
    free(dataset->ids);
    free(dataset->trained);
    free(dataset->sequence_starts);
    *dataset = (Dataset){0};
}

int64_t dataset_sequence_tokens(const Dataset *dataset, int64_t sequence) {
    const int64_t *examples = dataset->sequence_starts + sequence;
    return dataset->starts[examples[1]] - dataset->starts[examples[0]];
}

bool micro_batch_create(MicroBatch *batch, int64_t tokens, Error *error) {
    *batch = (MicroBatch){.tokens = tokens};
    int32_t **arrays[] = {&batch->ids,  &batch->positions,  &batch->starts,     &batch->target_rows, &batch->labels,
                          &batch->rows, &batch->row_starts, &batch->row_tokens, &batch->spare};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i] = calloc((size_t)tokens + 1, sizeof **arrays[i]);
        if (*arrays[i]) continue;
        micro_batch_free(batch);
        return error_memory(error, "a micro-batch", ((size_t)tokens + 1) * sizeof **arrays[i]);
    }
    return true;
}

void micro_batch_free(MicroBatch *batch) {
    free(batch->ids);
    free(batch->positions);
    free(batch->starts);
    free(batch->target_rows);
    free(batch->labels);
    free(batch->rows);
    free(batch->row_starts);
    free(batch->row_tokens);
    free(batch->spare);
    *batch = (MicroBatch){0};
}

void micro_batch_clear(MicroBatch *batch) {
    memset(batch->ids, 0, (size_t)batch->tokens * sizeof *batch->ids);
    memset(batch->positions, 0, (size_t)batch->tokens * sizeof *batch->positions);
    batch->used = batch->targets = 0;
    batch->sequences = batch->row_count = 0;
    batch->starts[0] = batch->row_starts[0] = 0;
}

// Appends `count` tokens that attention is confined to. The token at t has a label when the one at t + 1 is a target.
static void add_example(MicroBatch *batch, const int32_t *ids, const uint8_t *trained, int64_t count) {
    int32_t first = (int32_t)batch->used;
    memcpy(batch->ids + first, ids, (size_t)count * sizeof *ids);
    for (int32_t t = 0; t < count; t++) {
        batch->positions[first + t] = t;
        if (t + 1 == count || !trained[t + 1]) continue;
        batch->target_rows[batch->targets] = first + t;
        batch->labels[batch->targets++] = ids[t + 1];
    }
    batch->used += count;
    batch->starts[++batch->sequences] = (int32_t)batch->used;
}

bool micro_batch_add(MicroBatch *batch, const Dataset *dataset, int64_t sequence) {
    if (dataset_sequence_tokens(dataset, sequence) > batch->tokens - batch->used) return false;
    for (int64_t e = dataset->sequence_starts[sequence]; e < dataset->sequence_starts[sequence + 1]; e++) {
        int64_t start = dataset->starts[e];
        add_example(batch, dataset->ids + start, dataset->trained + start, dataset->starts[e + 1] - start);
    }
    return true;
}

#define DIGIT_BITS 11 // ids are sorted by three digits of 11 bits
#define DIGITS     (1 << DIGIT_BITS)

// One stable counting sort of token indices by a digit of their ids.
static void sort_by_digit(const int32_t *ids, int64_t count, int shift, const int32_t *from, int32_t *to) {
    int32_t places[DIGITS + 1] = {0};
    for (int64_t i = 0; i < count; i++) places[((uint32_t)ids[i] >> shift) % DIGITS + 1]++;
    for (int digit = 0; digit < DIGITS; digit++) places[digit + 1] += places[digit];
    for (int64_t i = 0; i < count; i++) to[places[((uint32_t)ids[from[i]] >> shift) % DIGITS]++] = from[i];
}

void micro_batch_finish(MicroBatch *batch) {
    int64_t used = batch->used;
    for (int32_t t = 0; t < used; t++) batch->row_tokens[t] = t;
    sort_by_digit(batch->ids, used, 0, batch->row_tokens, batch->spare);
    sort_by_digit(batch->ids, used, DIGIT_BITS, batch->spare, batch->row_tokens);
    sort_by_digit(batch->ids, used, 2 * DIGIT_BITS, batch->row_tokens, batch->spare);
    memcpy(batch->row_tokens, batch->spare, (size_t)used * sizeof *batch->spare);
    batch->row_count = 0;
    for (int32_t i = 0; i < used; i++) {
        int32_t id = batch->ids[batch->row_tokens[i]];
        if (i > 0 && id == batch->rows[batch->row_count - 1]) continue;
        batch->row_starts[batch->row_count] = i;
        batch->rows[batch->row_count++] = id;
    }
    batch->row_starts[batch->row_count] = (int32_t)used;
}

int64_t micro_batches_needed(const Dataset *dataset, const int64_t *sequences, int64_t count, int64_t tokens) {
    int64_t batches = 0, room = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t length = dataset_sequence_tokens(dataset, sequences[i]);
        if (batches == 0 || length > room) {
            batches++;
            room = tokens;
        }
        room -= length;
    }
    return batches;
}
