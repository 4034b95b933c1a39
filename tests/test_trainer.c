// test_trainer.c - what must hold of LISA itself (DESIGN.md section 4), on a tiny random model.
#include "tests/support.h"

#include "tests/tiny_model.h"
#include <malloc.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 12

static Backend *cpu(int threads) {
    Error error = {0};
    Backend *backend = backend_cpu_create(threads, false, &error);
    check(backend, &error);
    return backend;
}

static int setup(void **state) {
    *state = cpu(2);
    return 0;
}

static int teardown(void **state) {
    Backend *backend = *state;
    backend->destroy(backend);
    return 0;
}

static bool same(const bf16 *before, Trainer *trainer, int block) {
    return !memcmp(before, store_get(&trainer->store, block),
                   (size_t)block_elements(&trainer->store.layout, block) * sizeof(bf16));
}

// In each interval exactly E, H and the drawn layers change, those drawn late among them, and every block's change is
// more than the rounding of a freeze.
static void exactly_the_drawn_blocks_change(void **state) {
    ModelConfig config = tiny_config();
    TrainSettings settings = tiny_settings();
    Dataset data = tiny_dataset(40, 30, config.vocabulary, 1);
    Trainer *trainer = tiny_trainer(*state, &config, &settings, 7);
    bool ever[8] = {false};
    for (int64_t draw = 0; draw < 16; draw++) {
        bf16 *before[7];
        // the step that draws: leaving layers are rounded in it, so the comparison starts behind it
        tiny_steps(trainer, &data, 4, 3 * draw, 3 * draw + 1);
        for (int block = 0; block < 7; block++) before[block] = tiny_weights(trainer, block);
        tiny_steps(trainer, &data, 4, 3 * draw + 1, 3 * draw + 3);
        int drawn[5];
        method_draw(&trainer->active.method, draw, drawn);
        for (int block = 0; block < 7; block++) {
            bool active = block == 0 || block == 6 || block == drawn[0] + 1 || block == drawn[1] + 1;
            assert_int_equal(same(before[block], trainer, block), !active);
            ever[block] |= active;
            free(before[block]);
        }
    }
    for (int block = 0; block < 7; block++) assert_true(ever[block]);
    tiny_trainer_free(trainer);
    dataset_free(&data);
}

static void all_layers_equal_full_fine_tuning(void **state) {
    ModelConfig config = tiny_config();
    TrainSettings lisa = tiny_settings(), full = tiny_settings();
    lisa.lisa_activated_layers = config.layers;
    full.finetuning_type = METHOD_FULL;
    Dataset data = tiny_dataset(40, 30, config.vocabulary, 2);
    Trainer *a = tiny_trainer(*state, &config, &lisa, 7), *b = tiny_trainer(*state, &config, &full, 7);
    StepReport last_a = tiny_steps(a, &data, 4, 0, STEPS), last_b = tiny_steps(b, &data, 4, 0, STEPS);
    assert_true(last_a.loss == last_b.loss && last_a.grad_norm == last_b.grad_norm);
    tiny_assert_same_weights(a, b);
    tiny_trainer_free(a);
    tiny_trainer_free(b);
    dataset_free(&data);
}

// Trains twice, the second time with other settings, threads or sweeps, and wants the same bits.
static void assert_same_bits(Backend *backend, const TrainSettings *settings, Backend *other_backend,
                             const TrainSettings *other, int64_t sweep, bool tied) {
    ModelConfig config = tiny_config();
    config.tied = tied;
    Dataset data = tiny_dataset(60, 60, config.vocabulary, 3);
    Trainer *a = tiny_trainer(backend, &config, settings, 7);
    PassSizes sizes = a->plan.sizes;
    if (sweep) sizes.sweep = sweep;
    pass_keep_everywhere(&sizes, config.layers,
                         other->gradient_checkpointing == CHECKPOINT_TRUE  ? KEEP_INPUT
                         : other->gradient_checkpointing == CHECKPOINT_MLP ? KEEP_ATTENTION
                                                                           : KEEP_ALL);
    Trainer *b = tiny_trainer_with(other_backend, &config, other, &sizes, 7);
    StepReport last_a = tiny_steps(a, &data, 10, 0, STEPS), last_b = tiny_steps(b, &data, 10, 0, STEPS);
    assert_true(last_a.loss == last_b.loss && last_a.grad_norm == last_b.grad_norm);
    tiny_assert_same_weights(a, b);
    tiny_trainer_free(a);
    tiny_trainer_free(b);
    dataset_free(&data);
}

static void checkpointing_changes_no_bit(void **state) {
    TrainSettings settings = tiny_settings(), other = tiny_settings();
    settings.micro_batch_tokens = 128;
    for (int mode = CHECKPOINT_AUTO; mode <= CHECKPOINT_FALSE; mode++) {
        other.gradient_checkpointing = (GradientCheckpointing)mode;
        assert_same_bits(*state, &settings, *state, &other, 0, mode == CHECKPOINT_TRUE);
    }
}

