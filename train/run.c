// run.c - see run.h.
#include "train/run.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "data/order.h"
#include "data/prefetch.h"
#include "train/schedule.h"
#include <math.h>
#include <stdlib.h>

// What changes from step to step.
typedef struct RunState {
    const TrainingRun *run;
    Prefetch *prefetch;
    Metrics *metrics;
    int64_t steps;     // of the whole run
    int64_t per_epoch; // steps
    int64_t step;      // done
    int64_t saved;     // step of the newest checkpoint; -1: none in this run
    double started;    // seconds on the monotonic clock, as below
    double last_save;
    double last_log;
    int64_t first;         // step that this process started from
    int64_t tokens_at_log; // tokens trained on at the last log line
    double loss_sum;       // of the steps since the last log line
    int64_t loss_steps;
    StepReport report; // of the last step
    RunResult *result;
} RunState;

static int64_t batch_size(const TrainSettings *settings) {
    return settings->per_device_train_batch_size * settings->gradient_accumulation_steps;
}

int64_t run_steps(const TrainSettings *settings, const Dataset *dataset) {
    if (settings->max_steps > 0) return settings->max_steps;
    int64_t per_epoch = steps_per_epoch(dataset->sequences, batch_size(settings));
    return (int64_t)ceil(settings->num_train_epochs * (double)per_epoch);
}

// ---- evaluation ----

bool run_evaluation(Trainer *trainer, const Dataset *dataset, double *loss, int64_t *targets, Error *error) {
    MicroBatch batch;
    double sum = 0;
    bool ok = micro_batch_create(&batch, trainer->plan.sizes.tokens, error);
    *targets = 0;
    for (int64_t next = 0; ok && next < dataset->sequences;) {
        micro_batch_clear(&batch);
        int64_t first = next;
        while (next < dataset->sequences && micro_batch_add(&batch, dataset, next)) next++;
        if (next == first) {
            ok = error_set(error, "sequence %lld of the evaluation data is longer than a micro-batch", (long long)next);
            break;
        }
        micro_batch_finish(&batch);
        ok = trainer_evaluate(trainer, &batch, 1, &sum, targets, error);
    }
    micro_batch_free(&batch);
    *loss = *targets ? sum / (double)*targets : NAN;
    return ok;
}

static double epoch_of(const RunState *s) {
    return (double)s->step / (double)s->per_epoch;
}

static bool evaluate(RunState *s, Error *error) {
    const TrainingRun *run = s->run;
    int64_t targets;
    if (!run->eval_dataset) return true;
    if (!run_evaluation(run->trainer, run->eval_dataset, &s->result->eval_loss, &targets, error)) return false;
    if (run->observer.on_evaluation)
        run->observer.on_evaluation(run->observer.context, s->step, s->result->eval_loss, targets);
    return metrics_evaluation(s->metrics, s->step, epoch_of(s), s->result->eval_loss, targets, error);
}

// ---- saving ----

static bool save(RunState *s, Error *error) {
    const TrainingRun *run = s->run;
    if (s->saved == s->step) return true;
    if (!checkpoint_save(run->trainer, &run->checkpoint, run->settings->output_dir, s->step, error)) return false;
    s->saved = s->step;
    s->last_save = clock_seconds();
    if (run->observer.on_checkpoint)
        run->observer.on_checkpoint(run->observer.context, s->step, run->settings->output_dir);
    return true;
}

// Whether something that recurs by this strategy is due after the step just done.
static bool due(const RunState *s, Strategy strategy, int64_t every) {
    if (strategy == WHEN_EPOCH) return s->step % s->per_epoch == 0;
    return strategy == WHEN_STEPS && s->step % every == 0;
}

static bool save_due(const RunState *s) {
    const TrainSettings *settings = s->run->settings;
    if (due(s, settings->save_strategy, settings->save_steps)) return true;
    return settings->save_minutes > 0 && clock_seconds() - s->last_save >= 60 * settings->save_minutes;
}

// ---- one step ----

static bool log_step(RunState *s, double learning_rate, Error *error) {
    const TrainingRun *run = s->run;
    int layers[MODEL_LAYERS_MAX];
    double time = clock_seconds(), elapsed = time - s->last_log;
    StepMetrics row = {
        .step = s->step,
        .epoch = epoch_of(s),
        .loss = s->loss_sum / (double)s->loss_steps,
        .grad_norm = s->report.grad_norm,
        .learning_rate = learning_rate,
        .tokens_per_second = elapsed > 0 ? (double)(s->result->tokens - s->tokens_at_log) / elapsed : 0,
        .active_layers = layers,
        .active_count = active_layers(&run->trainer->active, layers),
    };
    double per_step = (time - s->started) / (double)(s->step - s->first);
    s->result->train_loss = row.loss;
    s->last_log = time;
    s->tokens_at_log = s->result->tokens;
    s->loss_sum = 0;
    s->loss_steps = 0;
    if (run->observer.on_step)
        run->observer.on_step(run->observer.context, &row, per_step * (double)(s->steps - s->step));
    return metrics_step(s->metrics, &row, error);
}

