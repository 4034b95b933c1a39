// safetensors.c - the reader: everything the header says is checked against the file before any of it is used.
#include "base/safetensors.h"
#include "base/numbers.h"
#include <stdlib.h>
#include <zlib.h>

#define HINT_DAMAGED "the file is damaged or was not downloaded completely; download it again"

static const struct {
    const char *name;
    size_t size;
} TYPES[SAFETENSORS_TYPES] = {
    [SAFETENSORS_BOOL] = {"BOOL", 1},       [SAFETENSORS_U8] = {"U8", 1},           [SAFETENSORS_I8] = {"I8", 1},
    [SAFETENSORS_F8_E5M2] = {"F8_E5M2", 1}, [SAFETENSORS_F8_E4M3] = {"F8_E4M3", 1}, [SAFETENSORS_I16] = {"I16", 2},
    [SAFETENSORS_U16] = {"U16", 2},         [SAFETENSORS_F16] = {"F16", 2},         [SAFETENSORS_BF16] = {"BF16", 2},
    [SAFETENSORS_I32] = {"I32", 4},         [SAFETENSORS_U32] = {"U32", 4},         [SAFETENSORS_F32] = {"F32", 4},
    [SAFETENSORS_F64] = {"F64", 8},         [SAFETENSORS_I64] = {"I64", 8},         [SAFETENSORS_U64] = {"U64", 8},
};

const char *safetensors_type_name(SafetensorsType type) {
    return TYPES[type].name;
}

size_t safetensors_type_size(SafetensorsType type) {
    return TYPES[type].size;
}

static bool read_type(const SafetensorsFile *file, const json_t *entry, SafetensorsTensor *tensor, Error *error) {
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    for (int type = 0; name && type < SAFETENSORS_TYPES; type++) {
        if (strcmp(name, TYPES[type].name) != 0) continue;
        tensor->type = (SafetensorsType)type;
        return true;
    }
    error_set(error, "%s: tensor \"%s\" has the unknown dtype %s", file->where, tensor->name, name ? name : "(none)");
    return error_hint(error, "save the model again as bf16, f16 or f32");
}

// Reads the shape and the number of bytes that it needs.
static bool read_shape(const SafetensorsFile *file, const json_t *entry, SafetensorsTensor *tensor, Error *error) {
    const json_t *shape = json_object_get(entry, "shape");
    bool ok = json_is_array(shape) && json_array_size(shape) <= SAFETENSORS_DIMENSIONS_MAX;
    tensor->bytes = TYPES[tensor->type].size;
    tensor->dimensions = ok ? (int)json_array_size(shape) : 0;
    for (int i = 0; ok && i < tensor->dimensions; i++) {
        const json_t *extent = json_array_get(shape, (size_t)i);
        tensor->shape[i] = json_integer_value(extent);
        ok = json_is_integer(extent) && tensor->shape[i] >= 0 &&
             size_multiply(tensor->bytes, (size_t)tensor->shape[i], &tensor->bytes);
    }
    if (ok) return true;
    error_set(error, "%s: tensor \"%s\" has an impossible shape", file->where, tensor->name);
    return error_hint(error, HINT_DAMAGED);
}

// Reads the place, relative to the data until check_cover, and compares its length with the shape's.
static bool read_place(const SafetensorsFile *file, const json_t *entry, SafetensorsTensor *tensor, Error *error) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    int64_t first = json_integer_value(begin), last = json_integer_value(end);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) || first < 0 ||
        last < first) {
        error_set(error, "%s: tensor \"%s\" has impossible data_offsets", file->where, tensor->name);
        return error_hint(error, HINT_DAMAGED);
    }
    if ((size_t)(last - first) != tensor->bytes) {
        error_set(error, "%s: tensor \"%s\" spans %lld bytes, but its shape and dtype need %zu", file->where,
                  tensor->name, (long long)(last - first), tensor->bytes);
        return error_hint(error, HINT_DAMAGED);
    }
    tensor->offset = (size_t)first;
    return true;
}

static bool read_entries(SafetensorsFile *file, Error *error) {
    size_t entries = json_object_size(file->header);
    file->tensors = calloc(entries + 1, sizeof *file->tensors);
    if (!file->tensors) return error_memory(error, "the list of tensors", entries * sizeof *file->tensors);
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry) {
        if (!strcmp(name, "__metadata__")) continue;
        SafetensorsTensor *tensor = &file->tensors[file->count++];
        tensor->name = name;
        if (!json_is_object(entry)) {
            error_set(error, "%s: the header's entry \"%s\" is not an object", file->where, name);
            return error_hint(error, HINT_DAMAGED);
        }
        if (!read_type(file, entry, tensor, error) || !read_shape(file, entry, tensor, error) ||
            !read_place(file, entry, tensor, error))
            return false;
    }
    return true;
}

