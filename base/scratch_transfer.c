// scratch_transfer.c - the reading and writing of scratch_file.h.
//
// Why past the page cache. Measured on 2 busy processors, ext4, layers of 88 MiB in a file of 4.4 GB, in a control
// group of 3 GiB of which the program needs 1.2, with 50 ms of computing for each layer. Left to the page cache, a
// sweep over all layers, forward or backward, found 20 to 45 % of them there and took 8 to 15 s, the group at its limit
// all the time (2.9 million failed charges); with swap, the same pressure pushes out the program's own memory.
// Announced, read and forgotten: 8 to 16 s, never at the limit. Begun and read with O_DIRECT: 7 to 12 s, never at the
// limit, and a quarter of the kernel's processor time.
//
// How much stays dirty. Writeback is not limited by a control group's size everywhere (never with cgroup v1), and a
// group full of dirty pages waits or is killed. So each piece is on the disk before its thread goes on to the next:
// dirty is at most one piece for each thread.
#include "base/numbers.h"
#include "base/scratch_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

// ---- one piece ----

static int read_bytes(int file, unsigned char *to, uint64_t offset, uint64_t bytes) {
    while (bytes) {
        ssize_t got = pread(file, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno;
        if (got == 0) return EIO; // the file has been cut by someone else
        to += got, offset += (uint64_t)got, bytes -= (uint64_t)got;
    }
    return 0;
}

// All of it is in flight at once, whatever the read-ahead, which pieces read side by side confuse.
static int read_cached(ScratchFile *scratch, unsigned char *to, uint64_t offset, uint64_t bytes) {
    scratch_will_need(scratch->file, offset, bytes);
    return read_bytes(scratch->file, to, offset, bytes);
}

// Past the page cache, but for the ends of a range that does not begin and end at the disk's blocks. false: it has to
// be read another way. A short read ends on a block, or it is the other way's to go on.
static bool read_direct(ScratchFile *scratch, unsigned char *to, uint64_t offset, uint64_t bytes) {
    while (bytes) {
        ssize_t got = pread(scratch->direct, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && (errno == EINVAL || errno == EFAULT || errno == EOPNOTSUPP))
            atomic_store(&scratch->use_direct, false); // larger blocks, or memory that the disk cannot write to
        if (got <= 0) return false;
        to += got, offset += (uint64_t)got, bytes -= (uint64_t)got;
    }
    return true;
}

static int read_unkept(ScratchFile *scratch, unsigned char *to, uint64_t offset, uint64_t end, bool announced) {
    uint64_t first = (offset + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN,
             last = end / SCRATCH_ALIGN * SCRATCH_ALIGN;
    bool aligned = (uintptr_t)to % SCRATCH_ALIGN == offset % SCRATCH_ALIGN && first < last;
    if (aligned && !announced && scratch->direct >= 0 && atomic_load(&scratch->use_direct) &&
        read_direct(scratch, to + (first - offset), first, last - first)) {
        int problem = read_bytes(scratch->file, to, offset, first - offset);
        return problem ? problem : read_bytes(scratch->file, to + (last - offset), last, end - last);
    }
    int problem = read_cached(scratch, to, offset, end - offset);
    posix_fadvise(scratch->file, (off_t)offset, (off_t)(end - offset), POSIX_FADV_DONTNEED);
    return problem;
}

static int write_bytes(int file, const unsigned char *from, uint64_t offset, uint64_t bytes) {
    if (!bytes) return 0; // to sync_file_range 0 is all that follows
    uint64_t first = offset, whole = bytes;
    while (bytes) {
        ssize_t put = pwrite(file, from, bytes, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return errno;
        from += put, offset += (uint64_t)put, bytes -= (uint64_t)put;
    }
    int flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (sync_file_range(file, (off_t)first, (off_t)whole, (unsigned)flags) == 0) return 0;
    if (errno != ENOSYS && errno != EINVAL && errno != ESPIPE && errno != EOPNOTSUPP) return errno;
    return fdatasync(file) == 0 ? 0 : errno;
}

static int write_unkept(int file, const unsigned char *from, uint64_t offset, uint64_t end) {
    int problem = write_bytes(file, from, offset, end - offset);
    posix_fadvise(file, (off_t)offset, (off_t)(end - offset), POSIX_FADV_DONTNEED);
    return problem;
}

static int move_piece(ScratchTransfer *transfer, int64_t index) {
    ScratchFile *scratch = transfer->scratch;
    uint64_t piece = (transfer->offset / SCRATCH_PIECE + (uint64_t)index) * SCRATCH_PIECE;
    uint64_t first = piece > transfer->offset ? piece : transfer->offset, end = piece + SCRATCH_PIECE;
    uint64_t middle = piece + atomic_load(&scratch->kept); // what follows it does not stay in the page cache
    if (end > transfer->end) end = transfer->end;
    if (middle < first) middle = first;
    if (middle > end) middle = end;
    size_t start = (size_t)(first - transfer->offset), unkept = (size_t)(middle - transfer->offset);
    int problem;
    if (transfer->to) {
        problem = read_cached(scratch, transfer->to + start, first, middle - first);
        if (!problem && middle < end)
            problem = read_unkept(scratch, transfer->to + unkept, middle, end, transfer->announced);
    } else { // in two parts: one call can make one large page of what does not stay together
        problem = write_bytes(scratch->file, transfer->from + start, first, middle - first);
        if (!problem && middle < end) problem = write_unkept(scratch->file, transfer->from + unkept, middle, end);
    }
    return problem;
}

// ---- all pieces ----

void scratch_take_pieces(ScratchTransfer *transfer) {
    for (;;) {
        int64_t index = atomic_fetch_add(&transfer->next, 1);
        if (index >= transfer->pieces || atomic_load(&transfer->problem)) return;
        int problem = move_piece(transfer, index), none = 0;
        if (problem) atomic_compare_exchange_strong(&transfer->problem, &none, problem);
    }
}

static void take_pieces(void *context, int64_t index, int worker) {
    (void)index;
    (void)worker;
    scratch_take_pieces(context);
}

static void run_pieces(ScratchTransfer *transfer) {
    ThreadPool *threads = transfer->scratch->threads;
    int64_t left = transfer->pieces - atomic_load(&transfer->next);
    int64_t takers = threads ? thread_pool_size(threads) : 1;
    if (takers > left) takers = left;
    if (takers > 1)
        thread_pool_run(threads, takers, take_pieces, transfer);
    else
        scratch_take_pieces(transfer);
}

// Fills in what all transfers have; false when the range is not inside the file.
static bool prepare(ScratchTransfer *transfer, ScratchFile *scratch, uint64_t offset, size_t bytes, Error *error) {
    if (offset > scratch->bytes || bytes > scratch->bytes - offset)
        return error_set(error, "cannot %s %zu bytes at %llu of the scratch file in %s: it has %llu",
                         transfer->to ? "read" : "write", bytes, (unsigned long long)offset, scratch->folder,
                         (unsigned long long)scratch->bytes);
    transfer->scratch = scratch;
    transfer->offset = offset;
    transfer->end = offset + bytes;
    if (bytes) transfer->pieces = (int64_t)((transfer->end - 1) / SCRATCH_PIECE - offset / SCRATCH_PIECE + 1);
    return true;
}

// errno is what the error was made of.
static bool outcome(ScratchTransfer *transfer, Error *error) {
    int problem = errno = atomic_load(&transfer->problem);
    if (!problem) return true;
    error_system(error, transfer->to ? "cannot read the scratch file in" : "cannot write the scratch file in",
                 transfer->scratch->folder);
    error_hint(error, "is the disk full or faulty? name a folder on another one: scratch_dir=FOLDER");
    errno = problem;
    return false;
}

bool scratch_read(ScratchFile *scratch, void *to, uint64_t offset, size_t bytes, Error *error) {
    ScratchTransfer transfer = {.to = to};
    if (!prepare(&transfer, scratch, offset, bytes, error)) return false;
    transfer.announced = scratch_end_announcement(scratch, offset, transfer.end);
    run_pieces(&transfer);
    return outcome(&transfer, error);
}

bool scratch_write(ScratchFile *scratch, const void *from, uint64_t offset, size_t bytes, Error *error) {
    ScratchTransfer transfer = {.from = from};
    if (!prepare(&transfer, scratch, offset, bytes, error)) return false;
    run_pieces(&transfer);
    return outcome(&transfer, error);
}

bool scratch_begin_read(ScratchFile *scratch, void *to, uint64_t offset, size_t bytes, Error *error) {
    ScratchTransfer transfer = {.to = to};
    if (scratch->has_begun) return error_set(error, "a reading of the scratch file begins before the last has ended");
    if (!prepare(&transfer, scratch, offset, bytes, error)) return false;
    transfer.announced = scratch_end_announcement(scratch, offset, transfer.end);
    pthread_mutex_lock(&scratch->mutex);
    scratch->begun = transfer;
    scratch->has_begun = true;
    pthread_cond_signal(&scratch->posted);
    pthread_mutex_unlock(&scratch->mutex);
    return true;
}

bool scratch_end_read(ScratchFile *scratch, Error *error) {
    if (!scratch->has_begun) return error_set(error, "a reading of the scratch file ends that never began");
    run_pieces(&scratch->begun);
    pthread_mutex_lock(&scratch->mutex);
    while (scratch->inside) pthread_cond_wait(&scratch->finished, &scratch->mutex);
    scratch->has_begun = false;
    pthread_mutex_unlock(&scratch->mutex);
    return outcome(&scratch->begun, error);
}

void scratch_keep(ScratchFile *scratch, uint64_t bytes) {
    double share = bytes < scratch->bytes ? (double)bytes / (double)scratch->bytes : 1;
    size_t advices = (size_t)(share * (double)SCRATCH_PIECE / (double)SCRATCH_ADVICE);
    atomic_store(&scratch->kept, advices * SCRATCH_ADVICE);
}
