// scratch_file.c - see scratch_file.h.
//
// How the kernel is made to read ahead. posix_fadvise(WILLNEED) of a long range reads only its first piece, as long as
// the disk's read-ahead (often 128 KiB; measured: 8 MiB of 88 MiB where it is 8 MiB; readahead() is no different). In
// pieces of 128 KiB all of it is read, but the calls wait for places in the disk's queue: 88 MiB took 40 to 70 ms,
// about as long as reading them takes. So a thread makes these calls. It does not read by itself: that would cost a
// copy, and on a file system without a page cache it would read everything twice, where advice does nothing.
//
// How much stays dirty. Writeback of a memory control group is not limited by the group's size everywhere (never with
// cgroup v1), and a group full of dirty pages waits or is killed. So each piece is on the disk before its thread goes
// on to the next: dirty is at most one piece for each thread.
#include "base/scratch_file.h"
#include "base/files.h"
#include "base/numbers.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PIECE        ((size_t)4 << 20)   // what one thread reads or writes at a time
#define ADVICE       ((size_t)128 << 10) // of WILLNEED: no longer than any disk's read-ahead
#define RANGES       8                   // that can wait to be read ahead; more are ignored
#define TMPFS_MAGIC_ 0x01021994          // of statfs: file systems that lie in memory
#define RAMFS_MAGIC_ 0x858458f6

typedef struct Range {
    uint64_t offset, end;
} Range;

struct ScratchFile {
    int file;
    uint64_t bytes;
    char *folder; // for messages
    ThreadPool *threads;
    // ---- reading ahead ----
    pthread_t reader;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    Range ranges[RANGES]; // those still to be read, the oldest first
    int count;
    bool started, stop;
};

// ---- reading and writing ----

typedef struct Transfer {
    ScratchFile *scratch;
    unsigned char *to;         // of a read, else NULL
    const unsigned char *from; // of a write, else NULL
    uint64_t offset;
    size_t bytes;
    atomic_int problem; // errno of the first piece that failed, 0: none
} Transfer;

static void will_need(int file, uint64_t offset, uint64_t bytes) {
    for (uint64_t done = 0; done < bytes; done += ADVICE)
        posix_fadvise(file, (off_t)(offset + done), (off_t)(bytes - done < ADVICE ? bytes - done : ADVICE),
                      POSIX_FADV_WILLNEED);
}

// The whole piece is in flight at once, whatever the read-ahead, which pieces read side by side confuse.
static int read_piece(int file, unsigned char *to, uint64_t offset, size_t bytes) {
    will_need(file, offset, bytes);
    while (bytes) {
        ssize_t got = pread(file, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) return EIO; // the file has been cut by someone else
        to += got, offset += (uint64_t)got, bytes -= (size_t)got;
    }
    return 0;
}

