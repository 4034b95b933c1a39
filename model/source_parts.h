// source_parts.h - what the kinds of model sources share. Private to model/source*.c, hub.c, save*.c and export*.c.
#pragma once
#include "base/gguf.h"
#include "base/safetensors.h"
#include "model/source.h"

// Where the values of one tensor of a block lie, and how they become our rows.
typedef struct StoredTensor {
    const FileMap *map;
    size_t offset; // of the data from the start of the map
    size_t bytes;
    const GgmlTypeInfo *type; // safetensors' F32, F16 and BF16 are GGUF's of the same name
    // > 0: GGUF's order of the rows of query and key heads of this many rows, to be undone
    int interleaved;
} StoredTensor;

struct ModelSource {
    SourceKind kind;
    char *path; // the directory, or the GGUF file
    ModelConfig config;
    BlockLayout layout;
    StoredTensor *tensors; // [blocks][BLOCK_TENSORS_MAX] in the order of block_tensors; NULL when config_only
    char types[64];
    bool rounds;
    // Hugging Face
    json_t *json;           // config.json
    json_t *weight_map;     // of the index: tensor name -> file name; NULL when there is one file
    SafetensorsFile *files; // [file_count]
    size_t file_count;
    // GGUF
    GgufFile gguf;
};

// Reads the configuration (path is set; the file of a directory's configuration may be given apart) and, unless
// config_only, opens the files with weights.
bool source_open_hugging_face(ModelSource *source, const char *config_path, bool config_only, Error *error);
bool source_open_gguf(ModelSource *source, Error *error);
// Finds one tensor and checks its shape.
bool source_find_hugging_face(const ModelSource *source, const BlockTensor *tensor, StoredTensor *stored, Error *error);
bool source_find_gguf(const ModelSource *source, const BlockTensor *tensor, StoredTensor *stored, Error *error);

// GGUF's name for a Hugging Face tensor; false when there is none.
bool source_gguf_name(const char *name, char text[GGUF_NAME_MAX + 1]);
// Whether a file of the architecture llama has a tensor (by GGUF's name) in another order of rows: that of query and
// key heads of this size puts the two halves of a rotary head in turns. 0: no.
int source_gguf_order(const ModelConfig *config, const char *name);
// Row t D/2 + j of a head of D rows is row 2 j + t there.
int64_t source_gguf_row(int64_t row, int head_dim);

// Fills a block's weights, the padding included, in the source's own layout.
void source_load_block(const ModelSource *source, int block, bf16 *to, ThreadPool *threads);
int64_t source_largest_block(const ModelSource *source); // in elements
// Whether every tensor of every block has the same place and shape in both.
bool source_same_layout(const ModelSource *a, const BlockLayout *b);

// The errors of a tensor that is not there or has another shape.
bool source_missing(const char *where, const char *name, const BlockTensor *tensor, Error *error);
bool source_misshapen(const char *where, const char *name, const int64_t *shape, int dimensions,
                      const BlockTensor *tensor, Error *error);
// The error of a checkpoint that would have to be unpickled. path: the file or its directory.
bool source_refuse_pickle(const char *path, const char *name, Error *error);
bool source_is_pickle_name(const char *name);

// "owner/name" and nothing else
bool hub_is_id(const char *name);
// The snapshot's directory in the local Hugging Face cache (caller's memory), NULL with a message that says how to get
// it when it is not there.
char *hub_find(const char *id, Error *error);
