// scratch_internal.h - what base/scratch_*.c share. See scratch_file.h.
#pragma once
#include "base/scratch_file.h"
#include <pthread.h>
#include <stdatomic.h>

#define SCRATCH_PIECE  ((size_t)4 << 20)   // what a thread reads or writes at a time; lies at a multiple of it
#define SCRATCH_ADVICE ((size_t)128 << 10) // of WILLNEED: no longer than any disk's read-ahead
#define SCRATCH_RANGES 8                   // that can be announced at a time; more are ignored

// A range that has been announced and not been read yet.
typedef struct ScratchRange {
    uint64_t offset, end;
    uint64_t next; // where the kernel is to go on reading ahead
} ScratchRange;

// A range on its way to or from memory; threads take its pieces one after the other.
typedef struct ScratchTransfer {
    ScratchFile *scratch;
    unsigned char *to;         // of a read, else NULL
    const unsigned char *from; // of a write, else NULL
    uint64_t offset, end;
    bool announced; // it may lie in the page cache
    int64_t pieces;
    atomic_int_fast64_t next; // the next piece to take
    atomic_int problem;       // errno of the first piece that failed, 0: none
} ScratchTransfer;

struct ScratchFile {
    int file;
    int direct;             // the same file, read past the page cache; -1: the file system has no such thing
    atomic_bool use_direct; // false: it has, but not for this memory
    uint64_t bytes;
    char *folder; // for messages
    ThreadPool *threads;
    atomic_size_t kept; // of each piece: as many of its first bytes may stay in the page cache
    // ---- the thread that reads ahead; what follows is the mutex's ----
    pthread_t reader;
    pthread_mutex_t mutex;
    pthread_cond_t posted;               // there is something to do, or stop
    pthread_cond_t finished;             // the thread is no longer inside or advising
    ScratchRange ranges[SCRATCH_RANGES]; // announced, the oldest first
    int count;
    ScratchTransfer begun; // of scratch_begin_read
    bool has_begun;
    bool inside;   // the thread is at pieces of begun
    bool advising; // the thread tells the kernel of a piece of an announced range
    bool started, stop;
};

// Tells the kernel to read a range ahead, all of it; may wait for places in the disk's queue.
void scratch_will_need(int file, uint64_t offset, uint64_t bytes);

// Ends the announcement of every range that has bytes in common with this one; true when there was one.
bool scratch_end_announcement(ScratchFile *scratch, uint64_t offset, uint64_t end);

// What a loop over a transfer's pieces does; returns when none is left to take (others may still be at theirs).
void scratch_take_pieces(ScratchTransfer *transfer);

// The body of the thread that reads ahead; argument is the ScratchFile.
void *scratch_read_ahead(void *argument);
