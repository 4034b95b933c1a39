// eval.c - `lisa eval`: the loss of a model on a data set.
#include "cli/command.h"
#include "cli/report.h"
#include "cli/setup.h"
#include "train/run.h"
#include <math.h>

// All that an evaluation holds.
typedef struct Evaluation {
    Setup setup;
    Backend *backend;
    Plan plan;
    Trainer trainer;
    TrainingData data;
    const Dataset *dataset; // what is evaluated: a part of data
} Evaluation;

// eval_dataset where there is one, else what val_size holds out of dataset, else all of it.
static bool load_data(Evaluation *job, const Options *options, Error *error) {
    DataSettings settings = options->data;
    if (settings.eval_dataset) {
        settings.dataset = settings.eval_dataset;
        settings.eval_dataset = NULL;
        settings.val_size = 0;
    }
    if (!setup_load_data(&job->setup, &settings, options->train.seed, job->backend->threads, &job->data, error))
        return false;
    job->dataset = job->data.eval.count ? &job->data.eval : &job->data.train;
    return true;
}

static bool open_evaluation(Evaluation *job, const Options *options, Error *error) {
    return setup_open(&job->setup, options, error) &&
           setup_plan(options, job->setup.config, true, &job->backend, &job->plan, error) &&
           load_data(job, options, error) &&
           setup_trainer(options, job->setup.config, job->backend, NULL, &job->plan, &job->trainer, error) &&
           setup_load(job->setup.source, &job->trainer.store, job->backend, error);
}

static bool evaluate(Evaluation *job, bool json, Error *error) {
    double loss;
    int64_t targets;
    if (!run_evaluation(&job->trainer, job->dataset, &loss, &targets, error)) return false;
    Report report;
    report_start(&report);
    report_number(&report, "loss", loss);
    report_number(&report, "perplexity", exp(loss));
    report_integer(&report, "target_tokens", targets);
    report_integer(&report, "tokens", job->dataset->starts[job->dataset->count]);
    report_integer(&report, "examples", job->dataset->count);
    report_text(&report, "template", job->data.chat ? template_name(job->data.chat) : NULL);
    return report_print(&report, json, error);
}

int command_eval(const Options *options, Error *error) {
    Evaluation job = {0};
    bool good = open_evaluation(&job, options, error) && evaluate(&job, options->json, error);
    trainer_free(&job.trainer);
    training_data_free(&job.data);
    if (job.backend) job.backend->destroy(job.backend);
    setup_close(&job.setup);
    return good ? 0 : ERROR_EXIT_FAILED;
}
