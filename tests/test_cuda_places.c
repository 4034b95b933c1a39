// test_cuda_places.c - test_places.c on a card; with every access checked, a few rows of the cover.
#include "tests/emulator/emulator.h"
#include "tests/places.h"
#include "tests/support.h"

#define STEPS  12 // four draws
#define MODELS 4

static void places_change_no_bit(void **state) {
    (void)state;
    Error error = {0};
    char text[160];
    PlacesOutcome expected[MODELS] = {0};
    Backend *b = backend_cuda_create(0, 1, &error);
    check(b, &error);
    PlacesCover cover = places_cover();
    int rows = 0;
    for (Places row; places_next(&cover, &row); rows++) {
        if (emulator_checked() && rows % 7) continue;
        int model = row.value[PLACE_MODEL];
        if (!expected[model].weights)
            expected[model] = places_train(b, &(Places){.value = {[PLACE_MODEL] = model}}, STEPS);
        PlacesOutcome outcome = places_train(b, &row, STEPS);
        places_in_words(&row, text);
        places_assert_same(&outcome, &expected[model], &row);
        if (emulator_errors()) fail_msg("%s: %s", text, emulator_first_error());
        places_outcome_free(&outcome);
    }
    places_assert_covered(&cover);
    assert_true(rows >= 20);
    for (int model = 0; model < MODELS; model++) places_outcome_free(&expected[model]);
    b->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_change_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
