// golden.h - reading what the scripts under tests/golden/ stored. Every function fails the test when something is off.
#pragma once
#include "base/json.h"
#include "base/safetensors.h"
#include "data/batch.h"

// tests/golden/<folder>/<name> in memory of the caller's.
char *golden_path(const char *folder, const char *name);

// A whole JSON file; json_decref it.
json_t *golden_json(const char *path);
// The members of an object, which must be there.
double golden_number(const json_t *object, const char *key);
const char *golden_string(const json_t *object, const char *key);
const json_t *golden_array(const json_t *object, const char *key);

// "sequences" (ids) and "labels" (-100: no target) of an object as a data set, one example per sequence.
// Free with dataset_free.
void golden_dataset(Dataset *dataset, const json_t *object);

// An fp32 tensor of exactly `count` elements in memory of the caller's (free).
float *golden_tensor(const SafetensorsFile *file, const char *name, int64_t count);
