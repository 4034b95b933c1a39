// store.c - see store.h.
#include "model/store.h"
#include "model/uses.h"
#include <stdlib.h>
#include <string.h>

// ---- memory ----

static size_t block_bytes(const BlockStore *store, int block) {
    return (size_t)block_elements(&store->layout, block) * sizeof(bf16);
}

static size_t layer_bytes(const BlockStore *store) {
    return (size_t)store->layout.layer.elements * sizeof(bf16);
}

static int buffer_count(const BlockStore *store) {
    return store->places.streamed < 2 ? store->places.streamed : 2;
}

// Streamed layers evenly among the others, so that those give each of them the same time to arrive.
static void choose_streamed(BlockStore *store) {
    int64_t layers = store->layout.layers, streamed = store->places.streamed;
    for (int64_t i = 0; i < streamed; i++)
        store->streamed[block_of_layer((int)((2 * i + 1) * layers / (2 * streamed)))] = true;
}

static void take_block(BlockStore *store, int block, Arena *device, Arena *pinned, Arena *host) {
    int last = block_count(&store->layout) - 1;
    int64_t elements = block_elements(&store->layout, block);
    int use = block == 0 ? USE_EMBEDDING : block == last ? USE_HEAD : USE_LAYERS;
    if (store->streamed[block]) {
        pinned->use = use;
        if (!store->places.in_file) store->homes[block] = arena_take(pinned, elements, sizeof(bf16));
    } else if (block == 0 && store->places.embedding_on_host) {
        host->use = use;
        store->homes[block] = arena_take(host, elements, sizeof(bf16));
    } else {
        device->use = use;
        store->blocks[block] = arena_take(device, elements, sizeof(bf16));
    }
}

