// test_cuda_places_queues.c - with weights, state and inputs on the host, on a card whose streams are queues: whatever
// legal order their work is done in gives the same bits, and every wait of a stream for an event is needed.
#include "tests/emulator/emulator.h"
#include "tests/places.h"
#include "tests/queue_orders.h"
#include "tests/support.h"

#include <stdlib.h>

#define STEPS  7 // three draws
#define ORDERS 6

static PlacesOutcome train_on_card(const Places *row, int64_t steps) {
    Error error = {0};
    Backend *b = backend_cuda_create(0, 1, &error);
    check(b, &error);
    PlacesOutcome outcome = places_train(b, row, steps);
    b->destroy(b);
    return outcome;
}

// Layers streamed in every way, one gradient buffer and many, sweeps of one, two and all micro-batches, all models.
static void the_order_of_queues_changes_no_bit(void **state) {
    (void)state;
    Places rows[] = {places_on_host(2, false, 0), places_on_host(3, true, 0), places_on_host(4, false, 1),
                     places_on_host(4, true, 1),  places_on_host(2, true, 2), places_on_host(1, false, 3)};
    rows[0].value[PLACE_SWEEP] = 1;
    rows[2].value[PLACE_SWEEP] = 0;
    rows[4].value[PLACE_LAYERS] = 0;
    char text[160];
    int orders = emulator_checked() ? 2 : ORDERS; // races of streams are reported in any order
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        queue_order(0);
        PlacesOutcome expected = train_on_card(&(Places){.value = {[PLACE_MODEL] = rows[i].value[PLACE_MODEL]}}, STEPS);
        for (int order = 0; order < orders; order++) {
            queue_order(order == 1 || !emulator_checked() ? order : 2 + (int)i);
            PlacesOutcome outcome = train_on_card(&rows[i], STEPS);
            places_in_words(&rows[i], text);
            if (!places_same(&outcome, &expected)) fail_msg("order %d of %s: not the same", order, text);
            if (emulator_errors()) fail_msg("order %d of %s: %s", order, text, emulator_first_error());
            places_outcome_free(&outcome);
        }
        places_outcome_free(&expected);
    }
    queue_order(0);
}

// ---- each wait left out ----

typedef struct Expected {
    Places row;
    PlacesOutcome outcome;
} Expected;

static bool same_two_steps(const void *context) {
    const Expected *expected = context;
    PlacesOutcome outcome = train_on_card(&expected->row, 2);
    return places_same(&outcome, &expected->outcome);
}

static void check_waits(const Places *row) {
    if (!emulator_present() || !getenv("LISA_EVERY_WAIT")) skip(); // takes minutes: make mutate does it
    queue_order(0);
    long before = emulator_event_waits();
    Expected expected = {*row, train_on_card(row, 2)};
    long waits = emulator_event_waits() - before;
    print_message("%ld waits\n", waits);
    assert_every_wait_needed(same_two_steps, &expected, waits);
    places_outcome_free(&expected.outcome);
}

// The gradients wait in host memory for their norm, and come back.
static void every_wait_is_needed_for_gradients_that_return(void **state) {
    (void)state;
    Places row = places_on_host(3, true, 0);
    row.value[PLACE_EMBEDDING] = row.value[PLACE_HEAD] = row.value[PLACE_LAYERS] = 0;
    check_waits(&row);
}

static void every_wait_is_needed_for_state_on_the_host(void **state) {
    (void)state;
    Places row = places_on_host(2, false, 0);
    check_waits(&row);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_queues_changes_no_bit),
        cmocka_unit_test(every_wait_is_needed_for_gradients_that_return),
        cmocka_unit_test(every_wait_is_needed_for_state_on_the_host), // last
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
