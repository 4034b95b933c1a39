// scratch_file.h - a file without a name that holds what memory cannot, read back a long run at a time.
//
// It is gone when it is freed, or when the process ends in any way. The kernel keeps as much of it in the page cache as
// there is room for, and takes that away when a program needs memory: it is never memory of the process.
//
// Any thread may call these at any time, but with a pool scratch_read and scratch_write are loops of it: for the thread
// that has the pool, outside its tasks.
#pragma once
#include "base/error.h"
#include "base/threads.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ScratchFile ScratchFile;

// A file of that many bytes in a folder, all of its disk space taken, so that a full disk is an error here and not
// later. A folder that lies in memory (tmpfs) is refused. threads is borrowed, and may be NULL: the calling thread does
// all. NULL with an error that says what the disk lacks; its hint names the option scratch_dir.
ScratchFile *scratch_create(const char *folder, uint64_t bytes, ThreadPool *threads, Error *error);
void scratch_free(ScratchFile *scratch); // NULL is allowed
uint64_t scratch_bytes(const ScratchFile *scratch);

// Copies [offset, offset + bytes) out of the file or into it; what was never written is unspecified. A range that is
// not inside the file is an error. What has been written lies on the disk when scratch_write returns: writing much
// leaves nothing behind that has to be written before memory is free again.
bool scratch_read(ScratchFile *scratch, void *to, uint64_t offset, size_t bytes, Error *error);
bool scratch_write(ScratchFile *scratch, const void *from, uint64_t offset, size_t bytes, Error *error);

// Advice, which never fails and changes no byte. A range is cut to the file.
// The kernel reads the range into the page cache from now on, while others compute; returns at once. Reading or
// forgetting any of the range ends what is left of that.
void scratch_will_read(ScratchFile *scratch, uint64_t offset, size_t bytes);
// The range's pages are given back to the kernel.
void scratch_forget(ScratchFile *scratch, uint64_t offset, size_t bytes);

#ifdef __cplusplus
}
#endif
