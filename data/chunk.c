// chunk.c - see chunk.h.
#include "data/chunk.h"
#include "base/utf8.h"
#include <stdlib.h>
#include <string.h>

bool record_file_open(RecordFile *file, const DataSource *source, Error *error) {
    *file = (RecordFile){.source = source};
    if (source->format == FORMAT_PLAIN)
        file->plain = plain_stream_open(source->path, error);
    else
        file->json = json_stream_open(source->path, error);
    return file->plain || file->json;
}

void record_file_close(RecordFile *file) {
    plain_stream_close(file->plain);
    json_stream_close(file->json);
    *file = (RecordFile){0};
}

bool chunk_create(Chunk *chunk, const RecordEncoder *encoder, int threads, Error *error) {
    *chunk = (Chunk){.encoder = encoder, .threads = threads};
    chunk->units = calloc(CHUNK_UNITS, sizeof *chunk->units);
    chunk->records = calloc((size_t)threads, sizeof *chunk->records);
    if (chunk->units && chunk->records) return true;
    chunk_free(chunk);
    return error_memory(error, "reading the data set", CHUNK_UNITS * sizeof *chunk->units);
}

static void clear(Chunk *chunk) {
    for (int64_t i = 0; i < chunk->count; i++) {
        encoded_chat_free(&chunk->units[i].encoded);
        free(chunk->units[i].error);
    }
    chunk->count = 0;
    buffer_clear(&chunk->text);
}

void chunk_free(Chunk *chunk) {
    clear(chunk);
    for (int i = 0; chunk->records && i < chunk->threads; i++) record_free(&chunk->records[i]);
    free(chunk->records);
    free(chunk->units);
    buffer_free(&chunk->text);
    *chunk = (Chunk){0};
}

static bool read_unit(RecordFile *file, Buffer *text, Unit *unit, bool *found, Error *error) {
    if (file->json) return json_stream_next(file->json, text, &unit->place, found, error);
    unit->text = file->started ? TEXT_CONTINUES : TEXT_FIRST;
    file->started = true;
    return plain_stream_next(file->plain, text, &unit->place.line, found, error);
}

bool chunk_read(Chunk *chunk, RecordFile *file, int64_t limit, Error *error) {
    clear(chunk);
    chunk->source = file->source;
    while (chunk->count < CHUNK_UNITS && chunk->count < limit && chunk->text.size < CHUNK_BYTES) {
        Unit unit = {.start = chunk->text.size};
        bool found;
        if (!read_unit(file, &chunk->text, &unit, &found, error)) return false;
        if (!found) break;
        unit.size = chunk->text.size - unit.start;
        chunk->units[chunk->count++] = unit;
    }
    return true;
}

static RecordResult encode_text(const RecordEncoder *encoder, const char *text, size_t size, TextPlace place,
                                Unit *unit, Error *error) {
    unit->kind = RECORD_TEXT;
    return encoder->encode_text(encoder->context, text, size, place, &unit->encoded.tokens, error) ? RECORD_GOOD
                                                                                                   : RECORD_FAILED;
}

static RecordResult encode_json(const Chunk *chunk, const json_t *value, Record *record, Unit *unit, Error *error) {
    const RecordEncoder *encoder = chunk->encoder;
    RecordResult result = record_from_json(chunk->source->format, &chunk->source->keys, value, record, error);
    if (result == RECORD_GOOD) {
        unit->kind = record->kind;
        if (record->kind == RECORD_TEXT)
            result = encode_text(encoder, record->text, strlen(record->text), TEXT_FIRST, unit, error);
        else
            result = encoder->encode(encoder->context, record, &unit->encoded, error);
    }
    if (result == RECORD_FAILED) error_context(error, "%s:%lld", chunk->source->path, (long long)unit->place.line);
    return result;
}

static RecordResult encode_unit(const Chunk *chunk, Unit *unit, Record *record, Error *error) {
    const char *text = chunk->text.data + unit->start;
    if (chunk->source->format == FORMAT_PLAIN)
        return encode_text(chunk->encoder, text, unit->size, unit->text, unit, error);
    if (!utf8_valid(text, unit->size)) return record_bad(error, "invalid UTF-8");
    json_t *value = json_parse(text, unit->size, chunk->source->path, unit->place.line, unit->place.column, error);
    if (!value) return RECORD_FAILED;
    RecordResult result = encode_json(chunk, value, record, unit, error);
    json_decref(value);
    return result;
}

static void encode_task(void *context, int64_t index, int worker) {
    Chunk *chunk = context;
    Unit *unit = &chunk->units[index];
    Error error = {0};
    unit->result = encode_unit(chunk, unit, &chunk->records[worker], &error);
    if (unit->result == RECORD_GOOD) return;
    unit->error = malloc(sizeof error);
    if (unit->error) *unit->error = error;
}

void chunk_encode(Chunk *chunk, ThreadPool *pool) {
    thread_pool_run(pool, chunk->count, encode_task, chunk);
}
