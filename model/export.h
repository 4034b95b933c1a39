// export.h - a model's weights on their way into other files, one tensor at a time, straight from its own files.
#pragma once
#include "base/gguf_write.h"
#include "base/threads.h"
#include "model/save.h"
#include "model/source.h"

// Called now and then with bytes done; may be NULL.
typedef void ExportProgress(void *context, uint64_t done, uint64_t total);

// ---- GGUF (export_gguf.c, export_convert.c) ----

typedef struct GgufExport {
    const ModelSource *source;
    const ModelSource *base; // a GGUF file, what the source was trained from or the source itself, or NULL: tensors
                             // that are equal in both and of one type keep its bytes, and its metadata is kept
    bool new_layout;         // else order and types of the tensors are those of base
    GgmlType type;           // in a new layout, of matrices: BF16, F16, Q8_0 or Q4_0; vectors are F32 in any case
    ThreadPool *threads;
    ExportProgress *progress;
    void *context;
} GgufExport;

// The tensors of the file and where each comes from. In a new layout a matrix whose rows are no multiple of the type's
// block is F16, and the output matrix of a Q4_0 file is Q8_0 (it alone decides between tokens; llama.cpp too keeps it
// finer). In the layout of base a tensor that was changed and whose type cannot be written (K types) becomes Q8_0.
typedef struct GgufPlan GgufPlan;

// NULL with an error; end with gguf_plan_free. job outlives the plan.
GgufPlan *gguf_plan_make(const GgufExport *job, Error *error);
void gguf_plan_free(GgufPlan *plan);
size_t gguf_plan_changed(const GgufPlan *plan); // with base: tensors that differ from it
// The GGUF file whose metadata the plan keeps: that of base, else the source's own; NULL when there is none.
const GgufFile *gguf_plan_kept(const GgufPlan *plan);
// Appends what llama.cpp wants to know of the model: general.* and <architecture>.*. Where a file's metadata is kept it
// is all there, the tokenizer included, but for the keys in replaced (ended by NULL), which the caller puts.
// name: general.name.
bool gguf_plan_metadata(const GgufPlan *plan, const char *name, const char *const *replaced, GgufMetadata *metadata,
                        Error *error);
// Bytes of the file.
bool gguf_plan_bytes(const GgufPlan *plan, const GgufMetadata *metadata, uint64_t *bytes, Error *error);
// Writes it in one pass; memory: some MiB. Errors: a value that the type cannot hold (the tensor is named).
bool gguf_plan_write(GgufPlan *plan, const GgufMetadata *metadata, const char *path, Error *error);

// ---- Hugging Face directories (export_weights.c) ----

// A model's own files as a WeightReader, one block in memory.
typedef struct SourceReader {
    const ModelSource *source;
    const SafetensorsFile *delta; // bf16 tensors of Hugging Face's names that stand in place of the source's; or NULL
    ThreadPool *threads;
    ExportProgress *progress;
    void *context;
    bf16 *block;    // the last one read
    uint64_t bytes; // read so far
    uint64_t total; // of all blocks
} SourceReader;

// Fills block and total; the other members are the caller's. End with source_reader_free, also after a failure.
bool source_reader_open(SourceReader *reader, Error *error);
void source_reader_free(SourceReader *reader);
WeightReader source_reader(SourceReader *reader);

// ---- what differs between two models (export_compare.c) ----

typedef struct ModelDifference {
    bool *changed;       // [blocks][BLOCK_TENSORS_MAX] in the order of block_tensors
    uint32_t *checksums; // [blocks] CRC-32 (zlib's) of the base's weights, tensor after tensor
    size_t tensors;      // how many differ
} ModelDifference;

// Compares all weights of two models of equal shapes, rounded to bf16. Memory: two blocks. End with
// model_difference_free, also after a failure.
bool model_compare(const ModelSource *source, const ModelSource *base, ThreadPool *threads, ModelDifference *difference,
                   Error *error);
void model_difference_free(ModelDifference *difference);

// ---- deltas (export_delta.c): delta.safetensors, the tensors that differ, and delta.json with the checksums ----

// Bytes of delta.safetensors.
bool delta_bytes(const ModelSource *source, const ModelDifference *difference, uint64_t *bytes, Error *error);
// Writes both files into an existing directory. base_name: for people.
bool delta_write(SourceReader *reader, const ModelDifference *difference, const char *base_name, const char *directory,
                 Error *error);

typedef struct ModelDelta {
    json_t *facts;        // delta.json
    SafetensorsFile file; // delta.safetensors
    uint64_t shard_bytes; // how the model's files were cut, SaveOptions.shard_bytes
} ModelDelta;

// Opens a delta and checks it against its checksums and against the base: that every block of the base is the one it
// was made against. Memory: one block. End with delta_close, also after a failure.
bool delta_open(ModelDelta *delta, const char *directory, const ModelSource *base, ThreadPool *threads, Error *error);
void delta_close(ModelDelta *delta);
