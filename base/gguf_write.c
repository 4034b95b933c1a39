// gguf_write.c - see gguf_write.h. Numbers are little-endian, as on every host we run on.
#include "base/gguf_write.h"
#include <stdlib.h>

// ---- metadata ----

void gguf_metadata_free(GgufMetadata *metadata) {
    buffer_free(&metadata->bytes);
    *metadata = GGUF_METADATA_EMPTY;
}

static bool append_u32(Buffer *bytes, uint32_t value, Error *error) {
    return buffer_append(bytes, &value, sizeof value, error);
}

static bool append_u64(Buffer *bytes, uint64_t value, Error *error) {
    return buffer_append(bytes, &value, sizeof value, error);
}

static bool append_string(Buffer *bytes, const char *text, size_t size, Error *error) {
    return append_u64(bytes, size, error) && buffer_append(bytes, text, size, error);
}

// A key and the type of its value, or of its elements.
static bool start_value(GgufMetadata *metadata, const char *key, size_t size, uint32_t type, Error *error) {
    metadata->count++;
    return append_string(&metadata->bytes, key, size, error) && append_u32(&metadata->bytes, type, error);
}

bool gguf_put_integer(GgufMetadata *metadata, const char *key, uint32_t value, Error *error) {
    return start_value(metadata, key, strlen(key), GGUF_UINT32, error) && append_u32(&metadata->bytes, value, error);
}

bool gguf_put_number(GgufMetadata *metadata, const char *key, float value, Error *error) {
    return start_value(metadata, key, strlen(key), GGUF_FLOAT32, error) &&
           buffer_append(&metadata->bytes, &value, sizeof value, error);
}

bool gguf_put_boolean(GgufMetadata *metadata, const char *key, bool value, Error *error) {
    return start_value(metadata, key, strlen(key), GGUF_BOOL, error) && buffer_byte(&metadata->bytes, value, error);
}

bool gguf_put_string(GgufMetadata *metadata, const char *key, const char *text, Error *error) {
    return start_value(metadata, key, strlen(key), GGUF_STRING, error) &&
           append_string(&metadata->bytes, text, strlen(text), error);
}

bool gguf_put_array(GgufMetadata *metadata, const char *key, GgufValueType type, uint64_t count, Error *error) {
    return start_value(metadata, key, strlen(key), GGUF_ARRAY, error) && append_u32(&metadata->bytes, type, error) &&
           append_u64(&metadata->bytes, count, error);
}

bool gguf_put_element(GgufMetadata *metadata, const char *text, size_t size, Error *error) {
    return append_string(&metadata->bytes, text, size, error);
}

bool gguf_put_value(GgufMetadata *metadata, const GgufValue *value, Error *error) {
    uint32_t type = value->array ? GGUF_ARRAY : value->type;
    if (!start_value(metadata, value->key.data, value->key.size, type, error)) return false;
    if (value->array &&
        (!append_u32(&metadata->bytes, value->type, error) || !append_u64(&metadata->bytes, value->count, error)))
        return false;
    return buffer_append(&metadata->bytes, value->bytes, value->size, error);
}

// ---- the file ----

struct GgufWriter {
    AtomicFile *file;
    char *path;
    const GgufEntry *entries;
    size_t count;
    size_t alignment;
    size_t current; // the entry that is being written
    size_t written; // its bytes so far
};

static size_t padding(size_t bytes, size_t alignment) {
    return (alignment - bytes % alignment) % alignment;
}

static bool too_large(const GgufEntry *entry, Error *error) {
    return error_set(error, "tensor \"%s\" is too large to be written", entry->name);
}

static bool entry_bytes(GgufEntry *entry, Error *error) {
    entry->bytes = entry->type->block_bytes;
    for (int i = 0; i < entry->dimensions; i++) {
        bool row = i == entry->dimensions - 1;
        size_t extent = (size_t)(row ? entry->shape[i] / entry->type->block : entry->shape[i]);
        if (!size_multiply(entry->bytes, extent, &entry->bytes)) return too_large(entry, error);
    }
    return true;
}

