// gguf_write.h - writing the GGUF container, version 3: metadata put together key by key, then a streaming writer.
//
// Spec: github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every tensor's data is padded with zeros to the alignment.
#pragma once
#include "base/buffer.h"
#include "base/gguf.h"

// ---- metadata ----

// Keys and values as they stand in the file. GGUF_METADATA_EMPTY, then gguf_metadata_free.
typedef struct GgufMetadata {
    Buffer bytes;
    uint64_t count; // keys
} GgufMetadata;

#define GGUF_METADATA_EMPTY ((GgufMetadata){0})

void gguf_metadata_free(GgufMetadata *metadata);

// Each appends a key, which must not be there yet, with its value. They fail only when memory runs out.
bool gguf_put_integer(GgufMetadata *metadata, const char *key, uint32_t value, Error *error); // UINT32, as writers do
bool gguf_put_number(GgufMetadata *metadata, const char *key, float value, Error *error);     // FLOAT32
bool gguf_put_boolean(GgufMetadata *metadata, const char *key, bool value, Error *error);
bool gguf_put_string(GgufMetadata *metadata, const char *key, const char *text, Error *error);
// An array of `count` elements of a type (GGUF_STRING, GGUF_FLOAT32, GGUF_INT32), which the caller then appends: each
// string by gguf_put_element, numbers as bytes to metadata->bytes.
bool gguf_put_array(GgufMetadata *metadata, const char *key, GgufValueType type, uint64_t count, Error *error);
bool gguf_put_element(GgufMetadata *metadata, const char *text, size_t size, Error *error);
// A value of another file as it is.
bool gguf_put_value(GgufMetadata *metadata, const GgufValue *value, Error *error);

// ---- the file ----

typedef struct GgufEntry {
    char name[GGUF_NAME_MAX + 1];
    const GgmlTypeInfo *type;
    int dimensions;
    int64_t shape[GGUF_DIMENSIONS_MAX]; // as PyTorch; rows are multiples of the type's block
    int64_t tag;                        // the caller's own
    size_t bytes;                       // set by gguf_create and gguf_file_size: of the data, padding not counted
} GgufEntry;

typedef struct GgufWriter GgufWriter;

// Writes the header, the metadata and the list of tensors. alignment: a multiple of 8; when it is not the format's 32
// the metadata must say so (general.alignment). metadata and entries stay the caller's and outlive the writer.
// The file appears under its name when it is finished (base/files.h, AtomicFile).
GgufWriter *gguf_create(const char *path, const GgufMetadata *metadata, GgufEntry *entries, size_t count,
                        size_t alignment, Error *error);
// Appends data in the order of the entries; a call may hold part of a tensor, never parts of two.
bool gguf_write(GgufWriter *writer, const void *bytes, size_t size, Error *error);
// Syncs and renames, and frees the writer also on failure. Every byte of every tensor must have been written.
bool gguf_finish(GgufWriter *writer, Error *error);
void gguf_abandon(GgufWriter *writer); // removes what was written; NULL is allowed
// Bytes of the file that gguf_create would begin.
bool gguf_file_size(const GgufMetadata *metadata, GgufEntry *entries, size_t count, size_t alignment, uint64_t *bytes,
                    Error *error);