// Room of a layer in the file, and for one: where both begin alike, the disk writes to memory by itself.
static uint64_t file_stride(const BlockStore *store) {
    return (layer_bytes(store) + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

static bf16 *take_layer(const BlockStore *store, Arena *arena) {
    int64_t elements = store->layout.layer.elements;
    if (!store->places.in_file) return arena_take(arena, elements, sizeof(bf16));
    uintptr_t place = (uintptr_t)arena_take(arena, elements + SCRATCH_ALIGN / (int64_t)sizeof(bf16), sizeof(bf16));
    return (bf16 *)((place + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN);
}

static void take_buffers(BlockStore *store, Arena *device, Arena *pinned) {
    bool staged = !store->backend->unified;
    int64_t largest = 0;
    device->use = USE_STREAM_BUFFERS;
    if (pinned) pinned->use = USE_STREAM_BUFFERS;
    for (int i = 0; i < 2; i++) {
        store->buffers[i].block = -1;
        if (i >= buffer_count(store)) continue;
        store->buffers[i].memory = take_layer(store, device);
        if (staged && store->places.in_file) store->stages[i].memory = take_layer(store, pinned);
    }
    for (int block = 0; block < block_count(&store->layout); block++)
        if (!store->homes[block] && block_elements(&store->layout, block) > largest)
            largest = block_elements(&store->layout, block);
    if (staged && largest > 0) store->staging = arena_take(pinned, largest, sizeof(bf16));
    if (store->places.in_file) store->file_bytes = (uint64_t)store->places.streamed * file_stride(store);
}

bool store_create(BlockStore *store, Backend *backend, const BlockLayout *layout, const StorePlaces *places,
                  Arena *device, Arena *pinned, Arena *host, Error *error) {
    size_t count = (size_t)block_count(layout);
    *store = (BlockStore){.backend = backend, .layout = *layout};
    if (places) store->places = *places;
    store->streamed = calloc(count, sizeof *store->streamed);
    store->blocks = calloc(count, sizeof *store->blocks);
    store->homes = calloc(count, sizeof *store->homes);
    if (!store->streamed || !store->blocks || !store->homes) {
        store_free(store);
        return error_memory(error, "the table of blocks", count * 3 * sizeof *store->blocks);
    }
    if (store->places.streamed > 0) choose_streamed(store);
    for (int block = 0; block < (int)count; block++) take_block(store, block, device, pinned, host);
    take_buffers(store, device, pinned);
    if (device->overflow || (pinned && pinned->overflow) || (host && host->overflow)) {
        store_free(store);
        return error_set(error, "the blocks do not fit their arena");
    }
    return true;
}

bool store_open(BlockStore *store, Error *error) {
    Backend *b = store->backend;
    if (store->places.streamed == 0) return true;
    store->stream = b->stream_create(b, error);
    bool ok = store->stream != NULL;
    for (int i = 0; ok && i < buffer_count(store); i++) {
        store->buffers[i].arrived = b->event_create(b, error);
        store->buffers[i].released = store->buffers[i].arrived ? b->event_create(b, error) : NULL;
        store->buffers[i].gone = store->buffers[i].released ? b->event_create(b, error) : NULL;
        ok = store->buffers[i].gone != NULL;
        if (!ok || !store->stages[i].memory) continue;
        store->stages[i].copied = b->event_create(b, error);
        ok = store->stages[i].copied != NULL;
    }
    if (!ok || !store->places.in_file) return ok;
    store->file = scratch_create(store->places.scratch_dir, store->file_bytes, b->threads, error);
    if (store->file) scratch_keep(store->file, store->places.cached);
    return store->file != NULL;
}

void store_free(BlockStore *store) {
    Backend *b = store->backend;
    if (store->stream) b->synchronize(b, store->stream);
    for (int i = 0; i < 2; i++) {
        if (store->buffers[i].arrived) b->event_free(b, store->buffers[i].arrived);
        if (store->buffers[i].released) b->event_free(b, store->buffers[i].released);
        if (store->buffers[i].gone) b->event_free(b, store->buffers[i].gone);
        if (store->stages[i].copied) b->event_free(b, store->stages[i].copied);
    }
    if (store->stream) b->stream_free(b, store->stream);
    scratch_free(store->file);
    free(store->streamed);
    free(store->blocks);
    free(store->homes);
    *store = (BlockStore){0};
}

// ---- the scratch file ----

static uint64_t file_offset(const BlockStore *store, int block) {
    uint64_t before = 0;
    for (int other = 1; other < block; other++) before += store->streamed[other];
    return before * file_stride(store);
}

static bool is_in_file(const BlockStore *store, int block) {
    return store->places.in_file && store->streamed[block] && !store->homes[block];
}

// The first failure is kept.
static void note(BlockStore *store, bool ok, const Error *error) {
    if (ok || store->failed) return;
    store->failed = true;
    store->fault = *error;
}

static void end_reading(BlockStore *store) {
    Error error;
    if (store->reading) note(store, scratch_end_read(store->file, &error), &error);
    store->reading = 0;
}

static void begin_reading(BlockStore *store, int block, bf16 *to) {
    Error error;
    end_reading(store);
    bool ok = scratch_begin_read(store->file, to, file_offset(store, block), layer_bytes(store), &error);
    note(store, ok, &error);
    store->reading = ok ? block : 0;
}

// Into the stage whose turn it is, as soon as what was there before has been copied.
static void begin_staging(BlockStore *store, int block) {
    FileStage *stage = &store->stages[store->stage];
    if (stage->used) store->backend->event_synchronize(store->backend, stage->copied);
    begin_reading(store, block, stage->memory);
}

static void read_file(BlockStore *store, int block, bf16 *to) {
    Error error;
    end_reading(store);
    note(store, scratch_read(store->file, to, file_offset(store, block), layer_bytes(store), &error), &error);
}

static void write_file(BlockStore *store, int block, const bf16 *from) {
    Error error;
    end_reading(store);
    note(store, scratch_write(store->file, from, file_offset(store, block), layer_bytes(store), &error), &error);
}

bool store_check(const BlockStore *store, Error *error) {
    if (store->failed) *error = store->fault;
    return !store->failed;
}

// ---- streaming ----

void store_walk(BlockStore *store, StoreWalk walk) {
    store->walk = walk;
}

// The streamed block that the walk comes to after `block`; 0: none.
static int next_streamed(const BlockStore *store, int block) {
    if (store->walk == WALK_NONE || block == 0) return 0;
    for (int next = block + (int)store->walk; next >= 1 && next <= store->layout.layers; next += (int)store->walk)
        if (store->streamed[next]) return next;
    return 0;
}

static StreamBuffer *buffer_of(BlockStore *store, int block) {
    for (int i = 0; i < 2; i++)
        if (store->buffers[i].memory && store->buffers[i].block == block) return &store->buffers[i];
    return NULL;
}

static void prepare(BlockStore *store, int block) {
    if (store->prepare) store->prepare(store->prepare_context, block);
}

// Out of the file: into the buffer, or by way of a stage, which was begun ahead if the walk came as expected.
static void load_from_file(BlockStore *store, StreamBuffer *buffer, int block) {
    Backend *b = store->backend;
    FileStage *stage = &store->stages[store->stage];
    if (!stage->memory) { // the device is the host
        begin_reading(store, block, buffer->memory);
        return;
    }
    if (store->reading != block) begin_staging(store, block);
    end_reading(store);
    b->copy(b, buffer->memory, stage->memory, layer_bytes(store), store->stream);
    b->event_record(b, stage->copied, store->stream);
    stage->used = true;
    if (store->stages[1 - store->stage].memory) store->stage = 1 - store->stage;
    int next = next_streamed(store, block);
    if (next && is_in_file(store, next)) begin_staging(store, next);
}

// What the buffer held is given up; the weights of `block` come as soon as nobody uses it any more.
static void load(BlockStore *store, StreamBuffer *buffer, int block) {
    Backend *b = store->backend;
    prepare(store, block);
    if (buffer->used) b->event_wait(b, buffer->released, store->stream);
    if (store->homes[block])
        b->copy(b, buffer->memory, store->homes[block], layer_bytes(store), store->stream);
    else
        load_from_file(store, buffer, block);
    b->event_record(b, buffer->arrived, store->stream);
    buffer->block = block;
    buffer->used = buffer->awaited = buffer->leaving = false;
    store->loads++;
}

// The block is in no buffer: it comes now, into the one that the walk does not need next, and the next one after it.
static StreamBuffer *fetch(BlockStore *store, int block) {
    int next = next_streamed(store, block);
    StreamBuffer *first = &store->buffers[0], *second = &store->buffers[1];
    bool keep_first = second->memory && next && first->block == next;
    StreamBuffer *buffer = keep_first ? second : first;
    load(store, buffer, block);
    if (next && second->memory && !buffer_of(store, next)) load(store, keep_first ? first : second, next);
    return buffer;
}

bf16 *store_acquire(BlockStore *store, int block) {
    if (!store->streamed[block]) {
        prepare(store, block);
        return store->blocks[block];
    }
    StreamBuffer *buffer = buffer_of(store, block);
    if (!buffer) buffer = fetch(store, block);
    if (store->reading == block && !store->stages[0].memory) end_reading(store);
    if (!buffer->awaited) store->backend->event_wait(store->backend, buffer->arrived, NULL);
    buffer->awaited = true;
    return buffer->memory;
}

bf16 *store_acquire_to_change(BlockStore *store, int block) {
    bf16 *weights = store_acquire(store, block);
    StreamBuffer *buffer = store->streamed[block] ? buffer_of(store, block) : NULL;
    if (buffer && buffer->leaving) store->backend->event_wait(store->backend, buffer->gone, NULL);
    if (buffer) buffer->leaving = false;
    return weights;
}

// The buffer's block is not needed any more: what the walk comes to after the layers that are here comes there.
static void fetch_next(BlockStore *store, StreamBuffer *buffer) {
    int next = next_streamed(store, buffer->block);
    if (next && buffer_of(store, next)) next = next_streamed(store, next);
    if (next && !buffer_of(store, next)) load(store, buffer, next);
}

void store_release(BlockStore *store, int block) {
    StreamBuffer *buffer = store->streamed[block] ? buffer_of(store, block) : NULL;
    if (!buffer) return;
    store->backend->event_record(store->backend, buffer->released, NULL);
    buffer->used = true;
    fetch_next(store, buffer);
}

// The changed weights go home, or to the file by way of the staging memory.
static void send_home(BlockStore *store, StreamBuffer *buffer) {
    Backend *b = store->backend;
    bf16 *home = store->homes[buffer->block], *to = home ? home : store->staging;
    b->event_record(b, buffer->released, NULL);
    b->event_wait(b, buffer->released, store->stream);
    buffer->used = false;
    if (to) b->copy(b, to, buffer->memory, layer_bytes(store), store->stream);
    if (home) {
        b->event_record(b, buffer->gone, store->stream);
        buffer->leaving = true;
    } else {
        b->synchronize(b, store->stream);
        write_file(store, buffer->block, to ? to : buffer->memory);
    }
}

void store_release_changed(BlockStore *store, int block) {
    StreamBuffer *buffer = store->streamed[block] ? buffer_of(store, block) : NULL;
    if (!buffer) return;
    send_home(store, buffer);
    fetch_next(store, buffer);
}

// ---- homes ----

bool store_is_resident(const BlockStore *store, int block) {
    return store->blocks[block] != NULL;
}

bf16 *store_home(const BlockStore *store, int block) {
    return store->homes[block];
}

void store_home_changed(BlockStore *store, int block) {
    StreamBuffer *buffer = store->streamed[block] ? buffer_of(store, block) : NULL;
    if (buffer) buffer->block = -1;
}

void store_lend(BlockStore *store, int block, bf16 *memory) {
    if (!memory) write_file(store, block, store->homes[block]);
    store->homes[block] = memory;
}

// ---- filling and reading ----

// Host memory through which a block that has none of its own is filled and read; a buffer where the device is the host.
static bf16 *through(BlockStore *store, int block) {
    if (store->homes[block]) return store->homes[block];
    if (store->staging) return store->staging;
    if (!is_in_file(store, block)) return store->blocks[block];
    store->buffers[0].block = -1;
    return store->buffers[0].memory;
}

// Nothing reads or writes homes and buffers any more.
static void settle(BlockStore *store) {
    if (store->stream) store->backend->synchronize(store->backend, store->stream);
}

bf16 *store_put(BlockStore *store, int block) {
    settle(store);
    return through(store, block);
}

void store_put_finish(BlockStore *store, int block) {
    Backend *b = store->backend;
    if (is_in_file(store, block)) write_file(store, block, through(store, block));
    if (store->streamed[block]) store_home_changed(store, block);
    if (!store->blocks[block] || !store->staging) return;
    b->copy(b, store->blocks[block], store->staging, block_bytes(store, block), NULL);
    b->synchronize(b, NULL);
}

const bf16 *store_get(BlockStore *store, int block) {
    Backend *b = store->backend;
    prepare(store, block);
    settle(store);
    bf16 *memory = through(store, block);
    if (is_in_file(store, block)) read_file(store, block, memory);
    if (!store->blocks[block] || !store->staging) return memory;
    b->copy(b, store->staging, store->blocks[block], block_bytes(store, block), NULL);
    b->synchronize(b, NULL);
    return store->staging;
}
