// upload.h - the indices of micro-batches on their way to the device, a sweep at a time.
//
// A sweep's indices are packed into pinned memory and copied on a stream of their own, so that they travel while the
// device still computes the sweep before. There are two buffers: what is packed next goes where the sweep before the
// last one was. Events keep the three apart who touch a buffer: the host packs when the buffer's last copy has ended,
// the copy begins when its last sweep has been computed, the sweep begins when its copy has ended.
#pragma once
#include "data/batch.h"
#include "kernels/arena.h"
#include "model/layer.h"

// One micro-batch's indices in device memory, with the host's knowledge of their extents.
typedef struct DeviceBatch {
    int64_t tokens;             // T of this micro-batch: used tokens rounded up to the backend's multiple
    int64_t targets;            // rows with a label
    int64_t row_count;          // distinct ids
    int64_t pad_row;            // where the padding token is among them; row_count when it did not occur
    LayerTokens layer;          // positions, starts, sequences
    const int32_t *ids;         // [T]; as upload_begin says, as `rows`
    const int32_t *target_rows; // [targets]
    const int32_t *labels;      // [targets]
    const int32_t *rows;        // [row_count], see MicroBatch
    const int32_t *row_starts;  // [row_count + 1]
    const int32_t *row_tokens;  // [used]
} DeviceBatch;

typedef struct UploadBuffer {
    int32_t *host;   // [space] pinned
    int32_t *device; // [space]
    Event *arrived;  // in the upload's stream: the copy has ended
    Event *computed; // in the compute stream: the sweep has read it for the last time
    bool used;       // both events have been recorded
} UploadBuffer;

typedef struct Upload {
    Backend *backend; // borrowed
    int64_t space;    // indices of a buffer: what `sweep` full micro-batches need
    int64_t sweep;    // micro-batches at a time
    Stream *stream;
    UploadBuffer buffers[2];
    int current;          // the buffer of the sweep that is begun next, or being computed
    DeviceBatch *batches; // [sweep]
} Upload;

// Takes the buffers for sweeps of up to `sweep` micro-batches of `tokens` capacity. Measuring arenas are fine; their
// overflow flags tell of failure. false without memory for the table. End with upload_free.
bool upload_create(Upload *upload, Backend *backend, int64_t tokens, int64_t sweep, Arena *device, Arena *pinned,
                   Error *error);
void upload_free(Upload *upload); // waits for copies under way; also of a zeroed upload
// Makes stream and events; once, before the first sweep.
bool upload_open(Upload *upload, Error *error);

// Packs `count` micro-batches and queues their copy; the compute stream waits for it. The caller's memory is free for
// other use on return. pad: the padding token's id, -1 when there is none. places: [V] numbers that stand for the ids
// in `rows` and, with place_ids, in `ids`, ascending with them; NULL: the ids themselves. The result is valid until
// upload_end.
const DeviceBatch *upload_begin(Upload *upload, const MicroBatch *batches, int64_t count, int32_t pad,
                                const int32_t *places, bool place_ids);
// All that reads the sweep's indices has been queued on the compute stream.
void upload_end(Upload *upload);
