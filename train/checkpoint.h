// checkpoint.h - checkpoint-<step>/: a complete Hugging Face directory, the training state and a manifest.
//
//   config.json, model*.safetensors, generation_config.json, tokenizer files   for every tool
//   training.json            base model, data set, options: what a model card is made of
//   lisa_state.safetensors   per slot m and v (F32, or BF16 with optim_bits 16) and low bits (I16); low bits of parked
//   layers manifest.json            step, draw, slots, settings, and size and CRC-32 of every file and tensor; written
//   last
//
// It is written as .checkpoint-<step>.partial, synced and renamed; older checkpoints go only when the new one is
// complete. A torn or altered file is refused by name.
#pragma once
#include "base/json.h"
#include "base/safetensors.h"
#include "data/batch.h"
#include "model/save.h"
#include "tokenizer/tokenizer.h"
#include "train/trainer.h"

// What a checkpoint needs beside the trainer.
typedef struct CheckpointFacts {
    const ModelSource *source;
    const Tokenizer *tokenizer; // NULL: no tokenizer files are written
    const char *chat_template;  // Jinja; NULL: the tokenizer's own is kept
    const char *record;         // JSON text of training.json, how the model was made, for people; NULL: none
    SaveOptions save;           // shards and end tokens
    const Dataset *dataset;     // its tokens are fingerprinted, so that other data is noticed
    bool shuffle;               // each epoch has an order of its own
    int64_t steps;              // optimizer steps of the whole run
} CheckpointFacts;

// ---- checkpoint.c ----

// Writes output_dir/checkpoint-<step> (step: optimizer steps done), then removes all but the newest save_total_limit
// checkpoints. On failure nothing new is left behind and older checkpoints stay.
bool checkpoint_save(Trainer *trainer, const CheckpointFacts *facts, const char *output_dir, int64_t step,
                     Error *error);

// Gives a freshly created trainer the state of a checkpoint (its weights are loaded from the same folder as from any
// other model); *step: optimizer steps done. The manifest is verified first. Settings or data that would alter the
// mathematics and differ from the run's are an error with both values.
bool checkpoint_load(Trainer *trainer, const CheckpointFacts *facts, const char *path, int64_t *step, Error *error);

// Bytes that one checkpoint of this run takes on disk, about: small text files are left out.
bool checkpoint_bytes(const Trainer *trainer, const CheckpointFacts *facts, uint64_t *bytes, Error *error);

// ---- checkpoint_manifest.c ----

// Notes a tensor that was written to a file of the folder, in the object of manifest.json's "files".
// false when memory runs out.
bool manifest_add_tensor(json_t *files, const char *file, const SafetensorsEntry *entry);
// Notes the size of each file whose tensors are noted, and size and checksum of every other one.
bool manifest_add_files(json_t *files, const char *folder, Error *error);
// Reads folder/manifest.json and compares every file with it; the caller's object, NULL with the first difference.
json_t *manifest_verify(const char *folder, Error *error);

// ---- checkpoint_folder.c ----

// The newest complete checkpoint in output_dir: *path is the caller's, NULL when there is none.
bool checkpoint_find(const char *output_dir, char **path, Error *error);

// Whether output_dir holds a complete checkpoint of that step.
bool checkpoint_exists(const char *output_dir, int64_t step);

// Removes the folder output_dir/name. It is renamed first, so that a removal cut short leaves nothing that looks like a
// checkpoint.
bool checkpoint_remove(const char *output_dir, const char *name, Error *error);

// Removes complete checkpoints but the newest `keep`. `step` has just been saved: checkpoints beyond it, which a run
// that went back to an earlier one leaves behind, count as the oldest.
bool checkpoint_prune(const char *output_dir, int64_t keep, int64_t step, Error *error);

// Makes the model of checkpoint-<step> appear in output_dir itself, where other tools are pointed at, as hard links (a
// copy where the file system has none). The training state is left out.
bool checkpoint_publish(const char *output_dir, int64_t step, Error *error);

// Makes output_dir if absent and takes it for this process, so that no second run removes or overwrites what this one
// writes. *lock: close it to give the folder back; it ends with the process in any case.
bool checkpoint_lock_folder(const char *output_dir, int *lock, Error *error);

// Before a run starts in output_dir, locked: *resume is the checkpoint to go on from (caller's) or NULL.
// With overwrite what lisa wrote there is removed, and nothing else; without it, a folder that holds anything but
// lisa's own leftovers and no checkpoint is refused.
bool checkpoint_prepare_folder(const char *output_dir, bool overwrite, char **resume, Error *error);
