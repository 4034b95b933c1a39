// test_prefetch.c - the batches that come out of the thread are those of the order, from any first step.
#include "data/dataset_builder.h"
#include "data/order.h"
#include "data/prefetch.h"
#include "tests/support.h"
#include <stdlib.h>

#define SEQUENCES 29

static Dataset make_dataset(void) {
    DatasetBuilder builder = {0};
    Dataset dataset;
    Error error = {0};
    for (int e = 0; e < SEQUENCES; e++) {
        int32_t ids[64];
        uint8_t trained[64];
        int length = 2 + (int)((noise(9, (uint64_t)e) + 1) * 30);
        for (int t = 0; t < length; t++) ids[t] = e * 100 + t, trained[t] = 1;
        check(dataset_builder_add(&builder, ids, trained, length, &error), &error);
    }
    check(dataset_builder_finish(&builder, &dataset, &error), &error);
    return dataset;
}

// Checks that the micro-batches hold the step's sequences in order and no more micro-batches are used than needed.
static void check_step(const Dataset *dataset, const PrefetchPlan *plan, int64_t step, const MicroBatch *batches,
                       int64_t count) {
    int64_t order[SEQUENCES], i = 0;
    StepPlace place = step_place(step, SEQUENCES, plan->batch_size);
    epoch_order(order, SEQUENCES, plan->seed, place.epoch, plan->shuffle);
    assert_int_equal(count, micro_batches_needed(dataset, order + place.first, place.count, plan->tokens));
    for (int64_t m = 0; m < count; m++) {
        assert_true(batches[m].sequences > 0 && batches[m].row_count > 0);
        for (int32_t s = 0; s < batches[m].sequences; s++)
            assert_int_equal(batches[m].ids[batches[m].starts[s]], order[place.first + i++] * 100);
    }
    assert_int_equal(i, place.count);
}

static void test_steps_in_order(void **state) {
    (void)state;
    Error error = {0};
    Dataset dataset = make_dataset();
    for (int64_t batch = 1; batch < 12; batch += 3)
        for (int64_t first = 0; first < 10; first += 3) {
            PrefetchPlan plan = {&dataset, batch, 70, 5, first % 2 == 0, first, 40};
            Prefetch *prefetch = prefetch_create(&plan, &error);
            assert_non_null(prefetch);
            const MicroBatch *batches;
            int64_t count;
            for (int64_t step = first; step < 40; step++) {
                prefetch_next(prefetch, &batches, &count);
                check_step(&dataset, &plan, step, batches, count);
            }
            for (int i = 0; i < 3; i++) {
                prefetch_next(prefetch, &batches, &count);
                assert_int_equal(count, 0);
            }
            prefetch_free(prefetch);
        }
    dataset_free(&dataset);
}

// Stopping in the middle of a run ends the thread, whatever it was doing.
static void test_stop_early(void **state) {
    (void)state;
    Error error = {0};
    Dataset dataset = make_dataset();
    PrefetchPlan plan = {&dataset, 4, 64, 5, true, 0, 1000};
    for (int taken = 0; taken < 20; taken++) {
        Prefetch *prefetch = prefetch_create(&plan, &error);
        assert_non_null(prefetch);
        const MicroBatch *batches;
        int64_t count;
        for (int i = 0; i < taken; i++) prefetch_next(prefetch, &batches, &count);
        prefetch_free(prefetch);
    }
    plan.steps = 0; // a finished run has nothing to prepare
    Prefetch *prefetch = prefetch_create(&plan, &error);
    assert_non_null(prefetch);
    prefetch_free(prefetch);
    dataset_free(&dataset);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_in_order),
        cmocka_unit_test(test_stop_early),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