static bool append_entry(Buffer *head, const GgufEntry *entry, size_t offset, Error *error) {
    bool ok = append_string(head, entry->name, strlen(entry->name), error) &&
              append_u32(head, (uint32_t)entry->dimensions, error);
    for (int i = entry->dimensions - 1; ok && i >= 0; i--) ok = append_u64(head, (uint64_t)entry->shape[i], error);
    return ok && append_u32(head, entry->type->type, error) && append_u64(head, offset, error);
}

// What precedes the data, its padding included; *data receives the bytes that will follow. Sets the entries' bytes.
static bool build_head(Buffer *head, const GgufMetadata *metadata, GgufEntry *entries, size_t count, size_t alignment,
                       size_t *data, Error *error) {
    if (!buffer_text(head, "GGUF", error) || !append_u32(head, 3, error) || !append_u64(head, count, error) ||
        !append_u64(head, metadata->count, error) ||
        !buffer_append(head, buffer_string(&metadata->bytes), metadata->bytes.size, error))
        return false;
    *data = 0;
    for (size_t i = 0; i < count; i++) {
        if (!entry_bytes(&entries[i], error) || !append_entry(head, &entries[i], *data, error)) return false;
        if (!size_add(*data, entries[i].bytes, data) || !size_add(*data, padding(*data, alignment), data))
            return too_large(&entries[i], error);
    }
    while (head->size % alignment)
        if (!buffer_byte(head, 0, error)) return false;
    return true;
}

bool gguf_file_size(const GgufMetadata *metadata, GgufEntry *entries, size_t count, size_t alignment, uint64_t *bytes,
                    Error *error) {
    Buffer head = BUFFER_EMPTY;
    size_t data = 0;
    bool ok = build_head(&head, metadata, entries, count, alignment, &data, error);
    *bytes = (uint64_t)head.size + data;
    buffer_free(&head);
    return ok;
}

GgufWriter *gguf_create(const char *path, const GgufMetadata *metadata, GgufEntry *entries, size_t count,
                        size_t alignment, Error *error) {
    Buffer head = BUFFER_EMPTY;
    size_t data;
    GgufWriter *writer = calloc(1, sizeof *writer);
    char *copy = strdup(path);
    if (!writer || !copy) {
        error_memory(error, "a writer", sizeof *writer);
        goto failed;
    }
    *writer = (GgufWriter){.path = copy, .entries = entries, .count = count, .alignment = alignment};
    if (!build_head(&head, metadata, entries, count, alignment, &data, error)) goto failed;
    writer->file = atomic_file_create(path, error);
    if (!writer->file || !atomic_file_write(writer->file, head.data, head.size, error)) goto failed;
    buffer_free(&head);
    return writer;
failed:
    buffer_free(&head);
    if (writer) atomic_file_abandon(writer->file);
    free(copy);
    free(writer);
    return NULL;
}

static bool write_padding(GgufWriter *writer, size_t size, Error *error) {
    static const char zeros[256] = {0};
    while (size) {
        size_t part = size < sizeof zeros ? size : sizeof zeros;
        if (!atomic_file_write(writer->file, zeros, part, error)) return false;
        size -= part;
    }
    return true;
}

bool gguf_write(GgufWriter *writer, const void *bytes, size_t size, Error *error) {
    if (size == 0) return true;
    if (writer->current == writer->count || size > writer->entries[writer->current].bytes - writer->written)
        return error_set(error, "%s: more bytes than the tensors hold were to be written", writer->path);
    const GgufEntry *entry = &writer->entries[writer->current];
    if (!atomic_file_write(writer->file, bytes, size, error)) return false;
    writer->written += size;
    if (writer->written < entry->bytes) return true;
    writer->current++;
    writer->written = 0;
    return write_padding(writer, padding(entry->bytes, writer->alignment), error);
}

bool gguf_finish(GgufWriter *writer, Error *error) {
    if (writer->current < writer->count) {
        error_set(error, "%s: tensor \"%s\" was not written completely", writer->path,
                  writer->entries[writer->current].name);
        gguf_abandon(writer);
        return false;
    }
    bool ok = atomic_file_commit(writer->file, error);
    free(writer->path);
    free(writer);
    return ok;
}

void gguf_abandon(GgufWriter *writer) {
    if (!writer) return;
    atomic_file_abandon(writer->file);
    free(writer->path);
    free(writer);
}
