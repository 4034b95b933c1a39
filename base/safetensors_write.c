// safetensors_write.c - the streaming writer: the header first, then the tensors' bytes in the header's order.
#include "base/buffer.h"
#include "base/numbers.h"
#include "base/safetensors.h"
#include <inttypes.h>
#include <stdlib.h>
#include <zlib.h>

struct SafetensorsWriter {
    AtomicFile *file;
    char *path;
    SafetensorsEntry *entries;
    size_t count;
    size_t current; // the entry that is being written
    size_t written; // its bytes so far
};

static int compare_entries(const void *a, const void *b) {
    const SafetensorsEntry *x = a, *y = b;
    size_t x_size = safetensors_type_size(x->type), y_size = safetensors_type_size(y->type);
    if (x_size != y_size) return x_size > y_size ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool entry_bytes(SafetensorsEntry *entry, Error *error) {
    entry->bytes = safetensors_type_size(entry->type);
    for (int i = 0; i < entry->dimensions; i++)
        if (!size_multiply(entry->bytes, (size_t)entry->shape[i], &entry->bytes))
            return error_set(error, "tensor \"%s\" is too large to be written", entry->name);
    return true;
}

// A tensor's name as a JSON string. Names are few and short, so jansson's escaping is good enough.
static bool append_name(Buffer *header, const char *name, Error *error) {
    json_t *string = json_string(name);
    char *text = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    bool ok = text ? buffer_text(header, text, error)
                   : error_set(error, "tensor name \"%s\" cannot be written as JSON", name);
    free(text);
    json_decref(string);
    return ok;
}

static bool append_entry(Buffer *header, const SafetensorsEntry *entry, size_t begin, Error *error) {
    bool ok = buffer_byte(header, ',', error) && append_name(header, entry->name, error) &&
              buffer_format(header, error, ":{\"dtype\":\"%s\",\"shape\":[", safetensors_type_name(entry->type));
    for (int i = 0; ok && i < entry->dimensions; i++)
        ok = buffer_format(header, error, i ? ",%" PRId64 : "%" PRId64, entry->shape[i]);
    return ok && buffer_format(header, error, "],\"data_offsets\":[%zu,%zu]}", begin, begin + entry->bytes);
}

// Orders the entries and builds the length and the header; *data receives the bytes that will follow.
static bool build_header(Buffer *header, SafetensorsEntry *entries, size_t count, size_t *data, Error *error) {
    qsort(entries, count, sizeof *entries, compare_entries);
    uint64_t length = 0;
    if (!buffer_append(header, &length, sizeof length, error) ||
        !buffer_text(header, "{\"__metadata__\":{\"format\":\"pt\"}", error))
        return false;
    *data = 0;
    for (size_t i = 0; i < count; i++) {
        entries[i].crc32 = (uint32_t)crc32(0, NULL, 0);
        if (!entry_bytes(&entries[i], error) || !append_entry(header, &entries[i], *data, error)) return false;
        if (!size_add(*data, entries[i].bytes, data)) return error_set(error, "the tensors are too large for one file");
    }
    if (!buffer_byte(header, '}', error)) return false;
    while (header->size % 8)
        if (!buffer_byte(header, ' ', error)) return false;
    length = header->size - sizeof length;
    memcpy(header->data, &length, sizeof length);
    return true;
}

bool safetensors_file_size(SafetensorsEntry *entries, size_t count, uint64_t *bytes, Error *error) {
    Buffer header = BUFFER_EMPTY;
    size_t data;
    bool ok = build_header(&header, entries, count, &data, error);
    *bytes = (uint64_t)header.size + data;
    buffer_free(&header);
    return ok;
}

// Empty tensors are complete without a write.
static void skip_complete(SafetensorsWriter *writer) {
    while (writer->current < writer->count && writer->written == writer->entries[writer->current].bytes) {
        writer->current++;
        writer->written = 0;
    }
}

SafetensorsWriter *safetensors_create(const char *path, SafetensorsEntry *entries, size_t count, Error *error) {
    Buffer header = BUFFER_EMPTY;
    size_t data;
    SafetensorsWriter *writer = calloc(1, sizeof *writer);
    char *copy = strdup(path);
    if (!writer || !copy) {
        error_memory(error, "a writer", sizeof *writer);
        goto failed;
    }
    *writer = (SafetensorsWriter){.path = copy, .entries = entries, .count = count};
    if (!build_header(&header, entries, count, &data, error)) goto failed;
    writer->file = atomic_file_create(path, error);
    if (!writer->file || !atomic_file_write(writer->file, header.data, header.size, error)) goto failed;
    buffer_free(&header);
    skip_complete(writer);
    return writer;
failed:
    buffer_free(&header);
    if (writer) atomic_file_abandon(writer->file);
    free(copy);
    free(writer);
    return NULL;
}

bool safetensors_write(SafetensorsWriter *writer, const void *bytes, size_t size, Error *error) {
    if (size == 0) return true;
    if (writer->current == writer->count || size > writer->entries[writer->current].bytes - writer->written)
        return error_set(error, "%s: more bytes than the tensors hold were to be written", writer->path);
    SafetensorsEntry *entry = &writer->entries[writer->current];
    if (!atomic_file_write(writer->file, bytes, size, error)) return false;
    entry->crc32 = (uint32_t)crc32_z(entry->crc32, bytes, size);
    writer->written += size;
    skip_complete(writer);
    return true;
}

bool safetensors_finish(SafetensorsWriter *writer, Error *error) {
    if (writer->current < writer->count) {
        error_set(error, "%s: tensor \"%s\" was not written completely", writer->path,
                  writer->entries[writer->current].name);
        safetensors_abandon(writer);
        return false;
    }
    bool ok = atomic_file_commit(writer->file, error);
    free(writer->path);
    free(writer);
    return ok;
}

void safetensors_abandon(SafetensorsWriter *writer) {
    if (!writer) return;
    atomic_file_abandon(writer->file);
    free(writer->path);
    free(writer);
}
