// gguf.c - reading the container front to back; every length is checked against what is left of the file.
#include "base/gguf.h"
#include <inttypes.h>
#include <stdlib.h>

#define HINT_DAMAGED "the file is damaged or was not downloaded completely; download it again"

typedef struct Cursor {
    const unsigned char *data;
    size_t size;
    size_t position;
} Cursor;

static bool take(Cursor *cursor, size_t bytes, const unsigned char **taken) {
    if (bytes > cursor->size - cursor->position) return false;
    *taken = cursor->data + cursor->position;
    cursor->position += bytes;
    return true;
}

static bool take_u32(Cursor *cursor, uint32_t *value) {
    const unsigned char *bytes;
    if (!take(cursor, sizeof *value, &bytes)) return false;
    memcpy(value, bytes, sizeof *value);
    return true;
}

static bool take_u64(Cursor *cursor, uint64_t *value) {
    const unsigned char *bytes;
    if (!take(cursor, sizeof *value, &bytes)) return false;
    memcpy(value, bytes, sizeof *value);
    return true;
}

static bool take_string(Cursor *cursor, GgufString *string) {
    uint64_t size;
    const unsigned char *bytes;
    if (!take_u64(cursor, &size) || !take(cursor, size, &bytes)) return false;
    *string = (GgufString){(const char *)bytes, size};
    return true;
}

// Bytes of one value; 0 for strings, which have no fixed size.
static size_t value_size(GgufValueType type) {
    static const unsigned char SIZES[GGUF_VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return SIZES[type];
}

static bool truncated(const GgufFile *file, const char *what, Error *error) {
    error_set(error, "%s: the file ends inside %s (%zu bytes in all)", file->where, what, file->map.size);
    return error_hint(error, HINT_DAMAGED);
}

// The part of a text from the file that fits into a message.
static int shown(GgufString string) {
    return string.size > 80 ? 80 : (int)string.size;
}

static bool take_value(GgufFile *file, Cursor *cursor, GgufValue *value, Error *error) {
    uint32_t type;
    if (!take_string(cursor, &value->key) || !take_u32(cursor, &type)) return truncated(file, "its metadata", error);
    value->count = 1;
    value->array = type == GGUF_ARRAY;
    if (value->array && (!take_u32(cursor, &type) || !take_u64(cursor, &value->count)))
        return truncated(file, "its metadata", error);
    if (type >= GGUF_VALUE_TYPES || type == GGUF_ARRAY) {
        error_set(error, "%s: metadata key \"%.*s\" has a value of unknown type %" PRIu32, file->where,
                  shown(value->key), value->key.data, type);
        return error_hint(error, HINT_DAMAGED);
    }
    value->type = (GgufValueType)type;
    size_t start = cursor->position;
    value->bytes = cursor->data + start;
    if (value->type == GGUF_STRING) {
        GgufString skipped;
        for (uint64_t i = 0; i < value->count; i++)
            if (!take_string(cursor, &skipped)) return truncated(file, "its metadata", error);
    } else {
        size_t bytes;
        const unsigned char *taken;
        if (!size_multiply(value->count, value_size(value->type), &bytes) || !take(cursor, bytes, &taken))
            return truncated(file, "its metadata", error);
    }
    value->size = cursor->position - start;
    return true;
}

static int compare_strings(GgufString a, GgufString b) {
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_values(const void *a, const void *b) {
    return compare_strings(((const GgufValue *)a)->key, ((const GgufValue *)b)->key);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const GgufTensor *)a)->name, ((const GgufTensor *)b)->name);
}