static int write_piece(int file, const unsigned char *from, uint64_t offset, size_t bytes) {
    uint64_t first = offset;
    size_t whole = bytes;
    while (bytes) {
        ssize_t put = pwrite(file, from, bytes, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return errno;
        from += put, offset += (uint64_t)put, bytes -= (size_t)put;
    }
    int flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (sync_file_range(file, (off_t)first, (off_t)whole, (unsigned)flags) == 0) return 0;
    if (errno != ENOSYS && errno != EINVAL && errno != ESPIPE && errno != EOPNOTSUPP) return errno;
    return fdatasync(file) == 0 ? 0 : errno;
}

static void transfer_piece(void *context, int64_t index, int worker) {
    (void)worker;
    Transfer *transfer = context;
    if (atomic_load(&transfer->problem)) return;
    size_t start = (size_t)index * PIECE, left = transfer->bytes - start, bytes = left < PIECE ? left : PIECE;
    int file = transfer->scratch->file;
    uint64_t offset = transfer->offset + start;
    int problem = transfer->to ? read_piece(file, transfer->to + start, offset, bytes)
                               : write_piece(file, transfer->from + start, offset, bytes);
    int none = 0;
    if (problem) atomic_compare_exchange_strong(&transfer->problem, &none, problem);
}

static bool run_transfer(Transfer *transfer, Error *error) {
    ScratchFile *scratch = transfer->scratch;
    const char *what = transfer->to ? "read" : "write";
    if (transfer->offset > scratch->bytes || transfer->bytes > scratch->bytes - transfer->offset)
        return error_set(error, "cannot %s %zu bytes at %llu of the scratch file in %s: it has %llu", what,
                         transfer->bytes, (unsigned long long)transfer->offset, scratch->folder,
                         (unsigned long long)scratch->bytes);
    int64_t pieces = (int64_t)(transfer->bytes / PIECE + (transfer->bytes % PIECE != 0));
    if (scratch->threads)
        thread_pool_run(scratch->threads, pieces, transfer_piece, transfer);
    else
        for (int64_t i = 0; i < pieces; i++) transfer_piece(transfer, i, 0);
    errno = atomic_load(&transfer->problem);
    if (!errno) return true;
    error_system(error, transfer->to ? "cannot read the scratch file in" : "cannot write the scratch file in",
                 scratch->folder);
    return error_hint(error, "is the disk full or faulty? name a folder on another one: scratch_dir=FOLDER");
}

// ---- reading ahead ----

// Ends the reading ahead of every range that has bytes in common with this one; the mutex is held.
static void drop_ranges(ScratchFile *scratch, uint64_t offset, uint64_t end) {
    int kept = 0;
    for (int i = 0; i < scratch->count; i++) {
        Range range = scratch->ranges[i];
        if (range.end <= offset || range.offset >= end) scratch->ranges[kept++] = range;
    }
    scratch->count = kept;
}

// Takes the next piece of the oldest range; false when the thread is to end.
static bool next_piece(ScratchFile *scratch, Range *piece) {
    pthread_mutex_lock(&scratch->mutex);
    while (!scratch->count && !scratch->stop) pthread_cond_wait(&scratch->changed, &scratch->mutex);
    bool more = !scratch->stop;
    if (more) {
        Range *range = &scratch->ranges[0];
        *piece = *range;
        if (piece->end - piece->offset > ADVICE) piece->end = piece->offset + ADVICE;
        range->offset = piece->end;
        if (range->offset == range->end) memmove(range, range + 1, (size_t)--scratch->count * sizeof *range);
    }
    pthread_mutex_unlock(&scratch->mutex);
    return more;
}

static void *read_ahead(void *argument) {
    ScratchFile *scratch = argument;
    for (Range piece; next_piece(scratch, &piece);) will_need(scratch->file, piece.offset, piece.end - piece.offset);
    return NULL;
}

// [offset, offset + bytes) cut to the file.
static Range cut_range(const ScratchFile *scratch, uint64_t offset, size_t bytes) {
    if (offset > scratch->bytes) offset = scratch->bytes;
    uint64_t left = scratch->bytes - offset;
    return (Range){offset, offset + (bytes < left ? bytes : left)};
}

static void end_reading_ahead(ScratchFile *scratch, uint64_t offset, size_t bytes) {
    Range range = cut_range(scratch, offset, bytes);
    pthread_mutex_lock(&scratch->mutex);
    drop_ranges(scratch, range.offset, range.end);
    pthread_mutex_unlock(&scratch->mutex);
}

void scratch_will_read(ScratchFile *scratch, uint64_t offset, size_t bytes) {
    Range range = cut_range(scratch, offset, bytes);
    if (range.offset == range.end) return;
    pthread_mutex_lock(&scratch->mutex);
    if (scratch->count < RANGES) scratch->ranges[scratch->count++] = range;
    pthread_cond_signal(&scratch->changed);
    pthread_mutex_unlock(&scratch->mutex);
}

void scratch_forget(ScratchFile *scratch, uint64_t offset, size_t bytes) {
    Range range = cut_range(scratch, offset, bytes);
    if (range.offset == range.end) return; // a length of 0 would mean all that follows
    end_reading_ahead(scratch, offset, bytes);
    posix_fadvise(scratch->file, (off_t)range.offset, (off_t)(range.end - range.offset), POSIX_FADV_DONTNEED);
}

bool scratch_read(ScratchFile *scratch, void *to, uint64_t offset, size_t bytes, Error *error) {
    end_reading_ahead(scratch, offset, bytes);
    Transfer transfer = {.scratch = scratch, .to = to, .offset = offset, .bytes = bytes};
    return run_transfer(&transfer, error);
}

bool scratch_write(ScratchFile *scratch, const void *from, uint64_t offset, size_t bytes, Error *error) {
    Transfer transfer = {.scratch = scratch, .from = from, .offset = offset, .bytes = bytes};
    return run_transfer(&transfer, error);
}

uint64_t scratch_bytes(const ScratchFile *scratch) {
    return scratch->bytes;
}

// ---- creation ----

static bool hint_folder(Error *error) {
    return error_hint(error, "name a folder on a disk with enough space: scratch_dir=FOLDER");
}

static bool too_small(const ScratchFile *scratch, uint64_t have, Error *error) {
    char needed[16], available[16], missing[16];
    error_set(error, "the scratch file in %s needs %s, and the disk has %s free: %s are missing", scratch->folder,
              format_bytes(needed, scratch->bytes), format_bytes(available, have),
              format_bytes(missing, scratch->bytes > have ? scratch->bytes - have : 0));
    return error_hint(error, "free that much there, or name a folder on another disk: scratch_dir=FOLDER");
}

// Refuses a disk that is too small or is none, before anything is written to it.
static bool check_folder(const ScratchFile *scratch, Error *error) {
    const char *folder = scratch->folder;
    uint64_t have;
    struct statfs system;
    if (scratch->bytes > INT64_MAX) return error_set(error, "a scratch file is too large for any disk");
    if (!path_is_directory(folder)) {
        error_set(error, "cannot create a scratch file in %s: %s", folder,
                  path_exists(folder) ? "it is not a folder" : "there is no such folder");
        return hint_folder(error);
    }
    if (!disk_free_bytes(folder, &have, error)) return false;
    if (have < scratch->bytes) return too_small(scratch, have, error);
    if (statfs(folder, &system) != 0) return error_system(error, "cannot look at", folder);
    unsigned long kind = (unsigned long)system.f_type & 0xffffffff;
    if (kind != TMPFS_MAGIC_ && kind != RAMFS_MAGIC_) return true;
    error_set(error, "a scratch file in %s would lie in memory (it is a tmpfs), which is what is short", folder);
    return hint_folder(error);
}

// O_TMPFILE needs the file system's help; where that is missing, the file loses its name at once.
static int open_unnamed(const char *folder) {
    int file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file >= 0) return file;
    char *name = path_join(folder, "lisa-scratch-XXXXXX");
    if (!name) return -1; // ENOMEM
    file = mkostemp(name, O_CLOEXEC);
    if (file >= 0) unlink(name);
    int problem = errno;
    free(name);
    errno = problem;
    return file;
}

