// dataset_builder.c - see dataset_builder.h.
#include "data/dataset_builder.h"
#include <stdlib.h>
#include <string.h>

// Makes room for `count` items of `size` bytes where *room exist, at least doubling it. Returns where the memory is
// now; NULL with a message, and the memory stays as it was.
static void *grow(void *memory, int64_t *room, int64_t count, size_t size, Error *error) {
    if (memory && count <= *room) return memory;
    int64_t wanted = *room * 2 > count ? *room * 2 : count < 1024 ? 1024 : count;
    void *larger = realloc(memory, (size_t)wanted * size);
    if (larger)
        *room = wanted;
    else
        error_memory(error, "the tokens of the data set", (size_t)wanted * size);
    return larger;
}

static bool reserve(DatasetBuilder *builder, int64_t count, Error *error) {
    Dataset *dataset = &builder->dataset;
    int64_t used = dataset->starts ? dataset->starts[dataset->count] : 0;
    int64_t starts_room = builder->example_capacity + 1, trained_room = builder->token_capacity;
    int64_t *starts = grow(dataset->starts, &starts_room, dataset->count + 2, sizeof *starts, error);
    if (!starts) return false;
    starts[0] = 0;
    dataset->starts = starts;
    builder->example_capacity = starts_room - 1;
    // both token arrays have the same room once both have grown
    uint8_t *trained = grow(dataset->trained, &trained_room, used + count, sizeof *trained, error);
    if (!trained) return false;
    dataset->trained = trained;
    int32_t *ids = grow(dataset->ids, &builder->token_capacity, used + count, sizeof *ids, error);
    if (!ids) return false;
    dataset->ids = ids;
    return true;
}

bool dataset_builder_add(DatasetBuilder *builder, const int32_t *ids, const uint8_t *trained, int64_t count,
                         Error *error) {
    if (!reserve(builder, count, error)) return false;
    Dataset *dataset = &builder->dataset;
    int64_t used = dataset->starts[dataset->count];
    memcpy(dataset->ids + used, ids, (size_t)count * sizeof *ids);
    memcpy(dataset->trained + used, trained, (size_t)count);
    for (int64_t t = 1; t < count; t++) dataset->targets += trained[t];
    if (count > dataset->longest) dataset->longest = count;
    dataset->starts[++dataset->count] = used + count;
    return true;
}

bool dataset_builder_finish(DatasetBuilder *builder, Dataset *dataset, Error *error) {
    Dataset *built = &builder->dataset;
    if (!reserve(builder, 0, error)) goto failed; // an empty data set has its arrays too
    size_t size = ((size_t)built->count + 1) * sizeof *built->sequence_starts;
    built->sequence_starts = malloc(size);
    if (!built->sequence_starts) {
        error_memory(error, "the tokens of the data set", size);
        goto failed;
    }
    built->sequences = built->count;
    for (int64_t i = 0; i <= built->count; i++) built->sequence_starts[i] = i;
    *dataset = *built;
    *builder = (DatasetBuilder){0};
    return true;
failed:
    dataset_builder_free(builder);
    return false;
}

void dataset_builder_free(DatasetBuilder *builder) {
    dataset_free(&builder->dataset);
    *builder = (DatasetBuilder){0};
}

bool dataset_select(const Dataset *from, const int64_t *examples, int64_t count, Dataset *dataset, Error *error) {
    DatasetBuilder builder = {0};
    for (int64_t i = 0; i < count; i++) {
        int64_t start = from->starts[examples[i]], size = from->starts[examples[i] + 1] - start;
        if (dataset_builder_add(&builder, from->ids + start, from->trained + start, size, error)) continue;
        dataset_builder_free(&builder);
        return false;
    }
    return dataset_builder_finish(&builder, dataset, error);
}
