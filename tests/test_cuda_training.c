// test_cuda_training.c - LISA on the CUDA backend: it follows the CPU backend's training, no choice of the plan and no
// order of threads changes a bit, it stops and resumes, allocates nothing once it runs, and ends in order when the card
// fails.
#include "tests/support.h"

#include "base/files.h"
#include "tests/parity.h"
#include "tests/session.h"
#include "train/run.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS    12 // with a redraw every three
#define CAPACITY 48 // tokens of a micro-batch: a step's six sequences need several
#define BATCH    6

#define CUDA_ILLEGAL_ADDRESS 700

static Trainer *make_trainer(Backend *b, const ModelConfig *config, const TrainSettings *settings, LayerKeep keep,
                             int64_t sweep) {
    PassSizes sizes = {
        .tokens = CAPACITY, .sweep = sweep, .positions = CAPACITY, .chunk = 16, .rows = config->vocabulary};
    pass_keep_everywhere(&sizes, config->layers, keep);
    return tiny_trainer_with(b, config, settings, &sizes, 7);
}

static ModelConfig small_config(void) {
    ModelConfig config = tiny_config();
    config.layers = 3;
    return config;
}

// ---- bits ----

static void no_choice_changes_a_bit(void **state) {
    (void)state;
    static const struct {
        LayerKeep keep;
        int64_t sweep;
        EmulatorThreadOrder order;
    } runs[] = {
        {KEEP_ALL, 1, THREADS_FORWARD}, // again: the same run twice
        {KEEP_ATTENTION, 2, THREADS_REVERSE},
        {KEEP_INPUT, 4, THREADS_RANDOM},
    };
    ModelConfig config = small_config();
    TrainSettings settings = tiny_settings();
    Dataset data = tiny_dataset(40, 20, config.vocabulary, 3);
    int64_t steps = emulator_checked() ? 4 : STEPS; // with a redraw all the same
    Trainer *first = make_trainer(parity.cuda, &config, &settings, KEEP_ALL, 1);
    StepReport report = tiny_steps(first, &data, BATCH, 0, steps);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        emulator_thread_order(runs[i].order, 5);
        Trainer *other = make_trainer(parity.cuda, &config, &settings, runs[i].keep, runs[i].sweep);
        StepReport same = tiny_steps(other, &data, BATCH, 0, steps);
        assert_true(same.loss == report.loss && same.grad_norm == report.grad_norm);
        tiny_assert_same_weights(first, other);
        tiny_trainer_free(other);
    }
    emulator_thread_order(THREADS_FORWARD, 0);
    tiny_trainer_free(first);
    dataset_free(&data);
}

// ---- beside the CPU ----

static void copy_weights(Trainer *to, Trainer *from) {
    for (int block = 0; block < block_count(&from->store.layout); block++) {
        size_t bytes = (size_t)block_elements(&from->store.layout, block) * sizeof(bf16);
        memcpy(store_put(&to->store, block), store_get(&from->store, block), bytes);
        store_put_finish(&to->store, block);
    }
}

static void weights_as_floats(Trainer *trainer, int block, float *floats) {
    const bf16 *weights = store_get(&trainer->store, block);
    for (int64_t i = 0; i < block_elements(&trainer->store.layout, block); i++) floats[i] = bf16_to_float(weights[i]);
}

static void check_against_exact(const char *what, float *values[3], int64_t count, double factor) {
    double *reference = malloc((size_t)count * sizeof *reference);
    assert_non_null(reference);
    for (int64_t i = 0; i < count; i++) reference[i] = (double)values[2][i];
    check_rule(what, values[0], values[1], reference, count, factor);
    free(reference);
}

static void check_weights(Trainer *trainers[3]) {
    const BlockLayout *layout = &trainers[0]->store.layout;
    for (int block = 0; block < block_count(layout); block++) {
        float *values[3];
        char label[32];
        snprintf(label, sizeof label, "weights of block %d", block);
        for (int i = 0; i < 3; i++) {
            values[i] = malloc((size_t)block_elements(layout, block) * sizeof(float));
            assert_non_null(values[i]);
            weights_as_floats(trainers[i], block, values[i]);
        }
        check_against_exact(label, values, block_elements(layout, block), PARITY_GRADIENT);
        for (int i = 0; i < 3; i++) free(values[i]);
    }
}

