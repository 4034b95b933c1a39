// test_cuda_places.c - test_places.c on a card; with every access checked, and with sanitizers, a few rows of the
// cover.
#include "tests/emulator/emulator.h"
#include "tests/places.h"
#include "tests/support.h"

#define STEPS 12 // four draws

static void places_change_no_bit(void **state) {
    (void)state;
    Error error = {0};
    char text[160];
    PlacesOutcome expected[PLACES_TRAININGS] = {0};
    Backend *b = backend_cuda_create(0, 1, &error);
    check(b, &error);
    PlacesCover cover = places_cover();
    int rows = 0;
    for (Places row; places_next(&cover, &row); rows++) {
        if ((emulator_checked() || built_with_sanitizer()) && rows % 7) continue;
        int training = places_training(&row);
        Places plain = places_on_device(training);
        if (!expected[training].weights) expected[training] = places_train(b, &plain, STEPS);
        PlacesOutcome outcome = places_train(b, &row, STEPS);
        places_in_words(&row, text);
        places_assert_same(&outcome, &expected[training], &row);
        if (emulator_errors()) fail_msg("%s: %s", text, emulator_first_error());
        places_outcome_free(&outcome);
    }
    places_assert_covered(&cover);
    assert_true(rows >= 20);
    for (int training = 0; training < PLACES_TRAININGS; training++) places_outcome_free(&expected[training]);
    b->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_change_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
