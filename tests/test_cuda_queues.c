// test_cuda_queues.c - training on a card whose streams are queues: whatever legal order their work is done in, early,
// late or at random, gives the same bits; and every wait of a stream for an event is needed: leaving it out is noticed.
#include "tests/parity.h"
#include "tests/queue_orders.h"
#include "tests/session.h"
#include "train/run.h"
#include <stdlib.h>
#include <string.h>

#define ORDERS 6

static Backend *card(void) {
    Error error = {0};
    Backend *backend = backend_cuda_create(0, 1, &error);
    check(backend != NULL, &error);
    return backend;
}

// ---- whole runs ----

// Trains, evaluates and saves on the way, with redraws; two micro-batches a step.
static RunResult whole_run(Session *s, int order) {
    static const volatile sig_atomic_t no_stop;
    Error error = {0};
    RunResult result;
    TrainSettings settings = settings_with(1, true);
    settings.num_train_epochs = 1; // 30 sequences, 10 a step
    settings.gradient_accumulation_steps = 10;
    settings.micro_batch_tokens = 64;
    settings.lisa_interval_steps = 1;
    settings.eval_strategy = settings.save_strategy = WHEN_STEPS;
    settings.eval_steps = settings.save_steps = 2;
    char *folder = make_folder();
    queue_order(order);
    open_session_on(s, card(), SESSION_MODEL, &settings);
    s->settings.output_dir = folder;
    s->facts.steps = run_steps(&s->settings, &s->data);
    TrainingRun run = {.trainer = &s->trainer,
                       .settings = &s->settings,
                       .dataset = &s->data,
                       .eval_dataset = &s->data,
                       .checkpoint = s->facts,
                       .stop = &no_stop};
    check(run_training(&run, 0, &result, &error), &error);
    remove_folder(folder);
    return result;
}

static void the_order_of_queues_changes_no_bit(void **state) {
    (void)state;
    Session first, other;
    RunResult expected = whole_run(&first, 0);
    assert_int_equal(expected.steps, 3);
    for (int order = 1; order < (emulator_checked() ? 3 : ORDERS); order++) { // races are reported in any order
        RunResult result = whole_run(&other, order);
        if (result.train_loss != expected.train_loss || result.eval_loss != expected.eval_loss)
            fail_msg("order %d: losses %.17g and %.17g, not %.17g and %.17g", order, result.train_loss,
                     result.eval_loss, expected.train_loss, expected.eval_loss);
        tiny_assert_same_weights(&first.trainer, &other.trainer);
        close_session(&other);
    }
    close_session(&first);
    queue_order(0);
    assert_int_equal(emulator_errors(), 0);
}

// ---- each wait left out ----

// Weights and last report of a short training.
typedef struct Outcome {
    StepReport report;
    size_t size;
    unsigned char *weights; // [size]
} Outcome;

// Two steps of several sweeps; the second is queued before anybody asks about the first.
static Outcome two_steps(void) {
    Backend *b = card();
    ModelConfig config = tiny_config();
    TrainSettings settings = tiny_settings();
    config.layers = 1;
    settings.lisa_activated_layers = 1;
    PassSizes sizes = {.tokens = 24, .sweep = 1, .positions = 24, .chunk = 8, .rows = config.vocabulary};
    Dataset data = tiny_dataset(8, 20, config.vocabulary, 3);
    Trainer *trainer = tiny_trainer_with(b, &config, &settings, &sizes, 7);
    Outcome outcome = {.report = tiny_steps(trainer, &data, 4, 0, 2)};
    for (int block = 0; block < block_count(&trainer->store.layout); block++) {
        size_t bytes = (size_t)block_elements(&trainer->store.layout, block) * sizeof(bf16);
        outcome.weights = realloc(outcome.weights, outcome.size + bytes);
        assert_non_null(outcome.weights);
        memcpy(outcome.weights + outcome.size, store_get(&trainer->store, block), bytes);
        outcome.size += bytes;
    }
    tiny_trainer_free(trainer);
    dataset_free(&data);
    b->destroy(b);
    return outcome;
}

static bool same_two_steps(const void *context) {
    const Outcome *expected = context;
    Outcome outcome = two_steps();
    return outcome.report.loss == expected->report.loss && outcome.report.grad_norm == expected->report.grad_norm &&
           outcome.size == expected->size && !memcmp(outcome.weights, expected->weights, expected->size);
}

static void every_wait_is_needed(void **state) {
    (void)state;
    if (!emulator_checked()) skip(); // elsewhere a race is noticed by chance
    queue_order(0);
    long before = emulator_event_waits();
    Outcome expected = two_steps();
    long waits = emulator_event_waits() - before;
    assert_true(waits >= 8);
    assert_every_wait_needed(same_two_steps, &expected, waits);
    free(expected.weights);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_queues_changes_no_bit),
        cmocka_unit_test(every_wait_is_needed), // last
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
