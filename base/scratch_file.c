// scratch_file.c - creation of what scratch_file.h describes; scratch_transfer.c reads and writes, scratch_ahead.c
// reads ahead.
#include "base/files.h"
#include "base/numbers.h"
#include "base/scratch_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TMPFS 0x01021994 // of statfs: file systems that lie in memory
#define RAMFS 0x858458f6

uint64_t scratch_bytes(const ScratchFile *scratch) {
    return scratch->bytes;
}

// ---- the folder and its disk ----

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
    if (kind != TMPFS && kind != RAMFS) return true;
    error_set(error, "a scratch file in %s would lie in memory (it is a tmpfs), which is what is short", folder);
    return hint_folder(error);
}

// ---- the file ----

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

// The file once more, to be read past the page cache; -1 where that cannot be.
static int open_direct(int file) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    return open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
}

// Takes the disk space by writing all of it, for file systems that have no other way.
static bool write_zeros(ScratchFile *scratch, Error *error) {
    unsigned char *zeros = calloc(1, SCRATCH_PIECE);
    if (!zeros) return error_memory(error, "a scratch file", SCRATCH_PIECE);
    bool ok = true;
    for (uint64_t offset = 0; ok && offset < scratch->bytes; offset += SCRATCH_PIECE) {
        uint64_t left = scratch->bytes - offset;
        ok = scratch_write(scratch, zeros, offset, left < SCRATCH_PIECE ? (size_t)left : SCRATCH_PIECE, error);
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
    scratch->started = pthread_create(&scratch->reader, NULL, scratch_read_ahead, scratch) == 0;
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
    *scratch =
        (ScratchFile){.file = -1, .direct = -1, .use_direct = true, .bytes = bytes, .folder = copy, .threads = threads};
    pthread_mutex_init(&scratch->mutex, NULL);
    pthread_cond_init(&scratch->posted, NULL);
    pthread_cond_init(&scratch->finished, NULL);
    bool ok = check_folder(scratch, error);
    if (ok && (scratch->file = open_unnamed(folder)) < 0) {
        error_system(error, "cannot create a scratch file in", folder);
        ok = hint_folder(error);
    }
    if (ok) {
        scratch->direct = open_direct(scratch->file);
        posix_fadvise(scratch->file, 0, 0, POSIX_FADV_RANDOM); // nothing is read ahead but what is announced
    }
    if (ok && take_space(scratch, error) && start_reader(scratch, error)) return scratch;
    scratch_free(scratch);
    return NULL;
}

void scratch_free(ScratchFile *scratch) {
    if (!scratch) return;
    pthread_mutex_lock(&scratch->mutex);
    scratch->stop = true;
    atomic_store(&scratch->begun.next, scratch->begun.pieces); // nobody waits for the rest
    pthread_cond_signal(&scratch->posted);
    pthread_mutex_unlock(&scratch->mutex);
    if (scratch->started) pthread_join(scratch->reader, NULL);
    if (scratch->direct >= 0) close(scratch->direct);
    if (scratch->file >= 0) close(scratch->file);
    pthread_cond_destroy(&scratch->finished);
    pthread_cond_destroy(&scratch->posted);
    pthread_mutex_destroy(&scratch->mutex);
    free(scratch->folder);
    free(scratch);
}
