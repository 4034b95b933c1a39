// test_scratch_file.c - what is written comes back, whatever the disk does in between; a disk that cannot is an error.
//
// fallocate, pread and pwrite are this program's own: they call the kernel, or do what a test asks of them.
#include "base/files.h"
#include "base/scratch_file.h"
#include "tests/support.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIECE ((size_t)4 << 20) // as in base/scratch_file.c

static int fallocate_fails;         // the errno of every fallocate, 0: the kernel's own answer
static int write_fails, read_fails; // the same of pwrite and pread, once `calls_before_failure` have gone well
static atomic_int calls_before_failure;
static bool interrupted; // every other call is interrupted, and none moves more than an odd number of bytes
static atomic_int calls;

int fallocate(int file, int mode, off_t offset, off_t size) {
    if (!fallocate_fails) return (int)syscall(SYS_fallocate, file, mode, offset, size);
    errno = fallocate_fails;
    return -1;
}

// What a call is to do: -1 with errno set, or how many bytes it may move.
static ssize_t bytes_allowed(int fails, size_t bytes) {
    if (fails && atomic_fetch_sub(&calls_before_failure, 1) <= 0) {
        errno = fails;
        return -1;
    }
    if (!interrupted) return (ssize_t)bytes;
    if (atomic_fetch_add(&calls, 1) % 2) {
        errno = EINTR;
        return -1;
    }
    return bytes > 100003 ? 100003 : (ssize_t)bytes;
}

ssize_t pread(int file, void *to, size_t bytes, off_t offset) {
    ssize_t allowed = bytes_allowed(read_fails, bytes);
    return allowed < 0 ? allowed : (ssize_t)syscall(SYS_pread64, file, to, (size_t)allowed, offset);
}

ssize_t pwrite(int file, const void *from, size_t bytes, off_t offset) {
    ssize_t allowed = bytes_allowed(write_fails, bytes);
    return allowed < 0 ? allowed : (ssize_t)syscall(SYS_pwrite64, file, from, (size_t)allowed, offset);
}

static int reset(void **state) {
    (void)state;
    fallocate_fails = write_fails = read_fails = 0;
    interrupted = false;
    return 0;
}

// ---- helpers ----

static int open_files(void) {
    char **names;
    size_t count;
    Error error = {0};
    check(directory_list("/proc/self/fd", &names, &count, &error), &error);
    names_free(names, count);
    return (int)count;
}

// A folder on a disk, not in memory; the working folder where the temporary one is a tmpfs.
static char *disk_folder(void) {
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

static ScratchFile *create(const char *folder, uint64_t bytes, ThreadPool *threads) {
    Error error = {0};
    ScratchFile *scratch = scratch_create(folder, bytes, threads, &error);
    if (!scratch) check(false, &error);
    assert_int_equal(scratch_bytes(scratch), bytes);
    return scratch;
}

// The byte at a place of the file: neighbours, pages and pieces all differ.
static unsigned char byte_at(uint64_t place) {
    return (unsigned char)((place * 2654435761u) >> 13);
}

static void write_range(ScratchFile *scratch, uint64_t offset, size_t bytes) {
    Error error = {0};
    unsigned char *data = malloc(bytes + 1);
    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++) data[i] = byte_at(offset + i);
    check(scratch_write(scratch, data, offset, bytes, &error), &error);
    free(data);
}

// The range comes back, and nothing around the memory it is read to is touched.
static void check_range(ScratchFile *scratch, uint64_t offset, size_t bytes) {
    Error error = {0};
    unsigned char *data = malloc(bytes + 2);
    assert_non_null(data);
    memset(data, 0xa5, bytes + 2);
    check(scratch_read(scratch, data + 1, offset, bytes, &error), &error);
    assert_int_equal(data[0], 0xa5);
    assert_int_equal(data[bytes + 1], 0xa5);
    for (size_t i = 0; i < bytes; i++)
        if (data[i + 1] != byte_at(offset + i))
            fail_msg("byte %zu of %zu at %llu", i, bytes, (unsigned long long)offset);
    free(data);
}

