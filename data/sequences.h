// sequences.h - which examples are held out for evaluation, and which share a sequence.
#pragma once
#include "data/batch.h"

// Divides the examples: val_size of them, below 1 a share (rounded up), from 1 on a count, go to held_out, chosen by
// the seed; the others to train. Both keep the order. val_size > 0. Errors: nothing would be left to train on.
bool dataset_split(const Dataset *dataset, double val_size, uint64_t seed, Dataset *train, Dataset *held_out,
                   Error *error);

// Makes sequences of as many whole examples as fit `capacity` tokens, in order; with shuffle the examples are first put
// in an order chosen by the seed, so that neighbours in the file do not stay neighbours in every epoch.
bool dataset_pack(Dataset *dataset, int64_t capacity, bool shuffle, uint64_t seed, Error *error);
