// gguf.h - the GGUF container, versions 2 and 3: metadata and the places of the tensors, all checked on opening.
//
// Spec: github.com/ggml-org/ggml/blob/master/docs/gguf.md. Little-endian files only. Nothing is copied: strings and
// tensor data point into the mapped file, so they live until gguf_close.
#pragma once
#include "base/files.h"
#include "base/ggml_quants.h"
#include "base/numbers.h"
#include <string.h>

#define GGUF_NAME_MAX       64 // bytes of a tensor's name
#define GGUF_DIMENSIONS_MAX 4

typedef enum {
    GGUF_UINT8,
    GGUF_INT8,
    GGUF_UINT16,
    GGUF_INT16,
    GGUF_UINT32,
    GGUF_INT32,
    GGUF_FLOAT32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_UINT64,
    GGUF_INT64,
    GGUF_FLOAT64,
    GGUF_VALUE_TYPES
} GgufValueType; // the numbers are those in the files

// Bytes of the file, valid UTF-8 or not, without a NUL at the end.
typedef struct GgufString {
    const char *data;
    size_t size;
} GgufString;

typedef struct GgufValue {
    GgufString key;
    GgufValueType type; // of the value, or of an array's elements; never GGUF_ARRAY
    bool array;
    uint64_t count;             // elements; 1 unless array
    const unsigned char *bytes; // the elements end to end
    size_t size;                // their bytes
} GgufValue;

typedef struct GgufTensor {
    char name[GGUF_NAME_MAX + 1];
    const GgmlTypeInfo *type;
    int dimensions;
    int64_t shape[GGUF_DIMENSIONS_MAX]; // as PyTorch: the last extent is contiguous
    int64_t elements;
    size_t offset; // of the data from the start of the file
    size_t bytes;
} GgufTensor;

typedef struct GgufFile {
    char *where; // the path, for messages
    FileMap map; // data and size of the whole file; memory of the caller's after gguf_parse
    bool mapped;
    GgufValue *values; // sorted by key
    size_t value_count;
    GgufTensor *tensors; // sorted by name
    size_t tensor_count;
} GgufFile;

// Maps and checks a file. On failure nothing is kept.
bool gguf_open(GgufFile *file, const char *path, Error *error);
// The same for bytes in memory, which must outlive the file. `where` names them in messages.
bool gguf_parse(GgufFile *file, const void *data, size_t size, const char *where, Error *error);
void gguf_close(GgufFile *file); // a zeroed file is allowed

const GgufTensor *gguf_tensor(const GgufFile *file, const char *name); // NULL when there is none

// Scalar values. A missing key leaves *value as it was and is no error; a value of another kind is one.
// Integers of every width are taken, also by gguf_get_number.
bool gguf_get_integer(const GgufFile *file, const char *key, int64_t *value, Error *error);
bool gguf_get_number(const GgufFile *file, const char *key, double *value, Error *error);
bool gguf_get_boolean(const GgufFile *file, const char *key, bool *value, Error *error);
bool gguf_get_string(const GgufFile *file, const char *key, GgufString *value, Error *error);
static inline bool gguf_string_equals(GgufString string, const char *text) {
    return string.size == strlen(text) && !memcmp(string.data, text, string.size);
}

// Arrays, *value NULL when the key is missing; an array of another element kind is an error. strings: GGUF_STRING is
// wanted, else numbers.
bool gguf_get_array(const GgufFile *file, const char *key, bool strings, const GgufValue **value, Error *error);
// Element `index` of an array of numbers (bool counts as 0 or 1).
int64_t gguf_array_integer(const GgufValue *array, uint64_t index); // floats are truncated; out of range gives 0
double gguf_array_number(const GgufValue *array, uint64_t index);
// The strings in order: *position starts at 0 and moves on; call it `count` times.
GgufString gguf_array_next(const GgufValue *array, size_t *position);