static void sweep_size_changes_no_bit(void **state) {
    TrainSettings settings = tiny_settings();
    settings.micro_batch_tokens = 128; // ten sequences of up to 60 tokens: several micro-batches
    for (int64_t sweep = 2; sweep <= 5; sweep++) assert_same_bits(*state, &settings, *state, &settings, sweep, false);
}

// Without clipping and with one sweep a block is updated while the backward pass goes on, in less memory.
static void the_fused_update_changes_no_bit(void **state) {
    for (int tied = 0; tied <= 1; tied++) {
        ModelConfig config = tiny_config();
        config.tied = tied;
        TrainSettings settings = tiny_settings();
        settings.max_grad_norm = 0;
        Dataset data = tiny_dataset(40, 60, config.vocabulary, 3);
        Trainer *a = tiny_trainer(*state, &config, &settings, 7);
        assert_true(a->plan.fused_update);
        Trainer *b = tiny_trainer_with(*state, &config, &settings, &a->plan.sizes, 7);
        assert_false(b->plan.fused_update);
        assert_true(b->plan.device_bytes > a->plan.device_bytes);
        for (int64_t step = 0; step < STEPS; step++) {
            StepReport fused = tiny_steps(a, &data, 4, step, step + 1), whole = tiny_steps(b, &data, 4, step, step + 1);
            assert_true(fused.loss == whole.loss);
            assert_true(fabs(fused.grad_norm - whole.grad_norm) <= 1e-6 * whole.grad_norm); // another order of sums
        }
        tiny_assert_same_weights(a, b);
        tiny_trainer_free(a);
        tiny_trainer_free(b);
        dataset_free(&data);
    }
}

static void threads_change_no_bit(void **state) {
    TrainSettings settings = tiny_settings();
    for (int threads = 1; threads <= 3; threads += 2) {
        Backend *other = cpu(threads);
        assert_same_bits(*state, &settings, other, &settings, 0, false);
        other->destroy(other);
    }
}

// One big micro-batch and many small ones give the same loss and norm but for the order of fp32 sums.
static void accumulation_equals_the_big_batch(void **state) {
    ModelConfig config = tiny_config();
    TrainSettings big = tiny_settings(), small = tiny_settings();
    big.micro_batch_tokens = 1024;
    small.micro_batch_tokens = 128;
    Dataset data = tiny_dataset(60, 60, config.vocabulary, 4);
    Trainer *a = tiny_trainer(*state, &config, &big, 7), *b = tiny_trainer(*state, &config, &small, 7);
    for (int64_t step = 0; step < STEPS; step++) {
        StepReport one = tiny_steps(a, &data, 16, step, step + 1), many = tiny_steps(b, &data, 16, step, step + 1);
        assert_int_equal(one.targets, many.targets);
        assert_int_equal(one.tokens, many.tokens);
        assert_true(fabs(one.loss - many.loss) <= 2e-5 * one.loss);
        assert_true(fabs(one.grad_norm - many.grad_norm) <= 2e-3 * one.grad_norm);
    }
    tiny_trainer_free(a);
    tiny_trainer_free(b);
    dataset_free(&data);
}

static void low_bits_can_be_parked(void **state) {
    ModelConfig config = tiny_config();
    TrainSettings settings = tiny_settings();
    settings.lisa_keep_low_bits = true;
    settings.learning_rate = 1e-5; // far below a bf16 step of most weights
    Dataset data = tiny_dataset(40, 30, config.vocabulary, 5);
    Trainer *trainer = tiny_trainer(*state, &config, &settings, 7);
    tiny_steps(trainer, &data, 4, 0, 3);
    int layers[5];
    active_layers(&trainer->active, layers);
    ActiveSet *active = &trainer->active;
    int block = block_of_layer(layers[0]);
    size_t bytes = (size_t)active->of_block[block]->elements * sizeof(int16_t);
    int16_t *low = malloc(bytes);
    bf16 *weights = NULL;
    for (int64_t step = 3; active->of_block[block]; step++) {
        free(weights);
        weights = tiny_weights(trainer, block);
        memcpy(low, active->of_block[block]->low_bits, bytes);
        tiny_steps(trainer, &data, 4, step, step + 1);
    }
    assert_true(same(weights, trainer, block)); // rounded to nearest, as it was; what that lost is parked
    assert_memory_equal(active->parked[block], low, bytes);
    active_update(active, &trainer->store, 0); // the first draw again
    assert_memory_equal(active->of_block[block]->low_bits, low, bytes);
    assert_true(same(weights, trainer, block));
    free(low);
    free(weights);
    tiny_trainer_free(trainer);
    dataset_free(&data);
}

// The loss of a model that can only learn by heart goes down; tied and untied.
static void it_learns(void **state) {
    for (int tied = 0; tied <= 1; tied++) {
        ModelConfig config = tiny_config();
        config.tied = tied;
        TrainSettings settings = tiny_settings();
        settings.learning_rate = 1e-2;
        Dataset data = tiny_dataset(4, 30, config.vocabulary, 6);
        Trainer *trainer = tiny_trainer(*state, &config, &settings, 7);
        double first = tiny_steps(trainer, &data, 4, 0, 1).loss;
        double last = tiny_steps(trainer, &data, 4, 1, 60).loss;
        assert_true(first > 3.5 && last < 1.0);
        tiny_trainer_free(trainer);
        dataset_free(&data);
    }
}