// Losses, norms and weights over four draws stay as close to the float CPU backend as the rounding one does.
static void training_follows_the_cpu(void **state) {
    (void)state;
    Backend *const backends[3] = {parity.cuda, parity.rounded, parity.exact};
    ModelConfig config = small_config();
    TrainSettings settings = tiny_settings();
    Dataset data = tiny_dataset(40, 20, config.vocabulary, 3);
    Trainer *trainers[3];
    float losses[3][STEPS], norms[3][STEPS];
    for (int i = 2; i >= 0; i--) {
        trainers[i] = make_trainer(backends[i], &config, &settings, KEEP_ALL, 1);
        copy_weights(trainers[i], trainers[2]);
    }
    for (int i = 0; i < 3; i++) {
        for (int64_t step = 0; step < STEPS; step++) {
            StepReport report = tiny_steps(trainers[i], &data, BATCH, step, step + 1);
            losses[i][step] = (float)report.loss;
            norms[i][step] = (float)report.grad_norm;
        }
    }
    float *loss_rows[3] = {losses[0], losses[1], losses[2]}, *norm_rows[3] = {norms[0], norms[1], norms[2]};
    check_against_exact("loss", loss_rows, STEPS, PARITY_FORWARD);
    check_against_exact("gradient norm", norm_rows, STEPS, PARITY_GRADIENT);
    check_weights(trainers);
    for (int i = 0; i < 3; i++) tiny_trainer_free(trainers[i]);
    dataset_free(&data);
}

// ---- memory ----

static void nothing_is_allocated_after_the_first_step(void **state) {
    (void)state;
    Error error = {0};
    ModelConfig config = small_config();
    TrainSettings settings = tiny_settings();
    settings.lisa_keep_low_bits = true;
    settings.lisa_interval_steps = 1;
    Dataset data = tiny_dataset(40, 20, config.vocabulary, 3);
    Trainer *trainer = make_trainer(parity.cuda, &config, &settings, KEEP_ATTENTION, 2);
    tiny_steps(trainer, &data, BATCH, 0, 1);
    long before = emulator_allocations();
    double loss;
    int64_t targets;
    tiny_steps(trainer, &data, BATCH, 1, 6);
    check(run_evaluation(trainer, &data, &loss, &targets, &error), &error);
    tiny_steps(trainer, &data, BATCH, 6, 9);
    assert_int_equal(emulator_allocations(), before);
    assert_true(loss > 3.5 && loss < 4.5);
    assert_int_equal(targets, data.targets);
    tiny_trainer_free(trainer);
    dataset_free(&data);
}

// ---- whole runs ----

static volatile sig_atomic_t stop_flag;
static int64_t stop_after;

static void stop_at_step(void *context, const StepMetrics *metrics, double seconds_left) {
    (void)context, (void)seconds_left;
    if (metrics->step == stop_after) stop_flag = 1;
}

static Backend *card(void) {
    Error error = {0};
    Backend *backend = backend_cuda_create(0, 1, &error);
    check(backend != NULL, &error);
    return backend;
}

static bool run(Session *s, char *folder, int64_t first, int64_t stop, RunResult *result, Error *error) {
    stop_flag = 0;
    stop_after = stop;
    s->settings.output_dir = folder;
    s->facts.steps = run_steps(&s->settings, &s->data);
    TrainingRun whole = {.trainer = &s->trainer,
                         .settings = &s->settings,
                         .dataset = &s->data,
                         .eval_dataset = &s->data,
                         .checkpoint = s->facts,
                         .stop = &stop_flag,
                         .observer = {.on_step = stop_at_step}};
    return run_training(&whole, first, result, error);
}

static TrainSettings run_settings(bool keep_low_bits) {
    TrainSettings settings = settings_with(1, keep_low_bits);
    settings.num_train_epochs = 1; // 30 sequences, 4 a step: 8 steps
    return settings;
}