// ---- tests ----

typedef struct Part {
    uint64_t offset;
    size_t bytes;
} Part;

#define FILE_BYTES (3 * PIECE + 12345)
static const Part parts[] = {
    {0, 0},
    {0, 1},
    {1, 4095},
    {4095, 2},
    {3, PIECE},
    {PIECE - 1, 2},
    {0, PIECE},
    {5, PIECE - 1},
    {7, 2 * PIECE + 11},
    {0, FILE_BYTES},
    {FILE_BYTES - 1, 1},
    {FILE_BYTES, 0},
    {PIECE, PIECE + 1},
};

static void round_trip(ThreadPool *threads) {
    char *folder = disk_folder();
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        ScratchFile *scratch = create(folder, FILE_BYTES, threads);
        write_range(scratch, parts[i].offset, parts[i].bytes);
        check_range(scratch, parts[i].offset, parts[i].bytes);
        scratch_forget(scratch, parts[i].offset, parts[i].bytes);
        check_range(scratch, parts[i].offset, parts[i].bytes);
        scratch_free(scratch);
    }
    // neighbours are left alone
    ScratchFile *scratch = create(folder, FILE_BYTES, threads);
    for (uint64_t offset = 0; offset < FILE_BYTES; offset += 1000003)
        write_range(scratch, offset, FILE_BYTES - offset < 1000003 ? FILE_BYTES - offset : 1000003);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) check_range(scratch, parts[i].offset, parts[i].bytes);
    scratch_free(scratch);
    remove_folder(folder);
}

static void test_round_trip(void **state) {
    (void)state;
    Error error = {0};
    round_trip(NULL);
    for (int threads = 1; threads <= 5; threads += 2) {
        ThreadPool *pool = thread_pool_create(threads, &error);
        assert_non_null(pool);
        round_trip(pool);
        thread_pool_free(pool);
    }
}

static void test_interrupted_and_short_calls(void **state) {
    (void)state;
    Error error = {0};
    interrupted = true;
    ThreadPool *pool = thread_pool_create(3, &error);
    round_trip(pool);
    thread_pool_free(pool);
}

static void test_beyond_the_end(void **state) {
    (void)state;
    char *folder = disk_folder();
    ScratchFile *scratch = create(folder, 100, NULL);
    static const struct {
        uint64_t offset;
        size_t bytes;
    } wrong[] = {{0, 101}, {100, 1}, {101, 0}, {UINT64_MAX, 1}, {1, SIZE_MAX}, {UINT64_MAX, SIZE_MAX}};
    char memory[128] = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Error error = {0};
        assert_false(scratch_read(scratch, memory, wrong[i].offset, wrong[i].bytes, &error));
        assert_non_null(strstr(error.text, "scratch file"));
        assert_false(scratch_write(scratch, memory, wrong[i].offset, wrong[i].bytes, &error));
        scratch_will_read(scratch, wrong[i].offset, wrong[i].bytes); // advice is cut to the file
        scratch_forget(scratch, wrong[i].offset, wrong[i].bytes);
    }
    for (size_t i = 0; i < sizeof memory; i++) assert_int_equal(memory[i], 0);
    scratch_free(scratch);
    scratch = create(folder, 0, NULL);
    check_range(scratch, 0, 0);
    scratch_free(scratch);
    scratch_free(NULL);
    remove_folder(folder);
}

// The unnamed file's descriptor, which nothing else tells: the newest one.
static int newest_file(void) {
    int file = dup(0);
    close(file);
    return file - 1;
}

static size_t pages_in_memory(int file, size_t offset, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = bytes / page, found = 0;
    unsigned char *present = malloc(count);
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, (off_t)offset);
    assert_true(present && map != MAP_FAILED);
    assert_int_equal(mincore(map, bytes, present), 0);
    for (size_t i = 0; i < count; i++) found += present[i] & 1;
    munmap(map, bytes);
    free(present);
    return found;
}

