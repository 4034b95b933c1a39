// test_scratch_failures.c - a disk that cannot hold a scratch file is an error that says so; nothing is left behind.
#include "tests/scratch_disk.h"
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

static int open_files(void) {
    char **names;
    size_t count;
    Error error = {0};
    check(directory_list("/proc/self/fd", &names, &count, &error), &error);
    names_free(names, count);
    return (int)count;
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
        for (int file = newest_file(), more = open_files() - before; more > 0; more--)
            assert_true(fcntl(file--, F_GETFD) & FD_CLOEXEC);
        check(directory_list(folder, &names, &count, &error), &error);
        assert_int_equal(count, 0);
        names_free(names, count);
        scratch_free(scratch);
        assert_null(scratch_create("/nowhere/at/all", PIECE, NULL, &error));
        assert_null(scratch_create(folder, INT64_MAX, NULL, &error));
        disk.fallocate_fails = EIO;
        assert_null(scratch_create(folder, PIECE, NULL, &error));
        disk.fallocate_fails = 0;
        assert_int_equal(open_files(), before);
    }
    remove_folder(folder);
}

static bool read_part(ScratchFile *scratch, void *to, size_t bytes, bool begin, Error *error) {
    if (!begin) return scratch_read(scratch, to, 0, bytes, error);
    return scratch_begin_read(scratch, to, 0, bytes, error) && scratch_end_read(scratch, error);
}

// What is written still comes back.
static void check_usable(ScratchFile *scratch, size_t bytes) {
    Error error = {0};
    unsigned char *data = calloc(1, bytes);
    assert_non_null(data);
    write_range(scratch, 0, bytes);
    check(read_part(scratch, data, bytes, true, &error), &error);
    for (size_t i = 0; i < bytes; i++) assert_int_equal(data[i], byte_at(i));
    free(data);
}

// Where a file system cannot set space aside, the space is taken all the same.
static void test_without_fallocate(void **state) {
    (void)state;
    char *folder = disk_folder();
    static const int codes[] = {EOPNOTSUPP, ENOSYS};
    for (int i = 0; i < 2; i++) {
        disk.fallocate_fails = codes[i];
        ScratchFile *scratch = create(folder, 2 * PIECE + 5, NULL);
        struct stat status;
        assert_int_equal(fstat(newest_file(), &status), 0);
        assert_int_equal(status.st_size, 2 * PIECE + 5);
        check_usable(scratch, 2 * PIECE);
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

// A disk that fills up although it looked large enough, while space is taken from it.
static void test_disk_that_fills_up(void **state) {
    (void)state;
    char *folder = disk_folder();
    Error error = {0};
    disk.fallocate_fails = disk.write_fails = ENOSPC;
    atomic_store(&disk.good_calls, 2);
    for (int i = 0; i < 2; i++) {
        assert_null(scratch_create(folder, 5 * PIECE, NULL, &error));
        assert_non_null(strstr(error.text, "No space left"));
        assert_non_null(strstr(error.text, folder));
        disk.fallocate_fails = EOPNOTSUPP;
    }
    remove_folder(folder);
}

static void test_disk_faults(void **state) {
    (void)state;
    char *folder = disk_folder();
    Error error = {0};
    unsigned char *data = calloc(3, PIECE);
    ThreadPool *pool = thread_pool_create(2, &error);
    ScratchFile *scratch = create(folder, 3 * PIECE, pool);
    disk.direct_fails = EINVAL;
    for (int good = 0; good < 3; good++) {
        disk.write_fails = disk.read_fails = EIO;
        atomic_store(&disk.good_calls, good);
        assert_false(scratch_write(scratch, data, 0, 3 * PIECE, &error));
        assert_non_null(strstr(error.text, "cannot write the scratch file"));
        assert_non_null(strstr(error.hint, "scratch_dir"));
        for (int way = 0; way < 2; way++) {
            atomic_store(&disk.good_calls, good);
            assert_false(read_part(scratch, data, 3 * PIECE, way, &error));
            assert_non_null(strstr(error.text, "cannot read the scratch file"));
        }
        disk.write_fails = disk.read_fails = 0;
    }
    check_usable(scratch, 3 * PIECE);
    assert_int_equal(ftruncate(scratch->file, 5), 0);
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
    } else {
        print_message("[  note  ] no tmpfs can be mounted here: a full one is not looked at\n");
    }
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_leaves_nothing, use_good_disk),
        cmocka_unit_test_setup(test_without_fallocate, use_good_disk),
        cmocka_unit_test_setup(test_folders_that_cannot_be_used, use_good_disk),
        cmocka_unit_test_setup(test_disk_that_fills_up, use_good_disk),
        cmocka_unit_test_setup(test_disk_faults, use_good_disk),
        cmocka_unit_test_setup(test_limit_on_file_size, use_good_disk),
        cmocka_unit_test_setup(test_memory_is_no_disk, use_good_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
