// Queued work: what a step relies on holds in every legal order of the streams, and whoever forgets to wait is noticed.
// The faults are planted on the emulated card; a real one has no orders to choose from.
#include "kernels/kernels.h"
#include "tests/emulator/emulator.h"
#include "tests/support.h"
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 300 };

// One card, a second stream, and a way of data: pinned bf16 -> device bf16 -> device float -> pinned float.
typedef struct Way {
    Backend *b;
    Stream *copies;
    Event *arrived, *used;
    bf16 *host_in;
    void *device_in, *device_out;
    float *host_out;
} Way;

static void take(Way *way, MemoryKind kind, size_t bytes, void **memory) {
    Error error;
    check(way->b->allocate(way->b, kind, bytes, memory, &error), &error);
}

static Way open_way(void) {
    Error error = {0};
    Way way = {.b = backend_cuda_create(0, 1, &error)};
    void *memory;
    check(way.b != NULL, &error);
    way.copies = way.b->stream_create(way.b, &error);
    way.arrived = way.b->event_create(way.b, &error);
    way.used = way.b->event_create(way.b, &error);
    check(way.copies && way.arrived && way.used, &error);
    take(&way, MEMORY_PINNED, COUNT * sizeof(bf16), &memory);
    way.host_in = memory;
    take(&way, MEMORY_PINNED, COUNT * sizeof(float), &memory);
    way.host_out = memory;
    take(&way, MEMORY_DEVICE, COUNT * sizeof(bf16), &way.device_in);
    take(&way, MEMORY_DEVICE, COUNT * sizeof(float), &way.device_out);
    return way;
}

static void close_way(Way *way) {
    Backend *b = way->b;
    b->synchronize(b, NULL);
    b->synchronize(b, way->copies);
    b->release(b, MEMORY_PINNED, way->host_in);
    b->release(b, MEMORY_PINNED, way->host_out);
    b->release(b, MEMORY_DEVICE, way->device_in);
    b->release(b, MEMORY_DEVICE, way->device_out);
    b->event_free(b, way->arrived);
    b->event_free(b, way->used);
    b->stream_free(b, way->copies);
    b->destroy(b);
}

// The values of a round: first, first + 1, ...
static void fill_input(Way *way, float first) {
    for (int i = 0; i < COUNT; i++) way->host_in[i] = bf16_from_float(first + (float)(i % 50));
}

static bool output_is(const Way *way, float first) {
    for (int i = 0; i < COUNT; i++)
        if (!(way->host_out[i] == first + (float)(i % 50))) return false;
    return true;
}

static void upload(Way *way) {
    way->b->copy(way->b, way->device_in, way->host_in, COUNT * sizeof(bf16), way->copies);
    way->b->event_record(way->b, way->arrived, way->copies);
}

static void compute(Way *way) {
    way->b->to_float(way->b, way->device_out, way->device_in, COUNT, NULL);
    way->b->event_record(way->b, way->used, NULL);
}

static void download(Way *way) {
    way->b->copy(way->b, way->host_out, way->device_out, COUNT * sizeof(float), NULL);
}

static void wait_for(Way *way, Event *event, Stream *stream) {
    way->b->event_wait(way->b, event, stream);
}

static void finish(Way *way) {
    way->b->synchronize(way->b, NULL);
    way->b->synchronize(way->b, way->copies);
}

// ---- what must be waited for; careless: it is not. Whether the right numbers came out. -----------------------------

typedef bool Scenario(Way *way, bool careful);

// The computation uses what the other stream brings.
static bool data_arrives(Way *way, bool careful) {
    fill_input(way, 64);
    upload(way);
    if (careful) wait_for(way, way->arrived, NULL);
    compute(way);
    download(way);
    finish(way);
    return output_is(way, 64);
}

// The other stream brings the next data over those that are still to be used.
static bool buffer_is_used_up(Way *way, bool careful) {
    fill_input(way, 64);
    upload(way);
    wait_for(way, way->arrived, NULL);
    compute(way);
    if (careful) wait_for(way, way->used, way->copies);
    upload(way);
    download(way);
    finish(way);
    return output_is(way, 64);
}

// The host fills the pinned buffer anew.
static bool source_was_read(Way *way, bool careful) {
    fill_input(way, 64);
    upload(way);
    wait_for(way, way->arrived, NULL);
    compute(way);
    download(way);
    if (careful) way->b->synchronize(way->b, way->copies);
    fill_input(way, 7);
    finish(way);
    return output_is(way, 64);
}

// The host looks at the result.
static bool result_arrived(Way *way, bool careful) {
    fill_input(way, 64);
    memset(way->host_out, 0, COUNT * sizeof(float));
    upload(way);
    wait_for(way, way->arrived, NULL);
    compute(way);
    download(way);
    if (careful) finish(way);
    bool good = output_is(way, 64);
    finish(way);
    return good;
}

// A wait is for the record that was made before it, not for a later one of the same event.
static bool event_is_reused(Way *way, bool careful) {
    Backend *b = way->b;
    fill_input(way, 64);
    if (!careful) b->event_record(b, way->arrived, way->copies);
    if (careful) upload(way);
    wait_for(way, way->arrived, NULL);
    if (!careful) upload(way);
    compute(way);
    b->event_record(b, way->arrived, way->copies);
    download(way);
    finish(way);
    return output_is(way, 64);
}

typedef struct Case {
    const char *name;
    Scenario *run;
    bool between_streams; // the checked build sees the omission itself, in whatever order things went
} Case;
static const Case CASES[] = {
    {"data that another stream brings", data_arrives, true},
    {"a buffer that another stream refills", buffer_is_used_up, true},
    {"a pinned source that the host rewrites", source_was_read, false},
    {"a result that the host reads", result_arrived, false},
    {"an event recorded twice", event_is_reused, true},
};
enum { CASE_COUNT = sizeof CASES / sizeof *CASES, SEEDS = 30 };