#define SEQUENCES_NAMED 8 // of the step that failed

// Appends the numbers of the step's sequences in the data set, counted from 1.
static bool name_sequences(const RunState *s, Buffer *text, Error *error) {
    const TrainingRun *run = s->run;
    int64_t sequences = run->dataset->sequences;
    StepPlace place = step_place(s->step, sequences, batch_size(run->settings));
    int64_t *order = malloc((size_t)sequences * sizeof *order);
    if (!order) return error_memory(error, "the order of the examples", (size_t)sequences * sizeof *order);
    epoch_order(order, sequences, run->settings->seed, place.epoch, run->checkpoint.shuffle);
    bool ok = true;
    for (int64_t i = 0; ok && i < place.count && i < SEQUENCES_NAMED; i++)
        ok = buffer_format(text, error, "%s%lld", i ? ", " : "", (long long)order[place.first + i] + 1);
    if (ok && place.count > SEQUENCES_NAMED)
        ok = buffer_format(text, error, " and %lld more", (long long)(place.count - SEQUENCES_NAMED));
    free(order);
    return ok;
}

// The sign of what is no number says nothing.
static double unsigned_nan(double value) {
    return isnan(value) ? fabs(value) : value;
}

static bool not_finite(const RunState *s, Error *error) {
    Buffer names = BUFFER_EMPTY;
    if (name_sequences(s, &names, error)) {
        error_set(error,
                  "step %lld: the loss is %g and the gradient norm %g, not finite numbers; the step is dropped (its "
                  "examples: %s)",
                  (long long)s->step + 1, unsigned_nan(s->report.loss), unsigned_nan(s->report.grad_norm),
                  buffer_string(&names));
        error_hint(error,
                   "lower learning_rate (now %g), or look at these examples with lisa preview; the last checkpoint "
                   "is untouched",
                   s->run->settings->learning_rate);
    }
    buffer_free(&names);
    return false;
}

static bool take_step(RunState *s, Error *error) {
    const TrainingRun *run = s->run;
    const MicroBatch *batches;
    int64_t count;
    prefetch_next(s->prefetch, &batches, &count);
    double learning_rate = schedule_learning_rate(run->settings, s->step, s->steps);
    if (!trainer_step(run->trainer, s->step, learning_rate, batches, count, &s->report, error)) return false;
    if (s->report.skipped) return not_finite(s, error);
    s->step++;
    s->result->steps = s->step;
    s->result->tokens += s->report.tokens;
    s->loss_sum += s->report.loss;
    s->loss_steps++;
    bool last = s->step == s->steps;
    if ((s->step % run->settings->logging_steps == 0 || last) && !log_step(s, learning_rate, error)) return false;
    if ((due(s, run->settings->eval_strategy, run->settings->eval_steps) || last) && !evaluate(s, error)) return false;
    return !save_due(s) || save(s, error);
}

static bool loop(RunState *s, Error *error) {
    if (s->first == 0 && !evaluate(s, error)) return false;
    s->last_log = s->last_save = s->started = clock_seconds();
    while (s->step < s->steps && !*s->run->stop)
        if (!take_step(s, error)) return false;
    s->result->stopped = s->step < s->steps;
    if (s->result->stopped && s->step == s->first) return true; // nothing was done that could be lost
    // what a process that was killed while removing it has left
    return save(s, error) &&
           checkpoint_prune(s->run->settings->output_dir, s->run->settings->save_total_limit, s->step, error);
}

bool run_training(const TrainingRun *run, int64_t first, RunResult *result, Error *error) {
    const TrainSettings *settings = run->settings;
    double started = clock_seconds();
    *result = (RunResult){.steps = first, .train_loss = NAN, .eval_loss = NAN};
    RunState s = {.run = run,
                  .steps = run_steps(settings, run->dataset),
                  .step = first,
                  .first = first,
                  .saved = checkpoint_exists(settings->output_dir, first) ? first : -1,
                  .result = result,
                  .per_epoch = steps_per_epoch(run->dataset->sequences, batch_size(settings))};
    PrefetchPlan plan = {.dataset = run->dataset,
                         .batch_size = batch_size(settings),
                         .tokens = run->trainer->plan.sizes.tokens,
                         .seed = settings->seed,
                         .shuffle = run->checkpoint.shuffle,
                         .first_step = first,
                         .steps = s.steps};
    s.metrics = metrics_open(settings->output_dir, first, error);
    s.prefetch = s.metrics ? prefetch_create(&plan, error) : NULL;
    bool ok = s.prefetch && loop(&s, error);
    prefetch_free(s.prefetch);
    metrics_close(s.metrics);
    result->seconds = clock_seconds() - started;
    return ok;
}
