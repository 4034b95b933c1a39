// test_forecast.c - what is said of a run before its first step: disk and time.
#include "tests/support.h"

#include "cli/forecast.h"
#include "tests/tiny_model.h"

#define CHECKPOINT 1000 // bytes

// The forecast for 12 sequences; steps_done are behind the run already.
static Forecast forecast_of(Backend *backend, TrainSettings settings, int64_t steps_done, int64_t steps) {
    Error error = {0};
    Forecast forecast;
    char folder[] = "/tmp";
    settings.output_dir = folder;
    ModelConfig config = tiny_config();
    Dataset data = tiny_dataset(12, 30, config.vocabulary, 1);
    Trainer *trainer = tiny_trainer(backend, &config, &settings, 1);
    check(forecast_make(&forecast, trainer, &data, steps_done, steps, CHECKPOINT, &error), &error);
    tiny_trainer_free(trainer);
    dataset_free(&data);
    return forecast;
}

static TrainSettings settings_of(int64_t batch) {
    TrainSettings settings = tiny_settings();
    settings.per_device_train_batch_size = batch;
    settings.gradient_accumulation_steps = 1;
    settings.save_strategy = WHEN_EPOCH;
    settings.save_steps = 0;
    settings.save_minutes = 0;
    settings.save_total_limit = 1;
    return settings;
}

// As many checkpoints as are kept, and the new one; but never more than the run writes.
static void disk_is_asked_for_what_is_written(void **state) {
    TrainSettings settings = settings_of(4); // 3 steps an epoch
    assert_int_equal(forecast_of(*state, settings, 0, 9).disk_needed, 2 * CHECKPOINT);
    assert_int_equal(forecast_of(*state, settings, 0, 3).disk_needed, CHECKPOINT);
    settings.save_total_limit = 1000000;
    assert_int_equal(forecast_of(*state, settings, 0, 9).disk_needed, 3 * CHECKPOINT);
    assert_int_equal(forecast_of(*state, settings, 6, 10).disk_needed, 2 * CHECKPOINT);
    settings.save_strategy = WHEN_NO;
    assert_int_equal(forecast_of(*state, settings, 0, 9).disk_needed, CHECKPOINT);
    settings.save_strategy = WHEN_STEPS;
    settings.save_steps = 2;
    assert_int_equal(forecast_of(*state, settings, 0, 9).disk_needed, 5 * CHECKPOINT);
    settings.save_total_limit = 3;
    assert_int_equal(forecast_of(*state, settings, 0, 9).disk_needed, 4 * CHECKPOINT);
}

// A batch larger than the data takes what there is: a step is then an epoch.
static void a_large_batch_takes_no_longer_than_the_data(void **state) {
    Forecast exact = forecast_of(*state, settings_of(12), 0, 2);
    Forecast large = forecast_of(*state, settings_of(1000000), 0, 2);
    assert_true(large.seconds < 1000 * exact.seconds); // both are measured, so they are not equal
    assert_int_equal(forecast_of(*state, settings_of(1000000), 2, 2).disk_needed, 0);
}

static int make_backend(void **state) {
    Error error = {0};
    *state = backend_cpu_create(1, false, &error);
    check(*state, &error);
    return 0;
}

static int free_backend(void **state) {
    Backend *backend = *state;
    backend->destroy(backend);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disk_is_asked_for_what_is_written),
        cmocka_unit_test(a_large_batch_takes_no_longer_than_the_data),
    };
    return cmocka_run_group_tests(tests, make_backend, free_backend);
}
