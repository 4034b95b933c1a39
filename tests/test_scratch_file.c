// test_scratch_file.c - what is written to a scratch file comes back, in all ways of reading it; what stays in the page
// cache.
#include "tests/scratch_disk.h"
#include <sys/mman.h>

typedef bool ReadRange(ScratchFile *scratch, void *to, uint64_t offset, size_t bytes, Error *error);

static bool begin_and_end(ScratchFile *scratch, void *to, uint64_t offset, size_t bytes, Error *error) {
    return scratch_begin_read(scratch, to, offset, bytes, error) && scratch_end_read(scratch, error);
}

static bool announce_and_read(ScratchFile *scratch, void *to, uint64_t offset, size_t bytes, Error *error) {
    for (int again = 0; again < 20; again++) scratch_will_read(scratch, offset, bytes);
    return scratch_read(scratch, to, offset, bytes, error);
}

// The range comes back at an address that leaves that remainder, and nothing around it is touched.
static void check_range(ScratchFile *scratch, ReadRange *read_range, uint64_t offset, size_t bytes, size_t remainder) {
    Error error = {0};
    size_t size = (bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN + 3 * SCRATCH_ALIGN;
    unsigned char *memory = aligned_alloc(SCRATCH_ALIGN, size);
    assert_non_null(memory);
    memset(memory, 0xa5, size);
    unsigned char *data = memory + SCRATCH_ALIGN + remainder % SCRATCH_ALIGN;
    check(read_range(scratch, data, offset, bytes, &error), &error);
    for (unsigned char *byte = memory; byte < data; byte++) assert_int_equal(*byte, 0xa5);
    for (unsigned char *byte = data + bytes; byte < memory + size; byte++) assert_int_equal(*byte, 0xa5);
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != byte_at(offset + i)) fail_msg("byte %zu of %zu from %llu", i, bytes, (unsigned long long)offset);
    free(memory);
}

static const struct {
    uint64_t offset;
    size_t bytes;
} parts[] = {
#define FILE_BYTES (3 * PIECE + 12345)
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
#define PARTS (sizeof parts / sizeof *parts)

// Writes each part, reads it and others in all ways, at addresses that suit the disk and that do not.
static void round_trip(ThreadPool *threads, uint64_t keep) {
    static ReadRange *const ways[] = {scratch_read, begin_and_end, announce_and_read};
    char *folder = disk_folder();
    ScratchFile *scratch = create(folder, FILE_BYTES, threads);
    scratch_keep(scratch, keep);
    for (size_t i = 0; i < PARTS; i++) {
        write_range(scratch, parts[i].offset, parts[i].bytes);
        check_range(scratch, scratch_read, parts[i].offset, parts[i].bytes, 1);
    }
    for (size_t way = 0; way < 3; way++)
        for (size_t i = 0; i < PARTS; i++) {
            check_range(scratch, ways[way], parts[i].offset, parts[i].bytes, (size_t)parts[i].offset);
            check_range(scratch, ways[way], parts[i].offset, parts[i].bytes, (size_t)parts[i].offset + 64);
            if (i % 3 == way) scratch_forget(scratch, parts[i].offset, parts[i].bytes);
        }
    scratch_free(scratch);
    remove_folder(folder);
}

// ---- content ----

static void test_round_trip(void **state) {
    (void)state;
    Error error = {0};
    round_trip(NULL, 0);
    assert_true(atomic_load(&disk.direct_bytes) > 0);
    for (int threads = 1; threads <= 3; threads += 2) {
        ThreadPool *pool = thread_pool_create(threads, &error);
        assert_non_null(pool);
        round_trip(pool, FILE_BYTES / 4 * (uint64_t)threads);
        thread_pool_free(pool);
    }
}

static void test_interrupted_and_short_calls(void **state) {
    (void)state;
    Error error = {0};
    ThreadPool *pool = thread_pool_create(3, &error);
    disk.interrupted = true;
    round_trip(pool, FILE_BYTES / 3);
    thread_pool_free(pool);
}

// Without O_DIRECT, or with memory that it does not take, or when it fails once: the page cache.
static void test_without_direct_reading(void **state) {
    (void)state;
    static const int codes[] = {EINVAL, EIO};
    for (int i = 0; i < 2; i++) {
        disk.direct_fails = codes[i];
        round_trip(NULL, 0);
        assert_int_equal(atomic_load(&disk.direct_bytes), 0);
    }
}

static void test_beyond_the_end(void **state) {
    (void)state;
    static const struct {
        uint64_t offset;
        size_t bytes;
    } wrong[] = {{0, 101}, {100, 1}, {101, 0}, {UINT64_MAX, 1}, {1, SIZE_MAX}, {UINT64_MAX, SIZE_MAX}};
    char *folder = disk_folder(), memory[128] = {0};
    ScratchFile *scratch = create(folder, 100, NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Error error = {0};
        assert_false(scratch_read(scratch, memory, wrong[i].offset, wrong[i].bytes, &error));
        assert_non_null(strstr(error.text, "scratch file"));
        assert_false(scratch_write(scratch, memory, wrong[i].offset, wrong[i].bytes, &error));
        assert_false(scratch_begin_read(scratch, memory, wrong[i].offset, wrong[i].bytes, &error));
        assert_false(scratch_end_read(scratch, &error));
        scratch_will_read(scratch, wrong[i].offset, wrong[i].bytes); // advice is cut to the file
        scratch_forget(scratch, wrong[i].offset, wrong[i].bytes);
    }
    for (size_t i = 0; i < sizeof memory; i++) assert_int_equal(memory[i], 0);
    scratch_free(scratch);
    scratch = create(folder, 0, NULL);
    scratch_keep(scratch, 0);
    check_range(scratch, begin_and_end, 0, 0, 0);
    scratch_free(scratch);
    scratch_free(NULL);
    remove_folder(folder);
}

// ---- reading ahead and the page cache ----

static size_t bytes_in_memory(uint64_t offset, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = bytes / page, found = 0;
    unsigned char *present = malloc(count);
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, newest_file(), (off_t)offset);
    assert_true(present && map != MAP_FAILED);
    assert_int_equal(mincore(map, bytes, present), 0);
    for (size_t i = 0; i < count; i++) found += present[i] & 1;
    munmap(map, bytes);
    free(present);
    return found * page;
}

