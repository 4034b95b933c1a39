// source.h - where a model comes from: a Hugging Face directory, a GGUF file or an id in the local Hugging Face cache.
//
// Opening reads the configuration and checks that every tensor is there with its shape; loading then reads each source
// byte once into the block store.
#pragma once
#include "model/config.h"
#include "model/store.h"

typedef struct ModelSource ModelSource;

typedef enum { SOURCE_HUGGING_FACE, SOURCE_GGUF } SourceKind;

// name: a directory with config.json, a .gguf file, or "owner/name" (looked up in HF_HUB_CACHE, HF_HOME/hub,
// ~/.cache/huggingface/hub; when absent the error prints the `hf download` line). Pickle checkpoints are refused.
// With config_only a directory needs nothing but config.json (for `lisa plan` and random weights).
ModelSource *model_source_open(const char *name, bool config_only, Error *error);
void model_source_close(ModelSource *source); // NULL is allowed

const ModelConfig *model_source_config(const ModelSource *source);
const BlockLayout *model_source_layout(const ModelSource *source);
SourceKind model_source_kind(const ModelSource *source);
const char *model_source_path(const ModelSource *source); // the directory, or the GGUF file
// What the weights are stored as, for people: "bf16", "f16", "Q4_1 + F32".
const char *model_source_types(const ModelSource *source);
// True when loading rounds the stored values (anything but bf16): training starts from the rounded weights.
bool model_source_rounds(const ModelSource *source);

// Reads all weights into the store, which must be laid out for a model of the same shapes, on the backend's threads.
// progress (may be NULL) is called with blocks done.
bool model_source_load(ModelSource *source, BlockStore *store, ThreadPool *threads,
                       void (*progress)(void *context, int done, int total), void *context, Error *error);
// Fills the store, where it is, with random weights (about normal, deviation 0.02; norm gains 1, biases 0), a function
// of the seed: the same bits on every backend and wherever the blocks lie.
bool model_random_weights(const ModelConfig *config, BlockStore *store, uint64_t seed, Error *error);
