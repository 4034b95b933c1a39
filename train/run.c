// run.c - see run.h.
#include "train/run.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "data/order.h"
#include "data/prefetch.h"
#include "train/schedule.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// What changes from step to step.
typedef struct RunState {
    const TrainingRun *run;
    Prefetch *prefetch;
    Metrics *metrics;
    int64_t steps;     // of the whole run
    int64_t per_epoch; // steps
    int64_t queued;    // steps given to the trainer
    int64_t step;      // steps it has told of
    int64_t saved;     // step of the newest checkpoint; -1: none in this run
    double started;    // seconds on the monotonic clock, as below
    double last_save;
    double last_log;
    int64_t first;         // step that this process started from
    int64_t tokens_at_log; // tokens trained on at the last log line
    double loss_sum;       // of the steps since the last log line
    int64_t loss_steps;
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

// After a failure. Was it the device's, the message tells at which step, as far as that is known of queued work.
// Returns false.
static bool failed(const RunState *s, Error *error) {
    Backend *b = s->run->trainer->backend;
    Error ignored = {0};
    long long next = s->step + 1, newest = s->queued;
    if (b->check(b, &ignored)) return false;
    if (newest > next) return error_context(error, "step %lld or %lld", next, newest);
    return error_context(error, newest == next ? "step %lld" : "after step %lld", newest);
}

// ---- evaluation ----

bool run_evaluation(Trainer *trainer, const Dataset *dataset, double *loss, int64_t *targets, Error *error) {
    MicroBatch batch;
    double sum;
    bool ok = micro_batch_create(&batch, trainer->plan.sizes.tokens, error);
    if (ok) trainer_evaluate_begin(trainer);
    for (int64_t next = 0; ok && next < dataset->sequences;) {
        micro_batch_clear(&batch);
        int64_t first = next;
        while (next < dataset->sequences && micro_batch_add(&batch, dataset, next)) next++;
        if (next == first) {
            ok = error_set(error, "sequence %lld of the evaluation data is longer than a micro-batch", (long long)next);
            break;
        }
        micro_batch_finish(&batch);
        ok = trainer_evaluate(trainer, &batch, 1, error);
    }
    micro_batch_free(&batch);
    if (!ok || !trainer_evaluate_end(trainer, &sum, targets, error)) return false;
    *loss = *targets ? sum / (double)*targets : NAN;
    return true;
}

static double epoch_of(const RunState *s) {
    return (double)s->step / (double)s->per_epoch;
}

static bool evaluate(RunState *s, Error *error) {
    const TrainingRun *run = s->run;
    int64_t targets;
    if (!run->eval_dataset) return true;
    if (!run_evaluation(run->trainer, run->eval_dataset, &s->result->eval_loss, &targets, error))
        return failed(s, error);
    if (run->observer.on_evaluation)
        run->observer.on_evaluation(run->observer.context, s->step, s->result->eval_loss, targets);
    return metrics_evaluation(s->metrics, s->step, epoch_of(s), s->result->eval_loss, targets, error);
}

// ---- saving ----

static bool save(RunState *s, Error *error) {
    const TrainingRun *run = s->run;
    if (s->saved == s->step) return true;
    if (!checkpoint_save(run->trainer, &run->checkpoint, run->settings->output_dir, s->step, error))
        return failed(s, error);
    s->saved = s->step;
    s->last_save = clock_seconds();
    if (run->observer.on_checkpoint)
        run->observer.on_checkpoint(run->observer.context, s->step, run->settings->output_dir);
    return true;
}

// Whether something that recurs by this strategy is due after the step just queued.
static bool due(const RunState *s, Strategy strategy, int64_t every) {
    if (strategy == WHEN_EPOCH) return s->queued % s->per_epoch == 0;
    return strategy == WHEN_STEPS && s->queued % every == 0;
}

static bool save_due(const RunState *s) {
    const TrainSettings *settings = s->run->settings;
    if (due(s, settings->save_strategy, settings->save_steps)) return true;
    return settings->save_minutes > 0 && clock_seconds() - s->last_save >= 60 * settings->save_minutes;
}

// ---- one step ----

// The set of active layers may be the next draw's by now, so the step's own is asked for.
static bool log_step(RunState *s, const StepReport *report, Error *error) {
    const TrainingRun *run = s->run;
    const Method *method = &run->trainer->active.method;
    int layers[MODEL_LAYERS_MAX];
    method_draw(method, method_draw_index(method, report->step), layers);
    double time = clock_seconds(), elapsed = time - s->last_log;
    StepMetrics row = {
        .step = s->step,
        .epoch = epoch_of(s),
        .loss = s->loss_sum / (double)s->loss_steps,
        .grad_norm = report->grad_norm,
        .learning_rate = report->learning_rate,
        .tokens_per_second = elapsed > 0 ? (double)(s->result->tokens - s->tokens_at_log) / elapsed : 0,
        .active_layers = layers,
        .active_count = method->activated,
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
static bool name_sequences(const RunState *s, int64_t step, Buffer *text, Error *error) {
    const TrainingRun *run = s->run;
    int64_t sequences = run->dataset->sequences;
    StepPlace place = step_place(step, sequences, batch_size(run->settings));
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

static bool not_finite(const RunState *s, const StepReport *report, Error *error) {
    Buffer names = BUFFER_EMPTY;
    if (name_sequences(s, report->step, &names, error)) {
        error_set(error,
                  "step %lld: the loss is %g and the gradient norm %g, not finite numbers; the step is dropped (its "
                  "examples: %s)",
                  (long long)report->step + 1, unsigned_nan(report->loss), unsigned_nan(report->grad_norm),
                  buffer_string(&names));
        error_hint(error,
                   "lower learning_rate (now %g), or look at these examples with lisa preview; the last checkpoint "
                   "is untouched",
                   s->run->settings->learning_rate);
    }
    buffer_free(&names);
    return false;
}

static bool queue_step(RunState *s, Error *error) {
    const TrainingRun *run = s->run;
    const MicroBatch *batches;
    int64_t count;
    prefetch_next(s->prefetch, &batches, &count);
    double learning_rate = schedule_learning_rate(run->settings, s->queued, s->steps);
    bool ok = trainer_step(run->trainer, s->queued, learning_rate, batches, count, error);
    s->queued++;
    return ok || failed(s, error);
}

// Takes the report of the next step: what it did is counted, logged, or the end of the run.
static bool take_report(RunState *s, Error *error) {
    StepReport report;
    if (!trainer_report(s->run->trainer, &report, error)) return failed(s, error);
    if (report.skipped) return not_finite(s, &report, error);
    s->step++;
    s->result->steps = s->step;
    s->result->tokens += report.tokens;
    s->loss_sum += report.loss;
    s->loss_steps++;
    bool logged = s->step % s->run->settings->logging_steps == 0 || s->step == s->steps;
    return !logged || log_step(s, &report, error);
}

// Takes reports until at most `behind` steps are owed one.
static bool catch_up(RunState *s, int64_t behind, Error *error) {
    while (s->queued - s->step > behind)
        if (!take_report(s, error)) return false;
    return true;
}

// A device that works by itself is one step behind: its next step is queued before it is asked about this one. What is
// evaluated or saved are weights that all steps so far have been seen to be good for.
static bool take_step(RunState *s, Error *error) {
    const TrainSettings *settings = s->run->settings;
    bool unified = s->run->trainer->backend->unified;
    if (!queue_step(s, error)) return false;
    bool evaluates = due(s, settings->eval_strategy, settings->eval_steps) || s->queued == s->steps;
    if (!catch_up(s, evaluates || unified ? 0 : STEPS_IN_FLIGHT - 1, error)) return false;
    if (evaluates && !evaluate(s, error)) return false;
    return !save_due(s) || (catch_up(s, 0, error) && save(s, error));
}

static bool loop(RunState *s, Error *error) {
    if (s->first == 0 && !evaluate(s, error)) return false;
    s->last_log = s->last_save = s->started = clock_seconds();
    while (s->queued < s->steps && !*s->run->stop)
        if (!take_step(s, error)) return false;
    if (!catch_up(s, 0, error)) return false;
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
                  .queued = first,
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
    result->saved = s.saved;
    result->seconds = clock_seconds() - started;
    return ok;
}