// All of the range is read ahead without anyone reading it, and is forgotten again.
static void test_will_read(void **state) {
    (void)state;
    size_t bytes = 10 * PIECE, page = (size_t)sysconf(_SC_PAGESIZE);
    char *folder = disk_folder();
    ScratchFile *scratch = create(folder, 2 * bytes, NULL);
    int file = newest_file();
    for (uint64_t offset = 0; offset < 2 * bytes; offset += bytes) write_range(scratch, offset, bytes);
    scratch_forget(scratch, 0, 2 * bytes);
    if (pages_in_memory(file, 0, 2 * bytes)) {
        print_message("[  note  ] this file system keeps what it is told to forget: reading ahead is not looked at\n");
    } else {
        scratch_will_read(scratch, bytes / 2, bytes);
        size_t found = 0;
        for (int wait = 0; wait < 1000 && found < bytes / page; wait++) {
            usleep(10000);
            found = pages_in_memory(file, bytes / 2, bytes);
        }
        assert_int_equal(found, bytes / page);
        assert_int_equal(pages_in_memory(file, 0, bytes / 4), 0);
        scratch_forget(scratch, bytes / 2, bytes);
        assert_int_equal(pages_in_memory(file, bytes / 2, bytes), 0);
    }
    for (uint64_t offset = 0; offset < 2 * bytes; offset += bytes / 2) { // each half while it is being read ahead
        for (int again = 0; again < 20; again++) scratch_will_read(scratch, offset, bytes / 2);
        check_range(scratch, offset + 3, bytes / 2 - 3);
        scratch_forget(scratch, offset, bytes / 2);
    }
    scratch_will_read(scratch, 0, 2 * bytes);
    scratch_free(scratch); // in the middle of it
    remove_folder(folder);
}

// The file has no name, no program that is started inherits it, and it leaves no descriptor.
static void test_leaves_nothing(void **state) {
    (void)state;
    char *folder = disk_folder(), **names;
    size_t count;
    Error error = {0};
    int before = open_files();
    for (int i = 0; i < 20; i++) {
        ScratchFile *scratch = create(folder, PIECE, NULL);
        assert_true(open_files() == before + 1);
        assert_true(fcntl(newest_file(), F_GETFD) & FD_CLOEXEC);
        check(directory_list(folder, &names, &count, &error), &error);
        assert_int_equal(count, 0);
        names_free(names, count);
        scratch_free(scratch);
        assert_null(scratch_create("/nowhere/at/all", PIECE, NULL, &error));
        assert_null(scratch_create(folder, INT64_MAX, NULL, &error));
        fallocate_fails = EIO;
        assert_null(scratch_create(folder, PIECE, NULL, &error));
        fallocate_fails = 0;
        assert_int_equal(open_files(), before);
    }
    remove_folder(folder);
}

// Where a file system cannot set space aside, the space is taken all the same.
static void test_without_fallocate(void **state) {
    (void)state;
    char *folder = disk_folder();
    static const int codes[] = {EOPNOTSUPP, ENOSYS};
    for (int i = 0; i < 2; i++) {
        fallocate_fails = codes[i];
        ScratchFile *scratch = create(folder, 2 * PIECE + 5, NULL);
        struct stat status;
        assert_int_equal(fstat(newest_file(), &status), 0);
        assert_int_equal(status.st_size, 2 * PIECE + 5);
        assert_true((uint64_t)status.st_blocks * 512 >= 2 * PIECE);
        write_range(scratch, 1, 2 * PIECE);
        check_range(scratch, 1, 2 * PIECE);
        scratch_free(scratch);
    }
    remove_folder(folder);
}

static void check_refused(const char *folder, uint64_t bytes, const char *text) {
    Error error = {0};
    assert_null(scratch_create(folder, bytes, NULL, &error));
    if (!strstr(error.text, text)) fail_msg("\"%s\" is not in: %s", text, error.text);
    assert_non_null(strstr(error.text, folder));
    assert_non_null(strstr(error.hint, "scratch_dir"));
}

