// scratch_disk.h - the disk under the tests of base/scratch_file.h: fallocate, pread and pwrite are the test's own;
// they call the kernel, or do what a test asks of them. For one file of a program.
#pragma once
#include "base/files.h"
#include "base/scratch_internal.h"
#include "tests/support.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIECE SCRATCH_PIECE

static struct {
    int fallocate_fails;         // the errno of every fallocate; 0: the kernel's own answer
    int write_fails, read_fails; // the same of pwrite and pread, once `good_calls` have been made
    int direct_fails;            // the same of reading past the page cache
    atomic_int good_calls;
    bool interrupted; // every other call is, and none moves much
    atomic_int calls;
    atomic_long direct_bytes; // read past the page cache
} disk;

static inline int use_good_disk(void **state) {
    (void)state;
    memset(&disk, 0, sizeof disk);
    return 0;
}

int fallocate(int file, int mode, off_t offset, off_t size) {
    if (!disk.fallocate_fails) return (int)syscall(SYS_fallocate, file, mode, offset, size);
    errno = disk.fallocate_fails;
    return -1;
}

static inline ssize_t fail_with(int code) {
    errno = code;
    return -1;
}

// -1 with errno set, or how many bytes a call may move.
static inline ssize_t bytes_allowed(int fails, size_t bytes) {
    if (fails && atomic_fetch_sub(&disk.good_calls, 1) <= 0) return fail_with(fails);
    if (!disk.interrupted) return (ssize_t)bytes;
    if (atomic_fetch_add(&disk.calls, 1) % 2) return fail_with(EINTR);
    size_t most = bytes % SCRATCH_ALIGN ? 100003 : 25 * SCRATCH_ALIGN; // whole blocks stay whole blocks
    return (ssize_t)(bytes < most ? bytes : most);
}

ssize_t pread(int file, void *to, size_t bytes, off_t offset) {
    bool direct = fcntl(file, F_GETFL) & O_DIRECT;
    if (direct && disk.direct_fails) return fail_with(disk.direct_fails);
    ssize_t allowed = bytes_allowed(disk.read_fails, bytes);
    ssize_t got = allowed < 0 ? allowed : (ssize_t)syscall(SYS_pread64, file, to, (size_t)allowed, offset);
    if (direct && got > 0) atomic_fetch_add(&disk.direct_bytes, got);
    return got;
}

ssize_t pwrite(int file, const void *from, size_t bytes, off_t offset) {
    ssize_t allowed = bytes_allowed(disk.write_fails, bytes);
    return allowed < 0 ? allowed : (ssize_t)syscall(SYS_pwrite64, file, from, (size_t)allowed, offset);
}

// ---- helpers ----

// A folder on a disk, not in memory; in the working folder where the temporary one is a tmpfs.
static inline char *disk_folder(void) {
    char *folder = make_folder();
    Error error = {0};
    ScratchFile *scratch = scratch_create(folder, 1, NULL, &error);
    scratch_free(scratch);
    if (scratch) return folder;
    remove_folder(folder);
    folder = strdup("lisa-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    return folder;
}

static inline ScratchFile *create(const char *folder, uint64_t bytes, ThreadPool *threads) {
    Error error = {0};
    ScratchFile *scratch = scratch_create(folder, bytes, threads, &error);
    if (!scratch) check(false, &error);
    assert_int_equal(scratch_bytes(scratch), bytes);
    return scratch;
}

// The byte at a place of the file: neighbours, pages and pieces all differ.
static inline unsigned char byte_at(uint64_t place) {
    return (unsigned char)((place * 2654435761u) >> 13);
}

static inline void write_range(ScratchFile *scratch, uint64_t offset, size_t bytes) {
    Error error = {0};
    unsigned char *data = malloc(bytes + 1);
    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++) data[i] = byte_at(offset + i);
    check(scratch_write(scratch, data, offset, bytes, &error), &error);
    free(data);
}

// One of the file's descriptors, which nothing else tells: the newest one.
static inline int newest_file(void) {
    int file = dup(0);
    close(file);
    return file - 1;
}