// A step whose loss is not finite changes nothing.
static void not_finite_changes_nothing(void **state) {
    ModelConfig config = tiny_config();
    TrainSettings settings = tiny_settings();
    Dataset data = tiny_dataset(40, 30, config.vocabulary, 8);
    Trainer *trainer = tiny_trainer(*state, &config, &settings, 7);
    assert_false(tiny_steps(trainer, &data, 4, 0, 1).skipped);
    bf16 *head = store_put(&trainer->store, 6);
    head[trainer->store.layout.final_norm.offset] = 0x7fc0; // NaN
    bf16 *before[7];
    for (int block = 0; block < 7; block++) before[block] = tiny_weights(trainer, block);
    StepReport report = tiny_steps(trainer, &data, 4, 1, 2);
    assert_true(report.skipped && isnan(report.loss));
    for (int block = 0; block < 7; block++) {
        assert_true(same(before[block], trainer, block));
        free(before[block]);
    }
    tiny_trainer_free(trainer);
    dataset_free(&data);
}

static void arenas_are_used_to_the_byte(void **state) {
    ModelConfig config = tiny_config();
    TrainSettings settings = tiny_settings();
    settings.lisa_keep_low_bits = true;
    Trainer *trainer = tiny_trainer(*state, &config, &settings, 7);
    assert_int_equal(trainer->device.used, trainer->plan.device_bytes);
    assert_int_equal(trainer->device.peak, trainer->device.capacity);
    assert_int_equal(trainer->pinned.peak, trainer->plan.pinned_bytes);
    assert_int_equal(trainer->host.peak, trainer->plan.host_bytes);
    PlanUse all = {0};
    for (int use = 0; use < USE_COUNT; use++) {
        all.device_bytes += trainer->plan.uses[use].device_bytes;
        all.pinned_bytes += trainer->plan.uses[use].pinned_bytes;
        all.host_bytes += trainer->plan.uses[use].host_bytes;
    }
    assert_int_equal(all.device_bytes, trainer->plan.device_bytes);
    assert_int_equal(all.pinned_bytes, trainer->plan.pinned_bytes);
    assert_int_equal(all.host_bytes, trainer->plan.host_bytes);
    tiny_trainer_free(trainer);
}

// More layers than the model has are an error of training, and no concern of evaluating.
static void a_model_of_one_layer_can_be_evaluated(void **state) {
    ModelConfig config = tiny_config();
    TrainSettings settings = tiny_settings();
    settings.lisa_activated_layers = 2;
    config.layers = 1;
    Error error = {0};
    Plan plan;
    PlanRequest request = {.config = &config, .settings = &settings, .backend = *state, .cutoff_len = 64};
    assert_false(plan_make(&plan, &request, &error));
    assert_string_equal(error.text, "lisa_activated_layers: 2 is more than the model's 1 layers");
    request.evaluate_only = true;
    check(plan_make(&plan, &request, &error), &error);
}

// Nothing is allocated after the first step, whatever layers are drawn.
static void memory_is_flat_over_redraws(void **state) {
    ModelConfig config = tiny_config();
    TrainSettings settings = tiny_settings();
    settings.lisa_interval_steps = 1;
    settings.lisa_sampling = SAMPLING_CYCLE;
    Dataset data = tiny_dataset(4, 30, config.vocabulary, 9);
    Error error = {0};
    Trainer *trainer = tiny_trainer(*state, &config, &settings, 7);
    MicroBatch batch;
    StepReport report;
    check(micro_batch_create(&batch, trainer->plan.sizes.tokens, &error), &error);
    micro_batch_clear(&batch);
    for (int64_t s = 0; s < 4; s++) assert_true(micro_batch_add(&batch, &data, s));
    micro_batch_finish(&batch);
    check(trainer_step(trainer, 0, 1e-3, &batch, 1, &error), &error);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (int64_t step = 1; step < 30; step++) {
        check(trainer_step(trainer, step, 1e-3, &batch, 1, &error), &error);
        check(trainer_report(trainer, &report, &error), &error);
    }
    assert_int_equal(mallinfo2().uordblks + mallinfo2().hblkhd, before);
    micro_batch_free(&batch);
    tiny_trainer_free(trainer);
    dataset_free(&data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exactly_the_drawn_blocks_change),
        cmocka_unit_test(all_layers_equal_full_fine_tuning),
        cmocka_unit_test(checkpointing_changes_no_bit),
        cmocka_unit_test(sweep_size_changes_no_bit),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(the_fused_update_changes_no_bit),
        cmocka_unit_test(accumulation_equals_the_big_batch),
        cmocka_unit_test(low_bits_can_be_parked),
        cmocka_unit_test(it_learns),
        cmocka_unit_test(not_finite_changes_nothing),
        cmocka_unit_test(arenas_are_used_to_the_byte),
        cmocka_unit_test(a_model_of_one_layer_can_be_evaluated),
        cmocka_unit_test(memory_is_flat_over_redraws),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
