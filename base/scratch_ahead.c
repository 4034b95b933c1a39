// scratch_ahead.c - the thread of scratch_file.h that reads while others compute.
//
// How the kernel is made to read ahead. posix_fadvise(WILLNEED) of a long range reads only its first piece, as long as
// the disk's read-ahead (often 128 KiB; measured: 8 MiB of 88 MiB where it is 8 MiB; readahead() is no different). In
// pieces of 128 KiB all of it is read, but the calls wait for places in the disk's queue: 88 MiB took 40 to 70 ms,
// about as long as reading them takes. So the thread makes these calls. It does not read by itself what has only been
// announced: that would cost a copy, and on a file system without a page cache it would read everything twice, where
// advice does nothing.
#include "base/scratch_internal.h"
#include <fcntl.h>

void scratch_will_need(int file, uint64_t offset, uint64_t bytes) {
    for (uint64_t done = 0; done < bytes; done += SCRATCH_ADVICE) {
        uint64_t left = bytes - done;
        posix_fadvise(file, (off_t)(offset + done), (off_t)(left < SCRATCH_ADVICE ? left : SCRATCH_ADVICE),
                      POSIX_FADV_WILLNEED);
    }
}

bool scratch_end_announcement(ScratchFile *scratch, uint64_t offset, uint64_t end) {
    pthread_mutex_lock(&scratch->mutex);
    int kept = 0, before = scratch->count;
    for (int i = 0; i < before; i++) {
        ScratchRange range = scratch->ranges[i];
        if (range.end <= offset || range.offset >= end) scratch->ranges[kept++] = range;
    }
    scratch->count = kept;
    // what is on its way now would come into the page cache after it has been forgotten
    while (scratch->advising) pthread_cond_wait(&scratch->finished, &scratch->mutex);
    pthread_mutex_unlock(&scratch->mutex);
    return kept < before;
}

// ---- the thread ----

// Takes the next piece of the oldest announced range that the kernel has not been told of; the mutex is held.
static bool next_advice(ScratchFile *scratch, uint64_t *offset, uint64_t *bytes) {
    for (int i = 0; i < scratch->count; i++) {
        ScratchRange *range = &scratch->ranges[i];
        if (range->next == range->end) continue;
        uint64_t left = range->end - range->next;
        *offset = range->next;
        *bytes = left < SCRATCH_ADVICE ? left : SCRATCH_ADVICE;
        range->next += *bytes;
        return true;
    }
    return false;
}

static bool has_pieces(ScratchFile *scratch) {
    ScratchTransfer *begun = &scratch->begun;
    return scratch->has_begun && atomic_load(&begun->next) < begun->pieces && !atomic_load(&begun->problem);
}

void *scratch_read_ahead(void *argument) {
    ScratchFile *scratch = argument;
    uint64_t offset, bytes;
    pthread_mutex_lock(&scratch->mutex);
    while (!scratch->stop) {
        if (has_pieces(scratch)) {
            scratch->inside = true;
            pthread_mutex_unlock(&scratch->mutex);
            scratch_take_pieces(&scratch->begun);
            pthread_mutex_lock(&scratch->mutex);
            scratch->inside = false;
            pthread_cond_broadcast(&scratch->finished);
        } else if (next_advice(scratch, &offset, &bytes)) {
            scratch->advising = true;
            pthread_mutex_unlock(&scratch->mutex);
            scratch_will_need(scratch->file, offset, bytes);
            pthread_mutex_lock(&scratch->mutex);
            scratch->advising = false;
            pthread_cond_broadcast(&scratch->finished);
        } else {
            pthread_cond_wait(&scratch->posted, &scratch->mutex);
        }
    }
    pthread_mutex_unlock(&scratch->mutex);
    return NULL;
}

// ---- advice ----

// Where [offset, offset + bytes) ends when it is cut to the file.
static uint64_t cut_end(const ScratchFile *scratch, uint64_t offset, size_t bytes) {
    if (offset > scratch->bytes) return offset;
    return bytes < scratch->bytes - offset ? offset + bytes : scratch->bytes;
}

void scratch_will_read(ScratchFile *scratch, uint64_t offset, size_t bytes) {
    uint64_t end = cut_end(scratch, offset, bytes);
    if (end == offset) return;
    pthread_mutex_lock(&scratch->mutex);
    if (scratch->count < SCRATCH_RANGES) scratch->ranges[scratch->count++] = (ScratchRange){offset, end, offset};
    pthread_cond_signal(&scratch->posted);
    pthread_mutex_unlock(&scratch->mutex);
}

void scratch_forget(ScratchFile *scratch, uint64_t offset, size_t bytes) {
    uint64_t end = cut_end(scratch, offset, bytes);
    if (end == offset) return; // a length of 0 would mean all that follows
    scratch_end_announcement(scratch, offset, end);
    posix_fadvise(scratch->file, (off_t)offset, (off_t)(end - offset), POSIX_FADV_DONTNEED);
}
