// test_phases.c - the clock of a step's phases: every moment of a step belongs to one phase, and measuring changes
// nothing; the count of operations beside it.
#include "base/clock.h"
#include "tests/support.h"
#include "tests/tiny_model.h"
#include "train/flops.h"

typedef struct Stage {
    Backend *backend;
    ModelConfig config;
    TrainSettings settings;
    Dataset dataset;
    Trainer *trainer;
} Stage;

static void open_stage(Stage *s, double max_grad_norm) {
    Error error = {0};
    s->backend = backend_cpu_create(1, false, &error);
    check(s->backend != NULL, &error);
    s->config = tiny_config();
    s->settings = tiny_settings();
    s->settings.max_grad_norm = max_grad_norm;
    s->settings.micro_batch_tokens = 128;
    s->settings.gradient_accumulation_steps = max_grad_norm > 0 ? 8 : 1;
    s->dataset = tiny_dataset(8, 60, s->config.vocabulary, 1);
    s->trainer = tiny_trainer(s->backend, &s->config, &s->settings, 7);
}

static void close_stage(Stage *s) {
    tiny_trainer_free(s->trainer);
    dataset_free(&s->dataset);
    s->backend->destroy(s->backend);
}

// All phases take time, together exactly the step, and the same weights come out as without a clock.
static void test_phases(void **state) {
    (void)state;
    for (int fused = 0; fused < 2; fused++) {
        Stage measured, plain;
        Error error = {0};
        double seconds[PHASE_COUNT], sum = 0;
        open_stage(&measured, fused ? 0 : 1);
        open_stage(&plain, fused ? 0 : 1);
        assert_int_equal(measured.trainer->plan.fused_update, fused);
        PhaseClock clock;
        phase_clock_create(&clock, measured.backend);
        measured.trainer->passes.clock = &clock;
        int64_t batch = fused ? 1 : 8;
        phase_step(&clock);
        double started = clock_seconds();
        tiny_steps(measured.trainer, &measured.dataset, batch, 0, 1);
        double outside = clock_seconds() - started;
        phase_step(&clock);
        tiny_steps(measured.trainer, &measured.dataset, batch, 1, 2);
        tiny_steps(plain.trainer, &plain.dataset, batch, 0, 2);

        check(phase_clock_read(&clock, 0, seconds, &error), &error);
        for (int phase = 0; phase < PHASE_COUNT; phase++) {
            assert_true(seconds[phase] > 0);
            sum += seconds[phase];
        }
        assert_true(sum >= outside); // the clock was started before and stopped after
        assert_true(sum < outside + 1);
        assert_false(phase_clock_read(&clock, 1, seconds, &error)); // has not ended
        assert_string_equal(error.text, "step 1 was not measured");
        tiny_assert_same_weights(measured.trainer, plain.trainer);
        phase_clock_free(&clock);
        close_stage(&measured);
        close_stage(&plain);
    }
}

// Steps are told apart, and a cleared clock begins again with the events it has.
static void test_steps_and_clearing(void **state) {
    (void)state;
    Error error = {0};
    double seconds[PHASE_COUNT];
    Backend *b = backend_cpu_create(1, false, &error);
    PhaseClock clock;
    phase_start(NULL, PHASE_HEAD); // no clock: nothing
    phase_clock_create(&clock, b);
    phase_start(&clock, PHASE_HEAD); // no step yet: nothing
    assert_int_equal(clock.count, 0);
    for (int round = 0; round < 2; round++) {
        phase_clock_clear(&clock);
        for (int step = 0; step < 50; step++) {
            phase_step(&clock);
            phase_start(&clock, step % 2 ? PHASE_HEAD : PHASE_FORWARD);
            phase_start(&clock, step % 2 ? PHASE_HEAD : PHASE_FORWARD); // it is that already
        }
        phase_step(&clock);
        assert_int_equal(clock.count, 101);
        for (int step = 0; step < 50; step++) {
            check(phase_clock_read(&clock, step, seconds, &error), &error);
            assert_true(seconds[step % 2 ? PHASE_FORWARD : PHASE_HEAD] == 0);
            assert_true(seconds[PHASE_UPDATE] == 0);
        }
        assert_false(phase_clock_read(&clock, 50, seconds, &error));
        assert_false(phase_clock_read(&clock, -1, seconds, &error));
    }
    phase_clock_free(&clock);
    b->destroy(b);
}

static double executed(const Stage *s, const MicroBatch *batch, LayerKeep keep) {
    PassSizes sizes = {0};
    pass_keep_everywhere(&sizes, s->config.layers, keep);
    GemmWork works[GEMM_WORKS_MAX];
    int count = gemm_works_again(&s->config, batch, &sizes, works);
    double flops = attention_flops_executed(&s->config, batch, &sizes, s->backend);
    for (int i = 0; i < count; i++) flops += gemm_flops(&works[i]);
    return flops;
}

// One sequence of 10 tokens: what is computed again, from the shapes of tiny_config by hand.
static void test_executed_operations(void **state) {
    (void)state;
    Stage s;
    Error error = {0};
    MicroBatch batch;
    open_stage(&s, 1);
    int64_t starts[] = {0, 10}, ones[] = {0, 1};
    int32_t ids[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    uint8_t trained[10] = {0};
    Dataset one = {1, starts, ids, trained, 1, ones, 10, 0};
    check(micro_batch_create(&batch, 128, &error), &error);
    micro_batch_clear(&batch);
    assert_true(micro_batch_add(&batch, &one, 0));
    micro_batch_finish(&batch);
    double layers = 5, product = 2 * 55 * 4 * 8; // pairs, heads, head_dim
    double qkv = 2 * 10 * (32 + 2 * 16) * 32, output = 2 * 10 * 32 * 32, gate_up = 2 * 10 * 96 * 32;
    assert_true(attention_flops(&s.config, &batch) == layers * 7 * product);
    assert_true(executed(&s, &batch, KEEP_ALL) == layers * 7 * product);
    assert_true(executed(&s, &batch, KEEP_ATTENTION) == layers * (7 * product + gate_up));
    assert_true(executed(&s, &batch, KEEP_INPUT) == layers * (9 * product + qkv + output + gate_up));
    assert_int_equal(s.backend->attention_products(s.backend, 512), 5);
    assert_int_equal(s.backend->attention_products(s.backend, 513), 7);
    micro_batch_free(&batch);
    close_stage(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_steps_and_clearing),
        cmocka_unit_test(test_executed_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