// ---- tests ---------------------------------------------------------------------------------------------------------

static bool run_case(Way *way, const Case *it, EmulatorQueueOrder order, uint64_t seed, bool careful) {
    emulator_queue_order(order, seed);
    bool good = it->run(way, careful);
    emulator_queue_order(QUEUES_EARLY, 0);
    return good;
}

static void test_who_waits(void **state) {
    (void)state;
    Way way = open_way();
    for (int i = 0; i < CASE_COUNT; i++)
        for (int order = QUEUES_EARLY; order <= QUEUES_RANDOM; order++)
            for (uint64_t seed = 1; seed <= (order == QUEUES_RANDOM ? SEEDS : 1); seed++)
                if (!run_case(&way, &CASES[i], (EmulatorQueueOrder)order, seed, true))
                    fail_msg("%s: wrong in order %d, seed %d", CASES[i].name, order, (int)seed);
    close_way(&way);
    if (emulator_errors()) fail_msg("%s", emulator_first_error());
}

static void test_who_does_not(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    emulator_quiet(true);
    Way way = open_way();
    for (int i = 0; i < CASE_COUNT; i++) {
        int wrong = 0;
        if (run_case(&way, &CASES[i], QUEUES_LATE, 1, false)) fail_msg("%s: not noticed", CASES[i].name);
        for (uint64_t seed = 1; seed <= SEEDS; seed++) wrong += !run_case(&way, &CASES[i], QUEUES_RANDOM, seed, false);
        if (wrong == 0) fail_msg("%s: noticed in none of %d random orders", CASES[i].name, SEEDS);
        emulator_clear_errors();
        run_case(&way, &CASES[i], QUEUES_EARLY, 1, false);
        bool told = strncmp(emulator_first_error(), "race-streams: ", 14) == 0;
        assert_int_equal(told, emulator_checked() && CASES[i].between_streams);
        emulator_clear_errors();
    }
    close_way(&way);
    emulator_quiet(false);
}

// Leaving out a wait by its number, as the test of whole training steps does for each of theirs.
static void test_skipped_wait(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    emulator_quiet(true);
    Way way = open_way();
    long before = emulator_event_waits();
    assert_true(run_case(&way, &CASES[1], QUEUES_LATE, 1, true));
    long waits = emulator_event_waits() - before;
    assert_int_equal(waits, 2);
    for (long n = 1; n <= waits; n++) {
        emulator_skip_event_wait(n);
        assert_false(run_case(&way, &CASES[1], QUEUES_LATE, 1, true));
    }
    assert_true(run_case(&way, &CASES[1], QUEUES_LATE, 1, true));
    close_way(&way);
    emulator_clear_errors();
    emulator_quiet(false);
}

// A launch that fails is told by check() after the work, and what is freed afterwards is no further fault.
static void test_failed_launch(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    enum { LAUNCH_FAILURE = 719 };
    Error error = {0};
    emulator_queue_order(QUEUES_LATE, 1);
    Way way = open_way();
    fill_input(&way, 1);
    upload(&way);
    wait_for(&way, way.arrived, NULL);
    emulator_fail_launch(2, LAUNCH_FAILURE);
    compute(&way);
    assert_true(way.b->check(way.b, &error));
    compute(&way);
    finish(&way);
    assert_false(way.b->check(way.b, &error));
    assert_non_null(strstr(error.text, "unspecified launch failure"));
    emulator_clear_errors();
    close_way(&way);
    emulator_queue_order(QUEUES_EARLY, 0);
}

static void test_memory_limit(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    Error error = {0};
    Way way = open_way();
    long before = emulator_allocations();
    void *memory, *more;
    emulator_memory_limit(way.b->workspace_bytes + (6 << 20));
    take(&way, MEMORY_DEVICE, 4 << 20, &memory);
    assert_false(way.b->allocate(way.b, MEMORY_DEVICE, 4 << 20, &more, &error));
    assert_non_null(strstr(error.text, "4.0 MiB needed"));
    assert_int_equal(emulator_allocations() - before, 2);
    assert_true(emulator_device_peak() >= 4 << 20);
    way.b->release(way.b, MEMORY_DEVICE, memory);
    take(&way, MEMORY_DEVICE, 4 << 20, &more);
    way.b->release(way.b, MEMORY_DEVICE, more);
    assert_true(way.b->check(way.b, &error)); // no fault of the card
    emulator_memory_limit((size_t)8 << 30);
    close_way(&way);
}

// Device memory is out of reach for the host, as on a card: a process that tries ends, and is told why.
static void test_host_access(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    Way way = open_way();
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], STDERR_FILENO);
        signal(SIGSEGV, SIG_DFL);
        way.b->synchronize(way.b, NULL);
        way.b->zero(way.b, way.device_in, COUNT, NULL);
        way.b->synchronize(way.b, NULL);
        _exit(*(volatile char *)way.device_in);
    }
    close(fds[1]);
    char text[300] = "";
    ssize_t length = read(fds[0], text, sizeof text - 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    close(fds[0]);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    assert_true(length > 0 && strstr(text, "host-access: the host touches device memory at 0x"));
    close_way(&way);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_waits),     cmocka_unit_test(test_who_does_not), cmocka_unit_test(test_skipped_wait),
        cmocka_unit_test(test_failed_launch), cmocka_unit_test(test_memory_limit), cmocka_unit_test(test_host_access),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
