// loaded_model.h - a model that is opened and loaded into a block store on the CPU, for tests.
#pragma once
#include "model/source.h"

typedef struct LoadedModel {
    Backend *backend;
    ModelSource *source;
    const ModelConfig *config; // the source's
    BlockLayout layout;
    Arena arena;
    BlockStore store;
} LoadedModel;

// Fails the test when anything fails.
void loaded_model_open(LoadedModel *model, const char *path);
void loaded_model_close(LoadedModel *model);
// Fails the test unless both hold the same weights, the padding included, bit for bit.
void loaded_model_equal(LoadedModel *a, LoadedModel *b);
// Writes a copy of a file of the repository into a folder, the file's first `size` bytes only when size >= 0.
void copy_file(const char *path, const char *folder, const char *name, int64_t size);
