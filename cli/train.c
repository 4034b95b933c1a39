// train.c - `lisa train`: a training run from its options to the trained model in output_dir.
#include "base/files.h"
#include "base/numbers.h"
#include "cli/command.h"
#include "cli/forecast.h"
#include "cli/option_values.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/setup.h"
#include "cli/show.h"
#include "cli/signals.h"
#include "cli/training_record.h"
#include "data/training_data.h"
#include "train/run.h"
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

// All that a run holds.
typedef struct Job {
    const Options *options;
    Setup setup;
    Backend *backend;
    Plan plan;
    TrainingData data;
    Buffer jinja;  // the chat template for the output
    Buffer record; // training.json
    CheckpointFacts facts;
    Trainer trainer;
    bool made_folder; // output_dir was not there before
    bool starts_anew; // overwrite_output_dir: no checkpoint is looked for
    int lock;         // of output_dir; -1: not taken yet
    char *resume;     // the checkpoint to go on from; NULL: none
    int64_t first;    // optimizer steps done before this process
    RunResult result;
} Job;

static void close_job(Job *job) {
    trainer_free(&job->trainer);
    buffer_free(&job->jinja);
    buffer_free(&job->record);
    training_data_free(&job->data);
    if (job->backend) job->backend->destroy(job->backend);
    setup_close(&job->setup);
    free(job->resume);
    if (job->lock >= 0) close(job->lock);
}

// The model's files, and whether the run fits the machine: what can be known before anything large is read.
static bool open_job(Job *job, Error *error) {
    const Options *options = job->options;
    return setup_open(&job->setup, options, error) &&
           setup_plan(options, job->setup.config, false, &job->backend, &job->plan, error);
}

// How long the examples are changes which plan is the fastest, where a card leaves a choice.
static bool plan_again(Job *job, Error *error) {
    return job->backend->unified ||
           setup_plan_again(job->options, job->setup.config, job->backend, &job->data.train, &job->plan, error);
}

// Takes the checkpoint that is named instead of the newest one.
static bool take_checkpoint(Job *job, const char *name, Error *error) {
    char *manifest = path_join(name, "manifest.json");
    bool good = manifest && path_exists(manifest);
    free(manifest);
    if (!good) {
        error_set(error, "resume_from_checkpoint: %s is no checkpoint: it has no manifest.json", name);
        return error_hint(error, "give a folder checkpoint-<step> of an output_dir, or true for its newest one");
    }
    free(job->resume);
    job->resume = strdup(name);
    return job->resume || error_memory(error, "resume_from_checkpoint", strlen(name) + 1);
}

static bool find_checkpoint(Job *job, Error *error) {
    const TrainSettings *train = &job->options->train;
    const char *given = train->resume_from_checkpoint;
    int truth = given ? truth_of(given) : 0; // the Trainer takes true and false as well
    job->starts_anew = train->overwrite_output_dir && truth == 0;
    job->made_folder = !path_exists(train->output_dir);
    if (!checkpoint_lock_folder(train->output_dir, &job->lock, error)) return false;
    if (job->starts_anew) return true;
    if (!checkpoint_prepare_folder(train->output_dir, false, &job->resume, error)) return false;
    if (truth < 0) return take_checkpoint(job, given, error);
    if (truth == 0 || job->resume) return true;
    error_set(error, "resume_from_checkpoint: there is no checkpoint in %s", train->output_dir);
    return error_hint(error, "leave resume_from_checkpoint out to start from the model");
}

// An earlier run's results go when all that this run needs has been read: a misspelt data set must not cost them.
static bool clear_output(Job *job, Error *error) {
    if (!job->starts_anew) return true;
    return checkpoint_prepare_folder(job->options->train.output_dir, true, &job->resume, error);
}

// Without a template the tokenizer's EOS ends what is learned. Where the model does not stop at it yet, it shall.
static void keep_eos(Job *job) {
    const ModelConfig *config = job->setup.config;
    SaveOptions *save = &job->facts.save;
    int32_t eos = tokenizer_eos(job->setup.tokenizer);
    for (int i = 0; i < config->eos_count; i++)
        if (config->eos[i] == eos) return;
    if (eos >= 0) save->eos[save->eos_count++] = eos;
}