// Takes the disk space by writing all of it, for file systems that have no other way.
static bool write_zeros(ScratchFile *scratch, Error *error) {
    unsigned char *zeros = calloc(1, PIECE);
    if (!zeros) return error_memory(error, "a scratch file", PIECE);
    bool ok = true;
    for (uint64_t offset = 0; ok && offset < scratch->bytes; offset += PIECE) {
        uint64_t left = scratch->bytes - offset;
        ok = scratch_write(scratch, zeros, offset, left < PIECE ? (size_t)left : PIECE, error);
    }
    int problem = errno;
    free(zeros);
    errno = problem;
    return ok;
}

// Not posix_fallocate: where the file system cannot, it would write a byte to each block, slowly and into the cache.
static bool take_space(ScratchFile *scratch, Error *error) {
    int result;
    if (!scratch->bytes) return true;
    while ((result = fallocate(scratch->file, 0, 0, (off_t)scratch->bytes)) != 0 && errno == EINTR) continue;
    if (result == 0) return true;
    bool ok = false;
    if (errno == EOPNOTSUPP || errno == ENOSYS)
        ok = write_zeros(scratch, error);
    else
        error_system(error, "cannot take space for the scratch file in", scratch->folder);
    int problem = errno;
    uint64_t have;
    Error ignored;
    if (ok || problem != ENOSPC || ftruncate(scratch->file, 0) != 0) return ok;
    // others took the space meanwhile; how much there is counts without what this file got of it
    if (disk_free_bytes(scratch->folder, &have, &ignored) && have < scratch->bytes)
        return too_small(scratch, have, error);
    return false;
}

// The thread leaves signals to the main thread.
static bool start_reader(ScratchFile *scratch, Error *error) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    scratch->started = pthread_create(&scratch->reader, NULL, read_ahead, scratch) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return scratch->started || error_set(error, "cannot start the thread that reads the scratch file ahead");
}

ScratchFile *scratch_create(const char *folder, uint64_t bytes, ThreadPool *threads, Error *error) {
    ScratchFile *scratch = calloc(1, sizeof *scratch);
    char *copy = strdup(folder);
    if (!scratch || !copy) {
        error_memory(error, "a scratch file", sizeof *scratch);
        free(scratch);
        free(copy);
        return NULL;
    }
    *scratch = (ScratchFile){.file = -1, .bytes = bytes, .folder = copy, .threads = threads};
    pthread_mutex_init(&scratch->mutex, NULL);
    pthread_cond_init(&scratch->changed, NULL);
    bool ok = check_folder(scratch, error);
    if (ok && (scratch->file = open_unnamed(folder)) < 0) {
        error_system(error, "cannot create a scratch file in", folder);
        ok = hint_folder(error);
    }
    if (ok && take_space(scratch, error) && start_reader(scratch, error)) return scratch;
    scratch_free(scratch);
    return NULL;
}

void scratch_free(ScratchFile *scratch) {
    if (!scratch) return;
    pthread_mutex_lock(&scratch->mutex);
    scratch->stop = true;
    pthread_cond_signal(&scratch->changed);
    pthread_mutex_unlock(&scratch->mutex);
    if (scratch->started) pthread_join(scratch->reader, NULL);
    if (scratch->file >= 0) close(scratch->file);
    pthread_cond_destroy(&scratch->changed);
    pthread_mutex_destroy(&scratch->mutex);
    free(scratch->folder);
    free(scratch);
}
