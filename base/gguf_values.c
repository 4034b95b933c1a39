// gguf_values.c - looking up tensors and metadata of an opened GGUF file.
#include "base/gguf.h"
#include <stdlib.h>

static int compare_tensor(const void *name, const void *tensor) {
    return strcmp(name, ((const GgufTensor *)tensor)->name);
}

const GgufTensor *gguf_tensor(const GgufFile *file, const char *name) {
    return bsearch(name, file->tensors, file->tensor_count, sizeof *file->tensors, compare_tensor);
}

static int compare_key(const void *name, const void *value) {
    const GgufString *a = name, *b = &((const GgufValue *)value)->key;
    int order = memcmp(a->data, b->data, a->size < b->size ? a->size : b->size);
    return order ? order : (a->size > b->size) - (a->size < b->size);
}

// NULL when there is none.
static const GgufValue *find_value(const GgufFile *file, const char *key) {
    GgufString name = {key, strlen(key)};
    return bsearch(&name, file->values, file->value_count, sizeof *file->values, compare_key);
}

static bool wrong_kind(const GgufFile *file, const char *key, const char *kind, Error *error) {
    error_set(error, "%s: metadata key \"%s\" must be %s", file->where, key, kind);
    return error_hint(error, "convert the model again with a current converter, or take another file");
}

static bool is_float(GgufValueType type) {
    return type == GGUF_FLOAT32 || type == GGUF_FLOAT64;
}

static bool is_number(GgufValueType type) {
    return type != GGUF_STRING && type != GGUF_BOOL;
}

bool gguf_get_integer(const GgufFile *file, const char *key, int64_t *value, Error *error) {
    const GgufValue *found = find_value(file, key);
    if (!found) return true;
    uint64_t large = 0;
    if (found->type == GGUF_UINT64 && !found->array) memcpy(&large, found->bytes, sizeof large);
    if (found->array || !is_number(found->type) || is_float(found->type) || large > INT64_MAX)
        return wrong_kind(file, key, "an integer", error);
    *value = gguf_array_integer(found, 0);
    return true;
}

bool gguf_get_number(const GgufFile *file, const char *key, double *value, Error *error) {
    const GgufValue *found = find_value(file, key);
    if (!found) return true;
    if (found->array || !is_number(found->type)) return wrong_kind(file, key, "a number", error);
    *value = gguf_array_number(found, 0);
    return true;
}

bool gguf_get_boolean(const GgufFile *file, const char *key, bool *value, Error *error) {
    const GgufValue *found = find_value(file, key);
    if (!found) return true;
    if (found->array || found->type != GGUF_BOOL) return wrong_kind(file, key, "true or false", error);
    *value = found->bytes[0] != 0;
    return true;
}

bool gguf_get_string(const GgufFile *file, const char *key, GgufString *value, Error *error) {
    const GgufValue *found = find_value(file, key);
    if (!found) return true;
    if (found->array || found->type != GGUF_STRING) return wrong_kind(file, key, "a string", error);
    size_t position = 0;
    *value = gguf_array_next(found, &position);
    return true;
}

bool gguf_get_array(const GgufFile *file, const char *key, bool strings, const GgufValue **value, Error *error) {
    *value = NULL;
    const GgufValue *found = find_value(file, key);
    if (!found) return true;
    if (!found->array || (found->type == GGUF_STRING) != strings)
        return wrong_kind(file, key, strings ? "an array of strings" : "an array of numbers", error);
    *value = found;
    return true;
}

// Reads element `index` of type `type` from `bytes` into a variable of that type and returns it as RESULT.
#define ELEMENT(RESULT, TYPE)                                                                                          \
    do {                                                                                                               \
        TYPE element;                                                                                                  \
        memcpy(&element, array->bytes + index * sizeof element, sizeof element);                                       \
        return (RESULT)element;                                                                                        \
    } while (0)

int64_t gguf_array_integer(const GgufValue *array, uint64_t index) {
    if (is_float(array->type)) {
        double number = gguf_array_number(array, index);
        return number > -0x1p63 && number < 0x1p63 ? (int64_t)number : 0;
    }
    switch (array->type) {
    case GGUF_INT8:
        ELEMENT(int64_t, int8_t);
    case GGUF_UINT16:
        ELEMENT(int64_t, uint16_t);
    case GGUF_INT16:
        ELEMENT(int64_t, int16_t);
    case GGUF_UINT32:
        ELEMENT(int64_t, uint32_t);
    case GGUF_INT32:
        ELEMENT(int64_t, int32_t);
    case GGUF_UINT64:
        ELEMENT(int64_t, uint64_t);
    case GGUF_INT64:
        ELEMENT(int64_t, int64_t);
    default:
        ELEMENT(int64_t, uint8_t);
    }
}

double gguf_array_number(const GgufValue *array, uint64_t index) {
    if (array->type == GGUF_FLOAT32) ELEMENT(double, float);
    if (array->type == GGUF_FLOAT64) ELEMENT(double, double);
    if (array->type == GGUF_UINT64) ELEMENT(double, uint64_t);
    return (double)gguf_array_integer(array, index);
}

GgufString gguf_array_next(const GgufValue *array, size_t *position) {
    uint64_t size; // checked to lie inside the file when it was opened
    memcpy(&size, array->bytes + *position, sizeof size);
    GgufString string = {(const char *)array->bytes + *position + sizeof size, size};
    *position += sizeof size + size;
    return string;
}