// What every checkpoint of the run is written with.
static bool gather_facts(Job *job, Error *error) {
    const TrainingData *data = &job->data;
    const Tokenizer *tokenizer = job->setup.tokenizer;
    job->facts = (CheckpointFacts){.source = job->setup.source,
                                   .tokenizer = tokenizer,
                                   .save = {.shard_bytes = job->options->train.max_shard_size},
                                   .dataset = &data->train,
                                   .shuffle = !job->options->data.disable_shuffling,
                                   .steps = run_steps(&job->options->train, &data->train)};
    if (!training_record(job->options, &job->record, error)) return false;
    job->facts.record = buffer_string(&job->record);
    if (!data->chat) {
        keep_eos(job);
        return true;
    }
    if (!template_jinja(data->chat, tokenizer, data->system, &job->jinja, error)) return false;
    job->facts.chat_template = buffer_string(&job->jinja);
    int32_t stops[TEMPLATE_STOPS];
    int count = template_stop_ids(data->chat, tokenizer, stops);
    memcpy(job->facts.save.eos, stops, (size_t)count * sizeof *stops);
    job->facts.save.eos_count = count;
    return true;
}

// The weights the run starts from: the model's, or a checkpoint's with all its state.
static bool load_state(Job *job, Error *error) {
    if (!job->resume) {
        if (model_source_rounds(job->setup.source))
            log_note("the weights are stored as %s; training starts from them rounded to bf16",
                     model_source_types(job->setup.source));
        return setup_load(job->setup.source, &job->trainer.store, job->backend, error);
    }
    ModelSource *source = model_source_open(job->resume, false, error);
    bool good = source && setup_load(source, &job->trainer.store, job->backend, error) &&
                checkpoint_load(&job->trainer, &job->facts, job->resume, &job->first, error);
    model_source_close(source);
    if (good) log_note("resuming from %s, after step %lld", job->resume, (long long)job->first);
    return good;
}

static bool tell_what_follows(Job *job, Error *error) {
    Forecast forecast;
    uint64_t bytes;
    if (job->first == job->facts.steps) {
        log_note("all %lld steps were done already", (long long)job->first);
        return true;
    }
    if (!checkpoint_bytes(&job->trainer, &job->facts, &bytes, error) ||
        !forecast_make(&forecast, &job->trainer, &job->data.train, job->first, job->facts.steps, bytes, error) ||
        !forecast_tell(&forecast, &job->options->train, error))
        return false;
    if (job->first > 0 || log_get_level() < LOG_NOTE) return true;
    log_note("the first example, with what is learned of it set apart:");
    return show_example(stderr, &job->data.train, 0, job->setup.tokenizer, error);
}

// ---- while it runs

static uint64_t peak_memory(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : (uint64_t)usage.ru_maxrss * 1024;
}

static void on_step(void *context, const StepMetrics *metrics, double seconds_left) {
    const Job *job = context;
    Progress progress = {.step = metrics->step,
                         .steps = job->facts.steps,
                         .loss = metrics->loss,
                         .gradient_norm = metrics->grad_norm,
                         .learning_rate = metrics->learning_rate,
                         .layers = metrics->active_layers,
                         .layer_count = metrics->active_count,
                         .tokens_per_second = metrics->tokens_per_second,
                         .memory = peak_memory(),
                         .seconds_left = seconds_left};
    progress_show(&progress);
}

static void on_evaluation(void *context, int64_t step, double loss, int64_t targets) {
    (void)context;
    log_note("step %lld: eval_loss %.4f over %lld tokens", (long long)step, loss, (long long)targets);
}

static void on_checkpoint(void *context, int64_t step, const char *folder) {
    (void)context;
    log_note("saved %s/checkpoint-%lld", folder, (long long)step);
}

// The command that goes on from the checkpoint of that step (0: from the start). Ends with buffer_free.
static bool resuming_command(const Job *job, int64_t step, Buffer *command, Error *error) {
    const TrainSettings *train = &job->options->train;
    Buffer checkpoint = BUFFER_EMPTY;
    bool good = buffer_text(command, buffer_string(&job->options->command_line), error);
    // where the same command would begin somewhere else
    const char *given = train->resume_from_checkpoint;
    if (good && step > 0 && (train->overwrite_output_dir || (given && truth_of(given) < 0)))
        good = buffer_format(&checkpoint, error, "resume_from_checkpoint=%s/checkpoint-%lld", train->output_dir,
                             (long long)step) &&
               buffer_byte(command, ' ', error) && buffer_shell_word(command, buffer_string(&checkpoint), error);
    buffer_free(&checkpoint);
    return good;
}

