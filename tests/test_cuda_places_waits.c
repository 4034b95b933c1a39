// test_cuda_places_waits.c - with weights, state and inputs on the host, every line that makes a stream or the host
// wait for an event is needed: without its waits the checked emulation reports a race, or the training ends otherwise.
//
// A line is known by where its call returns to. The training with a line's waits left out runs in a process of its own,
// for what it does may be anything.
#include "tests/emulator/emulator.h"
#include "tests/places.h"
#include "tests/queue_orders.h"
#include "tests/support.h"
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEPS     2 // a redraw in each
#define LINES_MAX 64

extern const char __executable_start[];

// The calls that wait, of all trainings so far; one of them may be left out.
static struct {
    const void *lines[LINES_MAX];
    int count, skipped; // -1: none
    void (*event_wait)(Backend *b, Event *event, Stream *stream);
    void (*event_synchronize)(Backend *b, Event *event);
} waits = {.skipped = -1};

// Whether the line's waits are made.
static bool is_made(const void *line) {
    int at = 0;
    while (at < waits.count && waits.lines[at] != line) at++;
    if (at == waits.count) {
        assert_true(waits.count < LINES_MAX);
        waits.lines[waits.count++] = line;
    }
    return at != waits.skipped;
}

static void event_wait(Backend *b, Event *event, Stream *stream) {
    if (is_made(__builtin_return_address(0))) waits.event_wait(b, event, stream);
}

static void event_synchronize(Backend *b, Event *event) {
    if (is_made(__builtin_return_address(0))) waits.event_synchronize(b, event);
}

static PlacesOutcome train(const Places *row) {
    Error error = {0};
    Backend *b = backend_cuda_create(0, 1, &error);
    check(b, &error);
    waits.event_wait = b->event_wait;
    waits.event_synchronize = b->event_synchronize;
    b->event_wait = event_wait;
    b->event_synchronize = event_synchronize;
    PlacesOutcome outcome = places_train(b, row, STEPS);
    b->destroy(b);
    return outcome;
}

static bool is_noticed_in(int order, const Places *row, const PlacesOutcome *expected, int line) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(120);
        emulator_quiet(true);
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(2);
        queue_order(order);
        waits.skipped = line;
        PlacesOutcome outcome = train(row);
        _exit(!places_same(&outcome, expected) || emulator_errors() > 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

// Early, the checks of memory see what is read or written without waiting for another stream; late, what the host reads
// too soon is not there yet.
static bool is_noticed(const Places *row, const PlacesOutcome *expected, int line) {
    return is_noticed_in(0, row, expected, line) || is_noticed_in(1, row, expected, line);
}

static void every_line_that_waits_is_needed(void **state) {
    (void)state;
    if (!emulator_checked()) skip(); // elsewhere a race is noticed by chance
    Places rows[] = {places_on_host(3, true, 0),
                     places_on_host(4, true, 0),
                     places_on_host(2, false, 1),
                     places_on_host(0, true, 0),
                     {{0}}};
    rows[2].value[PLACE_LAYERS] = 0;                             // streamed layers are updated on the card and go home
    rows[3].value[PLACE_LAYERS] = rows[3].value[PLACE_HEAD] = 0; // their gradients come back
    bool noticed[LINES_MAX] = {false};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        PlacesOutcome expected = train(&rows[i]);
        assert_false(is_noticed(&rows[i], &expected, -1));
        for (int line = 0; line < waits.count; line++)
            noticed[line] = noticed[line] || is_noticed(&rows[i], &expected, line);
        places_outcome_free(&expected);
    }
    for (int line = 0; line < waits.count; line++)
        if (!noticed[line])
            fail_msg("a wait can be left out and nothing changes: addr2line -e this-program %#zx",
                     (size_t)((const char *)waits.lines[line] - __executable_start));
    assert_true(waits.count >= 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_that_waits_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
