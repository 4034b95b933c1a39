// dataset_builder.h - a Dataset that grows by one example at a time.
#pragma once
#include "data/batch.h"

typedef struct DatasetBuilder {
    Dataset dataset;          // valid but for its sequences
    int64_t example_capacity; // room in starts, less one
    int64_t token_capacity;   // room in ids and trained
} DatasetBuilder;

// Appends an example of count tokens. false when memory runs out; the builder is then as it was.
bool dataset_builder_add(DatasetBuilder *builder, const int32_t *ids, const uint8_t *trained, int64_t count,
                         Error *error);
// Gives what was built to the caller, each example a sequence of its own, and empties the builder, also on failure.
bool dataset_builder_finish(DatasetBuilder *builder, Dataset *dataset, Error *error);
void dataset_builder_free(DatasetBuilder *builder); // throws away what was built

// Copies the given examples, in this order, to a new Dataset. examples: [count] indices.
bool dataset_select(const Dataset *from, const int64_t *examples, int64_t count, Dataset *dataset, Error *error);