static void test_folders_that_cannot_be_used(void **state) {
    (void)state;
    char *folder = disk_folder(), *file = write_text(folder, "file", "x");
    check_refused("/nowhere/at/all", 10, "no such folder");
    check_refused(file, 10, "not a folder");
    check_refused(folder, (uint64_t)1 << 62, "are missing");
    check_refused("/proc/self", 10, "");
    if (geteuid() != 0) {
        assert_int_equal(chmod(folder, 0555), 0);
        check_refused(folder, 10, "Permission denied");
        assert_int_equal(chmod(folder, 0755), 0);
    }
    free(file);
    remove_folder(folder);
}

// A disk that fills up although it looked large enough: at creation, or while it is written.
static void test_disk_faults(void **state) {
    (void)state;
    char *folder = disk_folder();
    Error error = {0};
    unsigned char *data = calloc(3, PIECE);
    fallocate_fails = ENOSPC;
    assert_null(scratch_create(folder, PIECE, NULL, &error));
    assert_non_null(strstr(error.text, "No space left"));
    assert_non_null(strstr(error.text, folder));
    fallocate_fails = EOPNOTSUPP;
    write_fails = ENOSPC;
    atomic_store(&calls_before_failure, 2);
    assert_null(scratch_create(folder, 5 * PIECE, NULL, &error));
    assert_non_null(strstr(error.text, "No space left"));
    fallocate_fails = write_fails = 0;
    ThreadPool *pool = thread_pool_create(2, &error);
    ScratchFile *scratch = create(folder, 3 * PIECE, pool);
    for (int good = 0; good < 3; good++) {
        write_fails = read_fails = EIO;
        atomic_store(&calls_before_failure, good);
        assert_false(scratch_write(scratch, data, 0, 3 * PIECE, &error));
        assert_non_null(strstr(error.text, "cannot write the scratch file"));
        assert_non_null(strstr(error.hint, "scratch_dir"));
        atomic_store(&calls_before_failure, good);
        assert_false(scratch_read(scratch, data, 0, 3 * PIECE, &error));
        assert_non_null(strstr(error.text, "cannot read the scratch file"));
        write_fails = read_fails = 0;
    }
    write_range(scratch, 0, 3 * PIECE); // it is still usable
    check_range(scratch, 0, 3 * PIECE);
    assert_int_equal(ftruncate(newest_file(), 5), 0);
    assert_false(scratch_read(scratch, data, 0, 3 * PIECE, &error)); // and ends where the file does
    scratch_free(scratch);
    thread_pool_free(pool);
    free(data);
    remove_folder(folder);
}

static void test_limit_on_file_size(void **state) {
    (void)state;
    char *folder = disk_folder();
    Error error = {0};
    struct rlimit before, limit;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = (struct rlimit){PIECE, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ScratchFile *scratch = scratch_create(folder, 2 * PIECE, NULL, &error);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    assert_null(scratch);
    assert_non_null(strstr(error.text, folder));
    assert_non_null(strstr(error.hint, "ulimit"));
    remove_folder(folder);
}

static void test_memory_is_no_disk(void **state) {
    (void)state;
    char *folder = make_folder();
    if (mount("tmpfs", folder, "tmpfs", 0, "size=4m") == 0) {
        check_refused(folder, 8 << 20, "4.0 MiB are missing");
        check_refused(folder, 1 << 20, "in memory");
        assert_int_equal(umount(folder), 0);
        remove_folder(folder);
    } else {
        remove_folder(folder);
        print_message("[  note  ] no tmpfs could be mounted: a full one is not looked at\n");
        skip();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_round_trip, reset),
        cmocka_unit_test_setup(test_interrupted_and_short_calls, reset),
        cmocka_unit_test_setup(test_beyond_the_end, reset),
        cmocka_unit_test_setup(test_will_read, reset),
        cmocka_unit_test_setup(test_leaves_nothing, reset),
        cmocka_unit_test_setup(test_without_fallocate, reset),
        cmocka_unit_test_setup(test_folders_that_cannot_be_used, reset),
        cmocka_unit_test_setup(test_disk_faults, reset),
        cmocka_unit_test_setup(test_limit_on_file_size, reset),
        cmocka_unit_test_setup(test_memory_is_no_disk, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
