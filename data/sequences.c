// sequences.c - see sequences.h.
#include "data/sequences.h"
#include "base/random.h"
#include "data/dataset_builder.h"
#include <math.h>
#include <stdlib.h>

static int compare_indices(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

bool dataset_split(const Dataset *dataset, double val_size, uint64_t seed, Dataset *train, Dataset *held_out,
                   Error *error) {
    int64_t count = dataset->count;
    double wanted = val_size < 1 ? ceil(val_size * (double)count) : val_size;
    *train = *held_out = (Dataset){0};
    if (!(wanted < (double)count)) {
        error_set(error, "val_size %g leaves nothing to train on: there are %lld examples", val_size, (long long)count);
        return error_hint(error, "lower val_size");
    }
    int64_t held = (int64_t)wanted;
    int64_t *order = malloc((size_t)count * sizeof *order);
    if (!order) return error_memory(error, "the held-out split", (size_t)count * sizeof *order);
    random_permutation(random_key(seed, RANDOM_SPLIT, 0, 0), order, count);
    qsort(order, (size_t)held, sizeof *order, compare_indices);
    qsort(order + held, (size_t)(count - held), sizeof *order, compare_indices);
    bool ok = dataset_select(dataset, order, held, held_out, error) &&
              dataset_select(dataset, order + held, count - held, train, error);
    if (!ok) dataset_free(held_out);
    free(order);
    return ok;
}

static bool shuffle_examples(Dataset *dataset, uint64_t seed, Error *error) {
    size_t size = (size_t)dataset->count * sizeof(int64_t);
    int64_t *order = malloc(size);
    if (!order) return error_memory(error, "the order of the examples", size);
    Dataset shuffled;
    random_permutation(random_key(seed, RANDOM_SHUFFLE, UINT64_MAX, 0), order, dataset->count); // before epoch 0
    bool ok = dataset_select(dataset, order, dataset->count, &shuffled, error);
    free(order);
    if (!ok) return false;
    dataset_free(dataset);
    *dataset = shuffled;
    return true;
}

bool dataset_pack(Dataset *dataset, int64_t capacity, bool shuffle, uint64_t seed, Error *error) {
    if (shuffle && !shuffle_examples(dataset, seed, error)) return false;
    int64_t sequences = 0, used = 0;
    for (int64_t e = 0; e < dataset->count; e++) {
        int64_t length = dataset->starts[e + 1] - dataset->starts[e];
        if (e == 0 || used + length > capacity) {
            dataset->sequence_starts[sequences++] = e;
            used = 0;
        }
        used += length;
        if (used > dataset->longest) dataset->longest = used;
    }
    dataset->sequence_starts[sequences] = dataset->count;
    dataset->sequences = sequences;
    return true;
}
