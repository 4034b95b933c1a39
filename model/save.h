// save.h - writing the block store as a Hugging Face directory that transformers loads.
#pragma once
#include "base/safetensors.h"
#include "model/source.h"
#include "model/store.h"

typedef struct SaveOptions {
    uint64_t shard_bytes; // most bytes of tensor data in a safetensors file (a larger tensor has one alone); 0: one
    int32_t eos[MODEL_EOS_MAX]; // end tokens trained with, first the one that ends a turn
    int eos_count;              // 0: keep the configuration's
    const char *stem;           // of the safetensors files' names; NULL: "model"
    const bool *chosen; // [blocks][BLOCK_TENSORS_MAX], in the order of block_tensors: the tensors to write; NULL: all
    // Called for each tensor when it has been written, its bytes and CRC-32 set: for a manifest. NULL: not wanted.
    void (*written)(void *context, const char *file_name, const SafetensorsEntry *entry);
    void *context;
} SaveOptions;

// Where the weights of a save come from: read gives a block's, good until the next call; NULL with an error.
typedef struct WeightReader {
    const bf16 *(*read)(void *context, int block, Error *error);
    void *context;
} WeightReader;

// Writes the safetensors files, and their index when there are several, into an existing directory. Every block is read
// once or, where its tensors' names are not neighbours, twice.
bool save_weights(const ModelConfig *config, const BlockLayout *layout, const WeightReader *weights,
                  const SaveOptions *options, const char *directory, Error *error);
// config.json (of the source, or made from GGUF metadata; dtype bfloat16) and generation_config.json.
bool save_configurations(const ModelSource *source, const SaveOptions *options, const char *directory, Error *error);

// Bytes of the safetensors files that model_save will write; its JSON files are some kilobytes more.
bool model_save_bytes(const ModelSource *source, const BlockLayout *layout, const SaveOptions *options, uint64_t *bytes,
                      Error *error);

// Writes weights and configurations into an existing, empty directory. The tokenizer's files are tokenizer_write's.
// Every file is synced. On failure the caller removes the directory. Peak memory: one block.
bool model_save(const ModelSource *source, BlockStore *store, const SaveOptions *options, const char *directory,
                Error *error);
