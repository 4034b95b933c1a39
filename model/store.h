// store.h - the block store: all weights of a model as bf16 in our layout, one contiguous run per block.
//
// Model files are read once into it and never written. Who computes with weights asks with store_acquire and gives them
// back with store_release, so that where a block lies stays the store's secret:
//
//   resident   on the device
//   streamed   a decoder layer whose home is pinned host memory, or a scratch file: two buffers on the device hold the
//              one in use and the next one, which a stream of its own brings meanwhile
//   on host    E alone, whose weights never are on the device; the caller brings the rows that it needs
//
// Walking the layers up and down, the two buffers are filled 2 * streamed - 4 times: what the walk ends with is what
// the walk back begins with.
#pragma once
#include "base/scratch_file.h"
#include "kernels/arena.h"
#include "model/block.h"

// Where the blocks lie; chosen by the plan. All zeros: everything is resident.
typedef struct StorePlaces {
    int streamed;            // decoder layers that are streamed, evenly spaced among the others
    bool in_file;            // their home is a scratch file instead of pinned memory
    bool embedding_on_host;  // E is on the host
    const char *scratch_dir; // the folder of the scratch file; borrowed
    uint64_t cached;         // bytes of it that may stay in the page cache
} StorePlaces;

// One streamed layer's weights on the device.
typedef struct StreamBuffer {
    bf16 *memory;    // [layer elements]
    int block;       // whose weights are or will be there; -1: nobody's
    bool awaited;    // the compute stream has been told to wait for `arrived`
    bool used;       // `released` has been recorded, and the store's stream has not been told to wait for it
    bool leaving;    // changed weights are on their way home; the compute stream has not been told to wait for `gone`
    Event *arrived;  // in the store's stream: the weights are there
    Event *released; // in the compute stream: nothing queued before uses them later
    Event *gone;     // in the store's stream: changed weights have come home
} StreamBuffer;

// Pinned memory that a layer is read into from the scratch file, on its way to a buffer. Where the device is the host,
// it is read into the buffer itself.
typedef struct FileStage {
    bf16 *memory;  // [layer elements]
    Event *copied; // in the store's stream: the buffer has it
    bool used;     // `copied` has been recorded
} FileStage;

// In which order layers are acquired, so that the next one can be fetched; none: in no order, nothing is fetched ahead.
typedef enum { WALK_NONE = 0, WALK_UP = 1, WALK_DOWN = -1 } StoreWalk;

typedef struct BlockStore {
    Backend *backend; // borrowed
    BlockLayout layout;
    StorePlaces places;
    bool *streamed; // [block_count]
    bf16 **blocks;  // [block_count] device memory of resident blocks, else NULL
    bf16 **homes;   // [block_count] host memory of the others; NULL where the home is the file
    bf16 *staging;  // pinned memory for one block, when the device is not the host; else NULL
    StreamBuffer buffers[2];
    StoreWalk walk;
    Stream *stream;
    ScratchFile *file;
    uint64_t file_bytes;
    FileStage stages[2];
    int stage;      // that the next reading goes to
    int reading;    // the block that is being read from the file; 0: none
    uint64_t loads; // layers brought to a buffer so far
    // Called before the weights of a block are read where they lie, by store_acquire or by what it fetches ahead: who
    // changes them elsewhere brings them up to date. NULL: nobody does.
    void (*prepare)(void *context, int block);
    void *prepare_context;
    bool failed; // reading or writing the scratch file has failed; store_check tells it
    Error fault;
} BlockStore;

// Takes the memory of every block: of resident ones from the device arena, of the others' homes from the pinned one
// and, for E, from the host one; and staging from the pinned one (not where the device is the host: blocks are filled
// in place). places NULL: everything is resident. An arena that nothing is taken from may be NULL. Fails on overflow.
// Works on measuring arenas. The store's own tables are freed with store_free; the weights belong to the arenas.
bool store_create(BlockStore *store, Backend *backend, const BlockLayout *layout, const StorePlaces *places,
                  Arena *device, Arena *pinned, Arena *host, Error *error);
// Makes stream, events and scratch file; once, on real memory, before weights are filled in. Not needed where
// everything is resident.
bool store_open(BlockStore *store, Error *error);
void store_free(BlockStore *store); // also of a zeroed store

// false when the scratch file has failed; weights mean nothing from then on.
bool store_check(const BlockStore *store, Error *error);

// From here on layers are acquired in this order.
void store_walk(BlockStore *store, StoreWalk walk);
// The weights of a block, ready on the compute stream. Not of E when it is on the host.
bf16 *store_acquire(BlockStore *store, int block);
// The same for who will change them.
bf16 *store_acquire_to_change(BlockStore *store, int block);
// What reads or writes the block's weights has been queued on the compute stream. Every acquired block is released, and
// no more than one streamed layer is held at a time.
void store_release(BlockStore *store, int block);
// The same when it has changed them: a streamed block's home gets the new weights.
void store_release_changed(BlockStore *store, int block);

// Whether a block's weights are in no memory of the device.
bool store_is_resident(const BlockStore *store, int block);
// The host memory that a block is read from when it is needed on the device: its home, or what stands in for it.
// NULL for resident blocks and those in the file.
bf16 *store_home(const BlockStore *store, int block);
// Until the next call for the block, `memory` (pinned, with its weights) stands in for the home of a block that is in
// the file. NULL: the file has them again.
void store_lend(BlockStore *store, int block, bf16 *memory);
// The block's weights were changed in its home: what a buffer holds of it is old.
void store_home_changed(BlockStore *store, int block);

// Host memory of block_elements elements to fill with a block's weights; store_put_finish brings them to their place.
bf16 *store_put(BlockStore *store, int block);
void store_put_finish(BlockStore *store, int block);
// A block's weights in host memory, valid until the next store_put or store_get.
const bf16 *store_get(BlockStore *store, int block);
