// preview.c - `lisa preview`: what the model will see of the data, and what it will learn of that.
#include "data/preview.h"
#include "base/utf8.h"
#include "cli/command.h"
#include "cli/report.h"
#include "cli/setup.h"
#include "cli/show.h"
#include "data/training_data.h"
#include <stdlib.h>

// {"tokens": 12, "trained_tokens": 5, "parts": [{"text": "...", "trained": false}, ...]}; NULL with an error
static json_t *example_json(const Dataset *dataset, int64_t e, const Tokenizer *tokenizer, Error *error) {
    int64_t token = dataset->starts[e], end = dataset->starts[e + 1], targets = 0;
    json_t *parts = json_array();
    Buffer text = BUFFER_EMPTY, shown = BUFFER_EMPTY;
    bool good = true, trained = false;
    for (int64_t t = token; t < end; t++) targets += dataset->trained[t];
    while (token < end && good) {
        buffer_clear(&text);
        good = preview_run(dataset, tokenizer, &token, end, &text, &trained, error);
        // a run may begin or end inside a character
        buffer_clear(&shown);
        good = good && utf8_append(&shown, buffer_string(&text), text.size, error);
        json_array_append_new(
            parts, json_pack("{s:s%, s:b}", "text", buffer_string(&shown), shown.size, "trained", (int)trained));
    }
    buffer_free(&text);
    buffer_free(&shown);
    json_t *example = json_pack("{s:I, s:I, s:o}", "tokens", (json_int_t)(end - dataset->starts[e]), "trained_tokens",
                                (json_int_t)targets, "parts", parts);
    if (good) return example;
    json_decref(example);
    return NULL;
}

static bool print_json(const TrainingData *data, int64_t samples, const Tokenizer *tokenizer, Error *error) {
    Report report;
    report_start(&report);
    report_integer(&report, "records", data->counts.records);
    report_integer(&report, "bad_records", data->counts.bad);
    report_integer(&report, "examples", data->train.count);
    report_integer(&report, "tokens", data->train.starts[data->train.count]);
    report_integer(&report, "targets", data->train.targets);
    report_text(&report, "template", data->chat ? template_name(data->chat) : NULL);
    json_t *examples = json_array();
    for (int64_t e = 0; e < samples; e++) {
        json_t *example = example_json(&data->train, e, tokenizer, error);
        if (!example) {
            json_decref(examples);
            report_free(&report);
            return false;
        }
        json_array_append_new(examples, example);
    }
    report_value(&report, "shown", examples);
    return report_print(&report, true, error);
}

static bool print_text(const TrainingData *data, int64_t samples, const Tokenizer *tokenizer, Error *error) {
    const Dataset *dataset = &data->train;
    printf("%lld examples, %lld tokens, %lld of them learned; template %s\n", (long long)dataset->count,
           (long long)dataset->starts[dataset->count], (long long)dataset->targets,
           data->chat ? template_name(data->chat) : "none");
    for (int64_t e = 0; e < samples; e++) {
        printf("\n--- example %lld: %lld tokens\n", (long long)e + 1,
               (long long)(dataset->starts[e + 1] - dataset->starts[e]));
        if (!show_example(stdout, dataset, e, tokenizer, error)) return false;
    }
    return true;
}

int command_preview(const Options *options, Error *error) {
    Setup setup;
    TrainingData data = {0};
    ThreadPool *pool = NULL;
    bool good = setup_open(&setup, options, error) && (pool = thread_pool_create((int)options->threads, error)) &&
                setup_load_data(&setup, &options->data, options->train.seed, pool, &data, error);
    if (good) {
        int64_t samples = options->preview_samples < data.train.count ? options->preview_samples : data.train.count;
        good = options->json ? print_json(&data, samples, setup.tokenizer, error)
                             : print_text(&data, samples, setup.tokenizer, error);
    }
    training_data_free(&data);
    thread_pool_free(pool);
    setup_close(&setup);
    return good ? 0 : ERROR_EXIT_FAILED;
}
