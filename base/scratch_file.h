// scratch_file.h - a file without a name that holds what memory cannot, read back a long run at a time.
//
// It is gone when it is freed, or when the process ends in any way. It is made to be read whole, again and again: what
// has been read leaves the page cache at once, unless scratch_keep says how much may stay, so that reading never takes
// memory from anyone, and a control group (container) smaller than the file does not fill with its pages.
//
// Reading is fastest (O_DIRECT: no copy, no page cache, a quarter of the processor time) where `offset` in the file and
// the address `to` leave the same remainder by SCRATCH_ALIGN, both best 0. Everything else works as well.
//
// With a pool, scratch_read, scratch_write and scratch_end_read are loops of it: for the thread that has the pool,
// outside its tasks. One thread at a time begins and ends readings. Otherwise any thread may call these at any time.
#pragma once
#include "base/error.h"
#include "base/threads.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SCRATCH_ALIGN 4096

typedef struct ScratchFile ScratchFile;

// A file of that many bytes in a folder, all of its disk space taken, so that a full disk is an error here and not
// later. A folder that lies in memory (tmpfs) is refused. threads is borrowed, and may be NULL: the calling thread does
// all. NULL with an error that says what the disk lacks; its hint names the option scratch_dir.
ScratchFile *scratch_create(const char *folder, uint64_t bytes, ThreadPool *threads, Error *error);
void scratch_free(ScratchFile *scratch); // NULL is allowed; ends a reading that has begun
uint64_t scratch_bytes(const ScratchFile *scratch);

// Copies [offset, offset + bytes) out of the file or into it; what was never written is unspecified. A range that is
// not inside the file is an error. What has been written lies on the disk when scratch_write returns: writing much
// leaves nothing behind that has to be written before memory is free again.
bool scratch_read(ScratchFile *scratch, void *to, uint64_t offset, size_t bytes, Error *error);
bool scratch_write(ScratchFile *scratch, const void *from, uint64_t offset, size_t bytes, Error *error);

// The same reading while others compute: begin returns at once, a thread of the file's own reads, and end waits until
// all is there, helping with what is left. One at a time: end comes before the next begin. `to` is not to be touched in
// between.
bool scratch_begin_read(ScratchFile *scratch, void *to, uint64_t offset, size_t bytes, Error *error);
bool scratch_end_read(ScratchFile *scratch, Error *error);

// How many bytes of the file may stay in the page cache when they have been read or written: 0 at first, and never more
// than there surely is room for, see free_memory(). They are spread evenly, so that each range has its share and the
// disk has equally much to do for each.
void scratch_keep(ScratchFile *scratch, uint64_t bytes);

// Advice, which never fails and changes no byte. A range is cut to the file.
// For who has no memory to begin reading to: the kernel reads the range into the page cache from now on; returns at
// once. Reading or forgetting any of the range ends what is left of that.
void scratch_will_read(ScratchFile *scratch, uint64_t offset, size_t bytes);
// The range's pages leave the page cache, also those that might stay.
void scratch_forget(ScratchFile *scratch, uint64_t offset, size_t bytes);

#ifdef __cplusplus
}
#endif