static int compare_places(const void *a, const void *b) {
    const SafetensorsTensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); // empty tensors first
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const SafetensorsTensor *)a)->name, ((const SafetensorsTensor *)b)->name);
}

// The tensors must cover the data exactly, in some order. Afterwards offsets count from the start of the file.
static bool check_cover(SafetensorsFile *file, size_t data_start, Error *error) {
    size_t end = 0, available = file->map.size - data_start;
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_places);
    for (size_t i = 0; i < file->count; i++) {
        SafetensorsTensor *tensor = &file->tensors[i];
        if (tensor->offset != end) {
            error_set(error, "%s: there is %s before tensor \"%s\" (offset %zu, the tensor before ends at %zu)",
                      file->where, tensor->offset > end ? "a hole" : "an overlap", tensor->name, tensor->offset, end);
            return error_hint(error, HINT_DAMAGED);
        }
        end += tensor->bytes; // offset + bytes fitted int64 in the header
        tensor->offset += data_start;
    }
    if (end > available) {
        error_set(error, "%s: the file is truncated: its tensors need %zu bytes, %zu are there", file->where, end,
                  available);
        return error_hint(error, HINT_DAMAGED);
    }
    if (end < available) {
        error_set(error, "%s: %zu bytes follow the last tensor", file->where, available - end);
        return error_hint(error, HINT_DAMAGED);
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_names);
    return true;
}

static bool parse(SafetensorsFile *file, Error *error) {
    uint64_t length;
    if (file->map.size < sizeof length) {
        error_set(error, "%s: not a safetensors file: it has only %zu bytes", file->where, file->map.size);
        return error_hint(error, HINT_DAMAGED);
    }
    memcpy(&length, file->map.data, sizeof length);
    size_t rest = file->map.size - sizeof length;
    if (length > rest) {
        error_set(error, "%s: the header should be %llu bytes long, but only %zu bytes follow", file->where,
                  (unsigned long long)length, rest);
        return error_hint(error, HINT_DAMAGED);
    }
    const char *header = (const char *)file->map.data + sizeof length;
    if (length > SAFETENSORS_HEADER_MAX || length == 0 || header[0] != '{') {
        error_set(error, "%s: not a safetensors file: it does not start with a header", file->where);
        return error_hint(error, HINT_DAMAGED);
    }
    file->header = json_parse(header, length, file->where, 1, 1, error);
    if (!file->header) {
        error_context(error, "safetensors header");
        return error_hint(error, HINT_DAMAGED);
    }
    return read_entries(file, error) && check_cover(file, sizeof length + length, error);
}

static bool parse_or_close(SafetensorsFile *file, const char *where, Error *error) {
    file->where = strdup(where);
    bool ok = file->where ? parse(file, error) : error_memory(error, "a file name", strlen(where));
    if (!ok) safetensors_close(file);
    return ok;
}

bool safetensors_open(SafetensorsFile *file, const char *path, Error *error) {
    *file = (SafetensorsFile){0};
    if (!file_map(&file->map, path, error)) return false;
    file->mapped = true;
    return parse_or_close(file, path, error);
}

bool safetensors_parse(SafetensorsFile *file, const void *data, size_t size, const char *where, Error *error) {
    *file = (SafetensorsFile){.map = {data, size}};
    return parse_or_close(file, where, error);
}

void safetensors_close(SafetensorsFile *file) {
    if (file->mapped) file_unmap(&file->map);
    free(file->where);
    free(file->tensors);
    json_decref(file->header);
    *file = (SafetensorsFile){0};
}

static int compare_name(const void *name, const void *tensor) {
    return strcmp(name, ((const SafetensorsTensor *)tensor)->name);
}

const SafetensorsTensor *safetensors_find(const SafetensorsFile *file, const char *name) {
    return bsearch(name, file->tensors, file->count, sizeof *file->tensors, compare_name);
}

const unsigned char *safetensors_data(const SafetensorsFile *file, const SafetensorsTensor *tensor) {
    return file->map.data + tensor->offset;
}

uint32_t safetensors_crc32(const SafetensorsFile *file, const SafetensorsTensor *tensor) {
    return (uint32_t)crc32_z(crc32(0, NULL, 0), safetensors_data(file, tensor), tensor->bytes);
}
