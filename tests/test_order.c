// test_order.c - every sequence once per epoch, an order of its own for each epoch and seed, nothing dropped.
#include "data/order.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>

static void test_epoch_order(void **state) {
    (void)state;
    enum { COUNT = 101 };
    int64_t order[COUNT], again[COUNT], other[COUNT];
    epoch_order(order, COUNT, 42, 0, true);
    bool seen[COUNT] = {false};
    for (int i = 0; i < COUNT; i++) {
        assert_in_range(order[i], 0, COUNT - 1);
        assert_false(seen[order[i]]);
        seen[order[i]] = true;
    }
    epoch_order(again, COUNT, 42, 0, true);
    assert_memory_equal(order, again, sizeof order);
    epoch_order(other, COUNT, 42, 1, true);
    assert_memory_not_equal(order, other, sizeof order);
    epoch_order(other, COUNT, 43, 0, true);
    assert_memory_not_equal(order, other, sizeof order);
    epoch_order(order, COUNT, 42, 3, false);
    for (int i = 0; i < COUNT; i++) assert_int_equal(order[i], i);
}

static void test_steps(void **state) {
    (void)state;
    assert_int_equal(steps_per_epoch(16, 8), 2);
    assert_int_equal(steps_per_epoch(17, 8), 3);
    assert_int_equal(steps_per_epoch(1, 8), 1);
}

static void test_every_sequence_once_per_epoch(void **state) {
    (void)state;
    for (int64_t sequences = 1; sequences < 20; sequences++)
        for (int64_t batch = 1; batch < 9; batch++) {
            int64_t steps = steps_per_epoch(sequences, batch), taken = 0;
            for (int64_t step = 0; step < 2 * steps; step++) {
                StepPlace place = step_place(step, sequences, batch);
                assert_int_equal(place.epoch, step / steps);
                assert_int_equal(place.first, taken % sequences);
                assert_in_range(place.count, 1, batch);
                taken += place.count;
            }
            assert_int_equal(taken, 2 * sequences);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epoch_order),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_every_sequence_once_per_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
