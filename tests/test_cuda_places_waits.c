// test_cuda_places_waits.c - with weights, state and inputs on the host, every line that makes a stream or the host
// wait for an event is needed: without its waits the checked emulation reports a race, or the training ends otherwise.
//
// A line is known by where its call returns to.
#include "tests/emulator/emulator.h"
#include "tests/places.h"
#include "tests/queue_orders.h"
#include "tests/support.h"

#define STEPS     2 // a redraw in each
#define LINES_MAX 64

extern const char __executable_start[];

// A line that waits.
typedef struct Line {
    const void *place;
    bool host;    // it is the host that waits
    bool used;    // by the training of the row that is looked at
    bool noticed; // when its waits were left out
} Line;

// All lines so far; one of them may be left out.
static struct {
    Line lines[LINES_MAX];
    int count, skipped; // -1: none
    void (*event_wait)(Backend *b, Event *event, Stream *stream);
    void (*event_synchronize)(Backend *b, Event *event);
} waits = {.skipped = -1};

// Whether the line's waits are made.
static bool is_made(const void *place, bool host) {
    int at = 0;
    while (at < waits.count && waits.lines[at].place != place) at++;
    if (at == waits.count) {
        assert_true(waits.count < LINES_MAX);
        waits.lines[waits.count++] = (Line){.place = place, .host = host};
    }
    waits.lines[at].used = true;
    return at != waits.skipped;
}

static void event_wait(Backend *b, Event *event, Stream *stream) {
    if (is_made(__builtin_return_address(0), false)) waits.event_wait(b, event, stream);
}

static void event_synchronize(Backend *b, Event *event) {
    if (is_made(__builtin_return_address(0), true)) waits.event_synchronize(b, event);
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

typedef struct Expected {
    const Places *row;
    PlacesOutcome outcome;
} Expected;

static bool same_training(const void *context) {
    const Expected *expected = context;
    PlacesOutcome outcome = train(expected->row);
    return places_same(&outcome, &expected->outcome);
}

// Where work is done early, the checks of memory see what streams touch without waiting, unless somebody else has read
// it since; where it is done late, what was not waited for is not there yet. What the host touches is not checked.
static bool is_noticed(const Expected *expected, int line) {
    waits.skipped = line;
    bool noticed = (!waits.lines[line].host && training_is_noticed(same_training, expected, 0)) ||
                   training_is_noticed(same_training, expected, 1);
    waits.skipped = -1;
    return noticed;
}

static void leave_out_each_line(const Places *row) {
    for (int line = 0; line < waits.count; line++) waits.lines[line].used = false;
    Expected expected = {row, train(row)};
    for (int order = 0; order <= 1; order++) assert_false(training_is_noticed(same_training, &expected, order));
    for (int line = 0; line < waits.count; line++) {
        Line *l = &waits.lines[line];
        if (l->used && !l->noticed) l->noticed = is_noticed(&expected, line);
    }
    places_outcome_free(&expected.outcome);
}

static void every_line_that_waits_is_needed(void **state) {
    (void)state;
    if (!emulator_checked()) skip(); // elsewhere a race is noticed by chance
    Places rows[] = {places_on_host(3, true, 0),
                     places_on_host(4, true, 0),
                     places_on_host(2, false, 1),
                     places_on_host(0, true, 0),
                     {{0}}};
    // streamed layers are updated on the card and go home
    rows[1].value[PLACE_LAYERS] = rows[2].value[PLACE_LAYERS] = 0;
    rows[3].value[PLACE_LAYERS] = rows[3].value[PLACE_HEAD] = 0; // their gradients come back
    queue_order(0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) leave_out_each_line(&rows[i]);
    for (int line = 0; line < waits.count; line++)
        if (!waits.lines[line].noticed)
            fail_msg("a wait can be left out and nothing changes: addr2line -e this-program %#zx",
                     (size_t)((const char *)waits.lines[line].place - __executable_start));
    assert_true(waits.count >= 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_that_waits_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