// A written file of `bytes`; NULL where the file system keeps in memory what it is told to forget.
static ScratchFile *create_forgettable(const char *folder, size_t bytes) {
    ScratchFile *scratch = create(folder, bytes, NULL);
    write_range(scratch, 0, bytes);
    scratch_forget(scratch, 0, bytes);
    if (!bytes_in_memory(0, bytes)) return scratch;
    print_message("[  note  ] this file system keeps what it is told to forget: the page cache is not looked at\n");
    scratch_free(scratch);
    return NULL;
}

// All of the range is read ahead without anyone reading it, nothing else is, and it is forgotten again.
static void test_will_read(void **state) {
    (void)state;
    size_t bytes = 10 * PIECE, most = bytes / 10 * 9; // of what is read ahead the kernel may take some again
    char *folder = disk_folder();
    ScratchFile *scratch = create_forgettable(folder, 2 * bytes);
    if (scratch) {
        scratch_will_read(scratch, bytes / 2, bytes);
        for (int wait = 0; wait < 1000 && bytes_in_memory(bytes / 2, bytes) < most; wait++) usleep(10000);
        assert_true(bytes_in_memory(bytes / 2, bytes) >= most);
        assert_int_equal(bytes_in_memory(0, bytes / 4), 0);
        check_range(scratch, scratch_read, bytes / 2, bytes / 2, 0);
        assert_int_equal(atomic_load(&disk.direct_bytes), 0); // it lay in memory already
        assert_int_equal(bytes_in_memory(bytes / 2, bytes / 2), 0);
        scratch_forget(scratch, bytes, bytes);
        assert_int_equal(bytes_in_memory(0, 2 * bytes), 0);
        scratch_will_read(scratch, 0, 2 * bytes);
    }
    scratch_free(scratch); // in the middle of it
    remove_folder(folder);
}

// No more than is to be kept stays in memory, and (the kernel may take some) not much less, spread over the file,
// whichever way it was written and read.
static void test_keep(void **state) {
    (void)state;
    size_t bytes = 8 * PIECE;
    char *folder = disk_folder();
    ScratchFile *scratch = create_forgettable(folder, bytes);
    static ReadRange *const ways[] = {scratch_read, begin_and_end, announce_and_read, NULL};
    for (size_t quarters = 0; scratch && quarters <= 5; quarters++)
        for (int way = 0; way < 4; way++) {
            scratch_forget(scratch, 0, bytes);
            scratch_keep(scratch, quarters * bytes / 4);
            if (!ways[way])
                write_range(scratch, 0, bytes);
            else
                check_range(scratch, ways[way], 0, bytes, 0);
            for (uint64_t offset = 0; offset < bytes; offset += PIECE)
                assert_in_range(bytes_in_memory(offset, PIECE), quarters < 4 ? quarters * PIECE / 8 : PIECE / 2,
                                quarters < 4 ? quarters * PIECE / 4 : PIECE);
        }
    scratch_free(scratch);
    remove_folder(folder);
}

// The thread alone reads what has begun; one reading at a time; none outlives the file.
static void test_begin_read(void **state) {
    (void)state;
    size_t bytes = 6 * PIECE;
    char *folder = disk_folder();
    unsigned char *data = aligned_alloc(SCRATCH_ALIGN, bytes);
    ScratchFile *scratch = create(folder, bytes, NULL);
    Error error = {0};
    write_range(scratch, 0, bytes);
    memset(data, 0, bytes);
    check(scratch_begin_read(scratch, data, 0, bytes, &error), &error);
    assert_false(scratch_begin_read(scratch, data, 0, 1, &error));
    for (int wait = 0; wait < 1000 && atomic_load(&scratch->begun.next) < scratch->begun.pieces; wait++) usleep(10000);
    assert_true(atomic_load(&scratch->begun.next) >= scratch->begun.pieces);
    check(scratch_end_read(scratch, &error), &error);
    for (size_t i = 0; i < bytes; i++) assert_int_equal(data[i], byte_at(i));
    assert_false(scratch_end_read(scratch, &error));
    for (int i = 0; i < 10; i++) {
        check(scratch_begin_read(scratch, data, 0, bytes, &error), &error);
        usleep((useconds_t)i * 300);
        scratch_free(scratch);
        memset(data, 1, bytes);
        scratch = create(folder, bytes, NULL);
    }
    for (size_t i = 0; i < bytes; i++) assert_int_equal(data[i], 1);
    scratch_free(scratch);
    free(data);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_round_trip, use_good_disk),
        cmocka_unit_test_setup(test_interrupted_and_short_calls, use_good_disk),
        cmocka_unit_test_setup(test_without_direct_reading, use_good_disk),
        cmocka_unit_test_setup(test_beyond_the_end, use_good_disk),
        cmocka_unit_test_setup(test_will_read, use_good_disk),
        cmocka_unit_test_setup(test_keep, use_good_disk),
        cmocka_unit_test_setup(test_begin_read, use_good_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
