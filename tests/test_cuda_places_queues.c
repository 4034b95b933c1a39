// test_cuda_places_queues.c - with weights, state and inputs on the host, on a card whose streams are queues: whatever
// legal order their work is done in gives the same bits.
#include "tests/emulator/emulator.h"
#include "tests/places.h"
#include "tests/queue_orders.h"
#include "tests/support.h"

#define STEPS 7 // three draws

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
    // early, late, and a random one of each row's own; races of streams are reported in any order
    int first = emulator_checked() || built_with_sanitizer() ? 2 : 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        queue_order(0);
        Places plain = places_on_device(places_training(&rows[i]));
        PlacesOutcome expected = train_on_card(&plain, STEPS);
        for (int order = first; order <= 2; order++) {
            queue_order(order < 2 ? order : 2 + (int)i);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_queues_changes_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
