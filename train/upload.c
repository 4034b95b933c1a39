// upload.c - see upload.h.
#include "train/upload.h"
#include <stdlib.h>
#include <string.h>

#define ARRAYS         8                                   // of a micro-batch
#define ARRAY_MULTIPLE (ARENA_ALIGNMENT / sizeof(int32_t)) // each array starts where an arena would let it start

// ---- memory ----

static int64_t padded(int64_t count) {
    return round_up(count, ARRAY_MULTIPLE);
}

bool upload_create(Upload *upload, Backend *backend, int64_t tokens, int64_t sweep, Arena *device, Arena *pinned,
                   Error *error) {
    *upload = (Upload){.backend = backend, .sweep = sweep};
    if (__builtin_mul_overflow(padded(tokens + 1) * ARRAYS, sweep, &upload->space)) upload->space = -1;
    upload->batches = calloc((size_t)sweep, sizeof *upload->batches);
    if (!upload->batches) return error_memory(error, "the table of a sweep", (size_t)sweep * sizeof(DeviceBatch));
    for (int i = 0; i < 2; i++) {
        upload->buffers[i].device = arena_take(device, upload->space, sizeof(int32_t));
        upload->buffers[i].host = arena_take(pinned, upload->space, sizeof(int32_t));
    }
    return true;
}

bool upload_open(Upload *upload, Error *error) {
    Backend *b = upload->backend;
    upload->stream = b->stream_create(b, error);
    bool ok = upload->stream != NULL;
    for (int i = 0; ok && i < 2; i++) {
        UploadBuffer *buffer = &upload->buffers[i];
        buffer->arrived = b->event_create(b, error);
        buffer->computed = buffer->arrived ? b->event_create(b, error) : NULL;
        ok = buffer->computed != NULL;
    }
    return ok;
}

void upload_free(Upload *upload) {
    Backend *b = upload->backend;
    if (upload->stream) b->synchronize(b, upload->stream);
    for (int i = 0; i < 2; i++) {
        UploadBuffer *buffer = &upload->buffers[i];
        if (buffer->arrived) b->event_free(b, buffer->arrived);
        if (buffer->computed) b->event_free(b, buffer->computed);
    }
    if (upload->stream) b->stream_free(b, upload->stream);
    free(upload->batches);
    *upload = (Upload){0};
}

// ---- a sweep ----

// Where the next array goes, in host and device memory alike.
typedef struct Packing {
    const UploadBuffer *buffer;
    int64_t used; // indices so far
} Packing;

// The array's place in device memory.
static const int32_t *pack(Packing *packing, const int32_t *from, int64_t count) {
    int64_t place = packing->used;
    memcpy(packing->buffer->host + place, from, (size_t)count * sizeof *from);
    packing->used += padded(count);
    return packing->buffer->device + place;
}

// The same with each id replaced by its place; the tail of a micro-batch has id 0, which may have none.
static const int32_t *pack_ids(Packing *packing, const int32_t *from, int64_t count, const int32_t *places) {
    if (!places) return pack(packing, from, count);
    int64_t start = packing->used;
    for (int64_t i = 0; i < count; i++) {
        int32_t place = places[from[i]];
        packing->buffer->host[start + i] = place < 0 ? 0 : place;
    }
    packing->used += padded(count);
    return packing->buffer->device + start;
}

static DeviceBatch pack_batch(Packing *packing, const MicroBatch *batch, int64_t multiple, int32_t pad,
                              const int32_t *places, bool place_ids) {
    DeviceBatch d = {
        .tokens = round_up(batch->used, multiple),
        .targets = batch->targets,
        .row_count = batch->row_count,
        .pad_row = batch->row_count,
    };
    for (int32_t r = 0; r < batch->row_count; r++)
        if (batch->rows[r] == pad) d.pad_row = r;
    d.ids = pack_ids(packing, batch->ids, d.tokens, place_ids ? places : NULL);
    d.layer.positions = pack(packing, batch->positions, d.tokens);
    d.layer.starts = pack(packing, batch->starts, batch->sequences + 1);
    d.layer.sequences = batch->sequences;
    d.target_rows = pack(packing, batch->target_rows, batch->targets);
    d.labels = pack(packing, batch->labels, batch->targets);
    d.rows = pack_ids(packing, batch->rows, batch->row_count, places);
    d.row_starts = pack(packing, batch->row_starts, batch->row_count + 1);
    d.row_tokens = pack(packing, batch->row_tokens, batch->used);
    return d;
}

const DeviceBatch *upload_begin(Upload *upload, const MicroBatch *batches, int64_t count, int32_t pad,
                                const int32_t *places, bool place_ids) {
    Backend *b = upload->backend;
    UploadBuffer *buffer = &upload->buffers[upload->current];
    Packing packing = {buffer, 0};
    if (buffer->used) b->event_synchronize(b, buffer->arrived);
    for (int64_t m = 0; m < count; m++)
        upload->batches[m] = pack_batch(&packing, &batches[m], b->token_multiple, pad, places, place_ids);
    if (buffer->used) b->event_wait(b, buffer->computed, upload->stream);
    b->copy(b, buffer->device, buffer->host, (size_t)packing.used * sizeof(int32_t), upload->stream);
    b->event_record(b, buffer->arrived, upload->stream);
    b->event_wait(b, buffer->arrived, NULL);
    return upload->batches;
}

void upload_end(Upload *upload) {
    UploadBuffer *buffer = &upload->buffers[upload->current];
    upload->backend->event_record(upload->backend, buffer->computed, NULL);
    buffer->used = true;
    upload->current = 1 - upload->current;
}