static int compare_offsets(const void *a, const void *b) {
    const GgufTensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static bool take_values(GgufFile *file, Cursor *cursor, uint64_t count, Error *error) {
    // A key and its value take 13 bytes at least, so a count that the file cannot hold is known before allocating.
    if (count > (cursor->size - cursor->position) / 13) return truncated(file, "its metadata", error);
    file->values = calloc(count ? count : 1, sizeof *file->values);
    if (!file->values) return error_memory(error, "GGUF metadata", count * sizeof *file->values);
    for (; file->value_count < count; file->value_count++)
        if (!take_value(file, cursor, &file->values[file->value_count], error)) return false;
    qsort(file->values, count, sizeof *file->values, compare_values);
    for (size_t i = 1; i < count; i++) {
        if (compare_values(&file->values[i - 1], &file->values[i])) continue;
        error_set(error, "%s: metadata key \"%.*s\" occurs twice", file->where, shown(file->values[i].key),
                  file->values[i].key.data);
        return error_hint(error, HINT_DAMAGED);
    }
    return true;
}

static bool take_name(GgufFile *file, Cursor *cursor, GgufTensor *tensor, Error *error) {
    GgufString name;
    if (!take_string(cursor, &name)) return truncated(file, "its list of tensors", error);
    if (name.size > GGUF_NAME_MAX || memchr(name.data, 0, name.size)) {
        error_set(error, "%s: a tensor's name is longer than %d bytes or holds a NUL", file->where, GGUF_NAME_MAX);
        return error_hint(error, HINT_DAMAGED);
    }
    memcpy(tensor->name, name.data, name.size);
    return true;
}

static bool take_shape(GgufFile *file, Cursor *cursor, GgufTensor *tensor, Error *error) {
    uint32_t dimensions;
    if (!take_u32(cursor, &dimensions)) return truncated(file, "its list of tensors", error);
    if (dimensions < 1 || dimensions > GGUF_DIMENSIONS_MAX) {
        error_set(error, "%s: tensor \"%s\" has %" PRIu32 " dimensions, not 1 to %d", file->where, tensor->name,
                  dimensions, GGUF_DIMENSIONS_MAX);
        return error_hint(error, HINT_DAMAGED);
    }
    tensor->dimensions = (int)dimensions;
    tensor->elements = 1;
    for (int i = tensor->dimensions - 1; i >= 0; i--) { // the file lists the contiguous extent first
        uint64_t extent;
        if (!take_u64(cursor, &extent)) return truncated(file, "its list of tensors", error);
        if (extent == 0 || extent > INT64_MAX ||
            __builtin_mul_overflow(tensor->elements, (int64_t)extent, &tensor->elements)) {
            error_set(error, "%s: tensor \"%s\" has an impossible shape", file->where, tensor->name);
            return error_hint(error, HINT_DAMAGED);
        }
        tensor->shape[i] = (int64_t)extent;
    }
    return true;
}

static bool take_tensor(GgufFile *file, Cursor *cursor, GgufTensor *tensor, Error *error) {
    if (!take_name(file, cursor, tensor, error) || !take_shape(file, cursor, tensor, error)) return false;
    uint32_t type;
    uint64_t offset;
    if (!take_u32(cursor, &type) || !take_u64(cursor, &offset)) return truncated(file, "its list of tensors", error);
    tensor->type = ggml_type_info(type);
    if (!tensor->type) {
        char text[24];
        error_set(error, "%s: tensor \"%s\" is stored as %s, which is not supported", file->where, tensor->name,
                  ggml_type_name(type, text));
        return error_hint(error, "take a file of one of these types: " GGML_TYPES_READ);
    }
    int64_t columns = tensor->shape[tensor->dimensions - 1];
    if (columns % tensor->type->block) {
        error_set(error, "%s: tensor \"%s\" has rows of %" PRId64 " elements, not a multiple of %s's block of %" PRId64,
                  file->where, tensor->name, columns, tensor->type->name, tensor->type->block);
        return error_hint(error, HINT_DAMAGED);
    }
    if (!size_multiply((size_t)(tensor->elements / tensor->type->block), tensor->type->block_bytes, &tensor->bytes)) {
        error_set(error, "%s: tensor \"%s\" has an impossible shape", file->where, tensor->name);
        return error_hint(error, HINT_DAMAGED);
    }
    tensor->offset = offset; // from the start of the data until place_tensors
    return true;
}

// Turns offsets into places in the file and checks that no two tensors share bytes.
static bool place_tensors(GgufFile *file, size_t data_start, size_t alignment, Error *error) {
    for (size_t i = 0; i < file->tensor_count; i++) {
        GgufTensor *tensor = &file->tensors[i];
        size_t end;
        if (tensor->offset % alignment) {
            error_set(error, "%s: the data of tensor \"%s\" does not start on a multiple of %zu bytes", file->where,
                      tensor->name, alignment);
            return error_hint(error, HINT_DAMAGED);
        }
        if (!size_add(tensor->offset, data_start, &tensor->offset) || !size_add(tensor->offset, tensor->bytes, &end) ||
            end > file->map.size) {
            error_set(error, "%s: the data of tensor \"%s\" (%zu bytes) does not lie inside the file (%zu bytes)",
                      file->where, tensor->name, tensor->bytes, file->map.size);
            return error_hint(error, HINT_DAMAGED);
        }
    }
    qsort(file->tensors, file->tensor_count, sizeof *file->tensors, compare_offsets);
    for (size_t i = 1; i < file->tensor_count; i++) {
        const GgufTensor *before = &file->tensors[i - 1], *tensor = &file->tensors[i];
        if (before->offset + before->bytes <= tensor->offset) continue;
        error_set(error, "%s: tensors \"%s\" and \"%s\" overlap", file->where, before->name, tensor->name);
        return error_hint(error, HINT_DAMAGED);
    }
    qsort(file->tensors, file->tensor_count, sizeof *file->tensors, compare_names);
    for (size_t i = 1; i < file->tensor_count; i++) {
        if (compare_names(&file->tensors[i - 1], &file->tensors[i])) continue;
        error_set(error, "%s: tensor \"%s\" occurs twice", file->where, file->tensors[i].name);
        return error_hint(error, HINT_DAMAGED);
    }
    return true;
}

static bool take_tensors(GgufFile *file, Cursor *cursor, uint64_t count, Error *error) {
    // A tensor's entry takes 32 bytes at least.
    if (count > (cursor->size - cursor->position) / 32) return truncated(file, "its list of tensors", error);
    file->tensors = calloc(count ? count : 1, sizeof *file->tensors);
    if (!file->tensors) return error_memory(error, "GGUF tensor list", count * sizeof *file->tensors);
    for (; file->tensor_count < count; file->tensor_count++)
        if (!take_tensor(file, cursor, &file->tensors[file->tensor_count], error)) return false;

    int64_t alignment = 32;
    if (!gguf_get_integer(file, "general.alignment", &alignment, error)) return false;
    if (alignment < 8 || alignment > 1 << 20 || alignment % 8) {
        error_set(error, "%s: general.alignment is %" PRId64 ", not a multiple of 8", file->where, alignment);
        return error_hint(error, HINT_DAMAGED);
    }
    size_t data_start = (size_t)round_up((int64_t)cursor->position, alignment);
    return place_tensors(file, data_start, (size_t)alignment, error);
}

static bool parse(GgufFile *file, Error *error) {
    Cursor cursor = {file->map.data, file->map.size, 0};
    const unsigned char *magic;
    uint32_t version;
    uint64_t tensors, values;
    if (!take(&cursor, 4, &magic) || memcmp(magic, "GGUF", 4) != 0) {
        error_set(error, "%s: not a GGUF file (it does not start with \"GGUF\")", file->where);
        return error_hint(error, "give a .gguf file, a Hugging Face directory or a hub id as model_name_or_path");
    }
    if (!take_u32(&cursor, &version)) return truncated(file, "its header", error);
    if (version != 2 && version != 3) {
        error_set(error, "%s: GGUF version %" PRIu32 " is not supported (2 and 3 are)", file->where, version);
        return error_hint(error, "convert the model again with a current converter, or take another file");
    }
    if (!take_u64(&cursor, &tensors) || !take_u64(&cursor, &values)) return truncated(file, "its header", error);
    return take_values(file, &cursor, values, error) && take_tensors(file, &cursor, tensors, error);
}

static bool parse_or_close(GgufFile *file, const char *where, Error *error) {
    file->where = strdup(where);
    bool ok = file->where ? parse(file, error) : error_memory(error, "a file name", strlen(where));
    if (!ok) gguf_close(file);
    return ok;
}

bool gguf_open(GgufFile *file, const char *path, Error *error) {
    *file = (GgufFile){0};
    if (!file_map(&file->map, path, error)) return false;
    file->mapped = true;
    return parse_or_close(file, path, error);
}

bool gguf_parse(GgufFile *file, const void *data, size_t size, const char *where, Error *error) {
    *file = (GgufFile){.map = {data, size}};
    return parse_or_close(file, where, error);
}

void gguf_close(GgufFile *file) {
    if (file->mapped) file_unmap(&file->map);
    free(file->where);
    free(file->values);
    free(file->tensors);
    *file = (GgufFile){0};
}
