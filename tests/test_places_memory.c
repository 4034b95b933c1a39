// test_places_memory.c - the plan is the allocation: exactly its bytes are enough, one less is refused at the start,
// and after the first step nothing is allocated and the process does not grow.
#include "tests/support.h"

#include "tests/emulator/emulator.h"
#include "tests/places.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Places everything_on_host(void) {
    return places_on_host(3, true, 0);
}

static Plan measured(Backend *b, const Places *row, const ModelConfig *config, const TrainSettings *settings) {
    Error error = {0};
    Plan plan = places_plan(row);
    check(trainer_measure(&plan, b, config, settings, &error), &error);
    return plan;
}

static void one_byte_less_is_refused(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    Error error = {0};
    Places rows[] = {everything_on_host(), {{0}}};
    for (int i = 0; i < 2; i++) {
        ModelConfig config = places_config(&rows[i]);
        TrainSettings settings = places_settings(&rows[i]);
        Backend *b = backend_cuda_create(0, 1, &error);
        check(b, &error);
        Plan plan = measured(b, &rows[i], &config, &settings);
        Trainer trainer;
        emulator_memory_limit(b->workspace_bytes + plan.device_bytes - 1);
        assert_false(trainer_create(&trainer, b, &config, &settings, &plan, &error));
        assert_non_null(strstr(error.text, "the device arena: out of memory on the card"));
        trainer_free(&trainer);
        emulator_memory_limit(b->workspace_bytes + plan.device_bytes);
        check(trainer_create(&trainer, b, &config, &settings, &plan, &error), &error);
        Dataset data = places_data();
        check(model_random_weights(&config, &trainer.store, 7, &error), &error);
        assert_true(tiny_steps(&trainer, &data, PLACES_BATCH, 0, 4).loss > 0);
        trainer_free(&trainer);
        emulator_memory_limit((size_t)8 << 30);
        dataset_free(&data);
        b->destroy(b);
    }
    assert_int_equal(emulator_errors(), 0);
}

// ---- after the first step ----

static long allocations; // by the CPU backend below
static bool (*allocate)(Backend *b, MemoryKind kind, size_t bytes, void **memory, Error *error);

static bool counted(Backend *b, MemoryKind kind, size_t bytes, void **memory, Error *error) {
    allocations++;
    return allocate(b, kind, bytes, memory, error);
}

static void nothing_is_allocated_after_the_first_step(void **state) {
    (void)state;
    Error error = {0};
    Places row = everything_on_host();
    for (int on_card = 0; on_card <= emulator_present(); on_card++) {
        ModelConfig config = places_config(&row);
        TrainSettings settings = places_settings(&row);
        Dataset data = places_data();
        Backend *b = on_card ? backend_cuda_create(0, 1, &error) : backend_cpu_create(1, false, &error);
        check(b, &error);
        allocate = b->allocate;
        b->allocate = counted;
        Plan plan = measured(b, &row, &config, &settings);
        Trainer *trainer = tiny_trainer_planned(b, &config, &settings, &plan, 7);
        assert_true(allocations >= 3);
        tiny_steps(trainer, &data, PLACES_BATCH, 0, 1);
        long before = allocations, card_before = emulator_allocations();
        tiny_steps(trainer, &data, PLACES_BATCH, 1, 12); // with three redraws
        assert_true(places_evaluate(trainer, &data, 1) > 0);
        assert_int_equal(allocations, before);
        assert_int_equal(emulator_allocations(), card_before);
        tiny_trainer_free(trainer);
        dataset_free(&data);
        b->destroy(b);
    }
}

static long resident_pages(void) {
    long size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &size, &resident), 2);
    fclose(file);
    return resident;
}

static void the_process_does_not_grow(void **state) {
    (void)state;
    Error error = {0};
    Places row = everything_on_host();
    ModelConfig config = places_config(&row);
    TrainSettings settings = places_settings(&row);
    Dataset data = places_data();
    Backend *b = backend_cpu_create(2, false, &error);
    check(b, &error);
    Plan plan = measured(b, &row, &config, &settings);
    Trainer *trainer = tiny_trainer_planned(b, &config, &settings, &plan, 7);
    tiny_steps(trainer, &data, PLACES_BATCH, 0, 20);
    long before = resident_pages();
    for (int64_t step = 20; step < 220; step += 20) tiny_steps(trainer, &data, PLACES_BATCH, step, step + 20);
    long after = resident_pages();
    if (after > before + before / 100) fail_msg("%ld pages after 20 steps, %ld after 220", before, after);
    tiny_trainer_free(trainer);
    dataset_free(&data);
    b->destroy(b);
}

// What the walk up the layers ends with is what the walk down begins with, and the other way round: a sweep brings all
// streamed layers twice, but for two at each turn.
static void the_turns_are_kept(void **state) {
    (void)state;
    Error error = {0};
    Places row = {.value = {[PLACE_STREAMED] = 3}}; // all four layers, one micro-batch a sweep
    ModelConfig config = places_config(&row);
    TrainSettings settings = places_settings(&row);
    settings.lisa_activated_layers = 0; // a layer in training is brought once more
    Dataset data = places_data();
    Backend *b = backend_cpu_create(1, false, &error);
    check(b, &error);
    Plan plan = places_plan(&row);
    plan.sizes.sweep = PLACES_BATCH;
    Trainer *trainer = tiny_trainer_planned(b, &config, &settings, &plan, 7);
    tiny_steps(trainer, &data, PLACES_BATCH, 0, 1);
    for (int64_t step = 1; step < 4; step++) {
        uint64_t before = trainer->store.loads;
        tiny_steps(trainer, &data, PLACES_BATCH, step, step + 1);
        assert_int_equal(trainer->store.loads - before, 2 * 4 - 4);
    }
    tiny_trainer_free(trainer);
    dataset_free(&data);
    b->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_byte_less_is_refused),
        cmocka_unit_test(nothing_is_allocated_after_the_first_step),
        cmocka_unit_test(the_process_does_not_grow),
        cmocka_unit_test(the_turns_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