// A device that failed leaves the checkpoints as they are: the hint names the newest, and how to go on from it.
static void tell_of_fault(const Job *job, Error *error) {
    Error ignored = {0};
    Buffer command = BUFFER_EMPTY;
    char hint[sizeof error->hint];
    if (job->backend->check(job->backend, &ignored) || job->result.saved < 0) return;
    memcpy(hint, error->hint, sizeof hint);
    if (resuming_command(job, job->result.saved, &command, &ignored))
        error_hint(error, "%s%s%s/checkpoint-%lld is complete, this goes on from it: %s", hint, *hint ? "; " : "",
                   job->options->train.output_dir, (long long)job->result.saved, buffer_string(&command));
    buffer_free(&command);
}

static bool run_job(Job *job, Error *error) {
    const Options *options = job->options;
    TrainingRun run = {.trainer = &job->trainer,
                       .settings = &options->train,
                       .dataset = &job->data.train,
                       .eval_dataset = job->data.eval.count ? &job->data.eval : NULL,
                       .checkpoint = job->facts,
                       .stop = signals_stop_flag(),
                       .observer = {job, on_step, on_evaluation, on_checkpoint}};
    signals_catch();
    bool good = run_training(&run, job->first, &job->result, error);
    log_progress(NULL);
    if (!good) tell_of_fault(job, error);
    if (!good || job->result.stopped) return good;
    return checkpoint_publish(options->train.output_dir, job->result.steps, error);
}

// ---- afterwards

// What was done, and the command that goes on from there.
static bool tell_of_stop(const Job *job, Error *error) {
    long long steps = job->result.steps;
    Buffer command = BUFFER_EMPTY;
    bool saved = steps > job->first;
    bool good = resuming_command(job, saved ? steps : 0, &command, error);
    if (good)
        log_note("stopped %s step %lld of %lld%s; to go on:\n%s", saved ? "after" : "before", saved ? steps : steps + 1,
                 (long long)job->facts.steps, saved ? " and saved" : "", buffer_string(&command));
    buffer_free(&command);
    return good;
}

static bool report_job(const Job *job, Error *error) {
    const RunResult *result = &job->result;
    const char *folder = job->options->train.output_dir;
    char time[32];
    if (result->stopped && !tell_of_stop(job, error)) return false;
    if (!result->stopped)
        log_note("%lld steps in %s; the trained model is in %s", (long long)result->steps,
                 format_duration(time, result->seconds), folder);
    if (!job->options->json) return true;
    Report report;
    report_start(&report);
    report_text(&report, "output_dir", folder);
    report_integer(&report, "steps", result->steps);
    report_integer(&report, "steps_planned", job->facts.steps);
    report_boolean(&report, "stopped", result->stopped);
    report_number(&report, "train_loss", result->train_loss);
    report_number(&report, "eval_loss", result->eval_loss);
    report_number(&report, "seconds", result->seconds);
    report_integer(&report, "tokens", result->tokens);
    report_bytes(&report, "peak_memory", peak_memory());
    return report_print(&report, true, error);
}

int command_train(const Options *options, Error *error) {
    Job job = {.options = options, .lock = -1};
    bool good =
        open_job(&job, error) && find_checkpoint(&job, error) &&
        setup_load_data(&job.setup, &options->data, options->train.seed, job.backend->threads, &job.data, error) &&
        gather_facts(&job, error) && plan_again(&job, error) &&
        setup_trainer(options, job.setup.config, job.backend, &job.data.train, &job.plan, &job.trainer, error) &&
        load_state(&job, error) && clear_output(&job, error) && tell_what_follows(&job, error) &&
        run_job(&job, error) && report_job(&job, error);
    if (!good && job.made_folder) rmdir(options->train.output_dir); // which fails unless it is empty
    int exit_code = !good ? ERROR_EXIT_FAILED : job.result.stopped ? EXIT_SAVED : 0;
    close_job(&job);
    return exit_code;
}
