// Learning rates and warm-up steps against transformers' schedules, stored by tests/golden/make_optimizer_golden.py.
#include "tests/golden.h"
#include "tests/support.h"
#include "train/schedule.h"
#include <math.h>
#include <string.h>

static ScheduleType schedule_type(const char *kind) {
    static const char *const names[] = {"cosine", "linear", "constant", "constant_with_warmup"};
    static const ScheduleType types[] = {SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT,
                                         SCHEDULE_CONSTANT_WITH_WARMUP};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(kind, names[i]) == 0) return types[i];
    fail_msg("unknown schedule %s", kind);
    return SCHEDULE_CONSTANT;
}

static void test_schedules_follow_transformers(void **state) {
    (void)state;
    json_t *file = golden_json("tests/golden/schedules.json");
    const json_t *schedules = golden_array(file, "schedules");
    for (size_t i = 0; i < json_array_size(schedules); i++) {
        const json_t *schedule = json_array_get(schedules, i);
        const json_t *rates = golden_array(schedule, "rates");
        const char *kind = golden_string(schedule, "kind");
        TrainSettings settings = {.learning_rate = golden_number(schedule, "learning_rate"),
                                  .lr_scheduler_type = schedule_type(kind),
                                  .warmup_steps = (int64_t)golden_number(schedule, "warmup_steps")};
        int64_t steps = (int64_t)golden_number(schedule, "steps");
        assert_int_equal(json_array_size(rates), steps);
        for (int64_t step = 0; step < steps; step++) {
            double rate = schedule_learning_rate(&settings, step, steps);
            double reference = json_number_value(json_array_get(rates, (size_t)step));
            if (!(fabs(rate - reference) <= 1e-12 * settings.learning_rate))
                fail_msg("%s, %lld warm-up steps, step %lld of %lld: %.17g, transformers %.17g", kind,
                         (long long)settings.warmup_steps, (long long)step, (long long)steps, rate, reference);
        }
    }
    json_decref(file);
}

static void test_warmup_ratio_follows_transformers(void **state) {
    (void)state;
    json_t *file = golden_json("tests/golden/schedules.json");
    const json_t *cases = golden_array(file, "warmup");
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *one = json_array_get(cases, i);
        TrainSettings settings = {.warmup_ratio = golden_number(one, "warmup_ratio"), .warmup_steps = -1};
        int64_t steps = (int64_t)golden_number(one, "steps");
        assert_int_equal(schedule_warmup_steps(&settings, steps), (int64_t)golden_number(one, "warmup_steps"));
    }
    json_decref(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules_follow_transformers),
        cmocka_unit_test(test_warmup_ratio_follows_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