static void a_stopped_run_goes_on_to_the_same_end(void **state) {
    (void)state;
    for (int keep = 0; keep <= !emulator_checked(); keep++) {
        Error error = {0};
        TrainSettings settings = run_settings(keep);
        Session whole, first, second;
        char *folder_a = make_folder(), *folder_b = make_folder(), *resume;
        RunResult a, b, c;
        open_session_on(&whole, card(), SESSION_MODEL, &settings);
        check(run(&whole, folder_a, 0, -1, &a, &error), &error);
        assert_int_equal(a.steps, 8);
        open_session_on(&first, card(), SESSION_MODEL, &settings);
        check(run(&first, folder_b, 0, 4, &b, &error), &error); // seen when the step behind it is queued
        assert_true(b.stopped);
        assert_int_equal(b.steps, 5);
        check(checkpoint_prepare_folder(folder_b, false, &resume, &error), &error);
        int64_t step = resume_session_on(&second, card(), resume, &settings, 8);
        assert_int_equal(step, 5);
        check(run(&second, folder_b, step, -1, &c, &error), &error);
        assert_int_equal(c.steps, 8);
        assert_true(c.train_loss == a.train_loss && c.eval_loss == a.eval_loss);
        tiny_assert_same_weights(&whole.trainer, &second.trainer);
        close_session(&whole);
        close_session(&first);
        close_session(&second);
        free(resume);
        remove_folder(folder_a);
        remove_folder(folder_b);
    }
}

static void a_loss_that_is_no_number_ends_the_run(void **state) {
    (void)state;
    Error error = {0};
    TrainSettings settings = run_settings(false);
    Session s;
    RunResult result;
    char *folder = make_folder();
    open_session_on(&s, card(), SESSION_MODEL, &settings);
    s.facts.shuffle = false;
    BlockStore *store = &s.trainer.store;
    int head = block_count(&store->layout) - 1;
    memcpy(store_put(store, head), store_get(store, head), (size_t)block_elements(&store->layout, head) * sizeof(bf16));
    store_put(store, head)[store->layout.final_norm.offset] = 0x7f80; // infinity
    store_put_finish(store, head);
    assert_false(run(&s, folder, 0, -1, &result, &error));
    assert_non_null(strstr(error.text, "step 1: the loss is"));
    assert_non_null(strstr(error.text, "not finite numbers; the step is dropped (its examples: 1, 2, 3, 4)"));
    close_session(&s);
    remove_folder(folder);
}

// A card that fails in mid-run: the message names operation and step, and the checkpoint before it is whole.
static void a_fault_ends_the_run(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    Error error = {0};
    TrainSettings settings = run_settings(false);
    Session s;
    RunResult result;
    int one, other;
    char *folder = make_folder(), *resume;
    open_session_on(&s, card(), SESSION_MODEL, &settings);
    check(run(&s, folder, 0, 2, &result, &error), &error);
    assert_int_equal(result.steps, 3);
    assert_int_equal(emulator_errors(), 0);
    emulator_fail_launch(150, CUDA_ILLEGAL_ADDRESS);
    assert_false(run(&s, folder, 3, -1, &result, &error));
    assert_int_equal(sscanf(error.text, "step %d or %d: CUDA", &one, &other), 2); // the second was queued already
    assert_true(one >= 4 && other == one + 1);
    assert_non_null(
        strstr(error.text, "an illegal memory access was encountered (cudaErrorIllegalAddress), noticed at"));
    assert_int_equal(result.saved, 3); // the command names it and how to go on from it
    emulator_clear_errors();
    close_session(&s);
    check(checkpoint_prepare_folder(folder, false, &resume, &error), &error);
    assert_non_null(resume);
    assert_string_equal(path_name(resume), "checkpoint-3");
    free(resume);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_choice_changes_a_bit),
        cmocka_unit_test(training_follows_the_cpu),
        cmocka_unit_test(nothing_is_allocated_after_the_first_step),
        cmocka_unit_test(a_stopped_run_goes_on_to_the_same_end),
        cmocka_unit_test(a_loss_that_is_no_number_ends_the_run),
        cmocka_unit_test(a_fault_ends_the_run),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
