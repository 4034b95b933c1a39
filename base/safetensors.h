// safetensors.h - the container of Hugging Face weights, of checkpoints and of adapters: reader and streaming writer.
//
// Layout (huggingface.co/docs/safetensors): u64 header length N; N bytes of JSON, name -> {dtype, shape, data_offsets};
// the tensors' bytes, row-major and little-endian, covering the rest of the file without holes or overlaps.
#pragma once
#include "base/files.h"
#include "base/json.h"

#define SAFETENSORS_DIMENSIONS_MAX 8
#define SAFETENSORS_HEADER_MAX     100000000 // bytes, the reference implementation's limit

typedef enum {
    SAFETENSORS_BOOL,
    SAFETENSORS_U8,
    SAFETENSORS_I8,
    SAFETENSORS_F8_E5M2,
    SAFETENSORS_F8_E4M3,
    SAFETENSORS_I16,
    SAFETENSORS_U16,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_I32,
    SAFETENSORS_U32,
    SAFETENSORS_F32,
    SAFETENSORS_F64,
    SAFETENSORS_I64,
    SAFETENSORS_U64,
    SAFETENSORS_TYPES
} SafetensorsType;

const char *safetensors_type_name(SafetensorsType type); // "BF16"
size_t safetensors_type_size(SafetensorsType type);      // bytes of an element

// ---- reading ----

typedef struct SafetensorsTensor {
    const char *name; // the file's
    SafetensorsType type;
    int dimensions; // 0: a single number
    int64_t shape[SAFETENSORS_DIMENSIONS_MAX];
    size_t offset; // of the data from the start of the file
    size_t bytes;
} SafetensorsTensor;

typedef struct SafetensorsFile {
    char *where; // the path, for messages
    FileMap map; // the whole file; memory of the caller's after safetensors_parse
    bool mapped;
    json_t *header;             // owns the names
    SafetensorsTensor *tensors; // sorted by name
    size_t count;
} SafetensorsFile;

// Maps a file and checks its header against its size; no data is read. On failure nothing is kept.
bool safetensors_open(SafetensorsFile *file, const char *path, Error *error);
// The same for bytes in memory, which must outlive the file. `where` names them in messages.
bool safetensors_parse(SafetensorsFile *file, const void *data, size_t size, const char *where, Error *error);
void safetensors_close(SafetensorsFile *file); // a zeroed file is allowed

const SafetensorsTensor *safetensors_find(const SafetensorsFile *file, const char *name); // NULL when there is none
const unsigned char *safetensors_data(const SafetensorsFile *file, const SafetensorsTensor *tensor);
uint32_t safetensors_crc32(const SafetensorsFile *file, const SafetensorsTensor *tensor); // zlib's, of the data

// ---- writing ----

typedef struct SafetensorsEntry {
    const char *name; // the caller's, kept until the file is finished
    SafetensorsType type;
    int dimensions;
    int64_t shape[SAFETENSORS_DIMENSIONS_MAX];
    int64_t tag;    // the caller's own, carried along when the entries are ordered
    size_t bytes;   // set by safetensors_create
    uint32_t crc32; // of the bytes written so far; final when the next tensor begins or the file is finished
} SafetensorsEntry;

typedef struct SafetensorsWriter SafetensorsWriter;

// Orders the entries in place as the reference writer does (largest element first, then by name), and writes the header
// with the metadata {"format": "pt"}. entries stay the caller's and must outlive the writer.
// The file appears under its name when it is finished (base/files.h, AtomicFile).
SafetensorsWriter *safetensors_create(const char *path, SafetensorsEntry *entries, size_t count, Error *error);
// Appends bytes to the data, in the order of the entries; a call may hold part of a tensor, never parts of two.
bool safetensors_write(SafetensorsWriter *writer, const void *bytes, size_t size, Error *error);
// Syncs and renames, and frees the writer also on failure. Every byte of every tensor must have been written.
bool safetensors_finish(SafetensorsWriter *writer, Error *error);
void safetensors_abandon(SafetensorsWriter *writer); // removes what was written; NULL is allowed
// Bytes of the file that safetensors_create would begin, its header included; orders the entries and sets their bytes.
bool safetensors_file_size(SafetensorsEntry *entries, size_t count, uint64_t *bytes, Error *error);
