// test_places.c - where weights, state and activations lie, and how many micro-batches a sweep has, changes no bit:
// a cover of all pairs of these choices against everything on the device, on the CPU.
#include "tests/places.h"
#include "tests/support.h"

#define STEPS 12 // four draws

// Every row of the cover with every training that it goes with.
static void places_change_no_bit(void **state) {
    (void)state;
    Error error = {0};
    Backend *b = backend_cpu_create(2, false, &error);
    check(b, &error);
    PlacesOutcome expected[PLACES_TRAININGS];
    for (int training = 0; training < PLACES_TRAININGS; training++) {
        Places plain = places_on_device(training);
        expected[training] = places_train(b, &plain, STEPS);
    }
    PlacesCover cover = places_cover();
    int rows = 0;
    for (Places row; places_next(&cover, &row); rows++)
        for (int training = 0; training < PLACES_TRAININGS; training++) {
            Places plain = places_on_device(training);
            row.value[PLACE_MODEL] = plain.value[PLACE_MODEL];
            row.value[PLACE_BITS] = plain.value[PLACE_BITS];
            if (!places_legal(&row)) continue;
            PlacesOutcome outcome = places_train(b, &row, STEPS);
            places_assert_same(&outcome, &expected[training], &row);
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
