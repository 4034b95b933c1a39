// model_card.c - README.md of an exported directory. What is known of the training comes from training.json and
// metrics.jsonl, which lisa train leaves in its output folder; a model of other origin has neither.
#include "base/files.h"
#include "base/json.h"
#include "cli/export.h"
#include <stdlib.h>
#include <string.h>

#define JSON_LIMIT    ((size_t)1 << 20)
#define METRICS_LIMIT ((size_t)1 << 30)

// What metrics.jsonl says of the run's ends.
typedef struct Losses {
    double train; // of the last logged step; negative: not there
    double first_eval, last_eval;
    int64_t steps;
} Losses;

static void read_line(Losses *losses, const char *line, size_t size) {
    Error ignored = {0};
    json_t *row = json_parse(line, size, "metrics.jsonl", 1, 1, &ignored);
    double eval = -1;
    json_get_integer(row, "step", &losses->steps, "metrics.jsonl", &ignored);
    json_get_number(row, "loss", &losses->train, "metrics.jsonl", &ignored);
    json_get_number(row, "eval_loss", &eval, "metrics.jsonl", &ignored);
    if (eval >= 0) losses->last_eval = eval;
    if (eval >= 0 && losses->first_eval < 0) losses->first_eval = eval;
    json_decref(row);
}

static Losses read_losses(const char *folder) {
    Losses losses = {-1, -1, -1, 0};
    Error ignored = {0};
    char *path = path_join(folder, "metrics.jsonl"), *text = NULL;
    size_t size = 0;
    if (path && path_exists(path) && file_read(path, METRICS_LIMIT, &text, &size, &ignored))
        for (char *line = text, *end; (end = memchr(line, '\n', (size_t)(text + size - line))); line = end + 1)
            read_line(&losses, line, (size_t)(end - line));
    free(text);
    free(path);
    return losses;
}

// training.json of the model's folder; NULL when there is none.
static json_t *read_training(const char *folder) {
    Error ignored = {0};
    char *path = path_join(folder, "training.json");
    json_t *training = path && path_exists(path) ? json_read_file(path, JSON_LIMIT, &ignored) : NULL;
    free(path);
    return training;
}

static bool put_head(Buffer *text, const char *base, Error *error) {
    return buffer_text(text, "---\n", error) &&
           buffer_text(text, "license: # yours to fill in; the base model's licence may bind you\n", error) &&
           (!base || buffer_format(text, error, "base_model: \"%s\"\n", base)) &&
           buffer_text(text, "library_name: transformers\npipeline_tag: text-generation\ntags:\n- lisa\n---\n\n",
                       error);
}

static bool put_value(Buffer *text, const json_t *value, Error *error) {
    if (json_is_string(value)) return buffer_text(text, json_string_value(value), error);
    char *dumped = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    bool ok = dumped ? buffer_text(text, dumped, error) : error_memory(error, "README.md", 64);
    free(dumped);
    return ok;
}

static bool put_options(Buffer *text, const json_t *options, Error *error) {
    const char *name;
    json_t *value;
    if (json_object_size(options) == 0) return true;
    if (!buffer_text(text, "\n## Options\n\n| option | value |\n|---|---|\n", error)) return false;
    json_object_foreach((json_t *)options, name, value) {
        if (!buffer_format(text, error, "| `%s` | ", name) || !put_value(text, value, error) ||
            !buffer_text(text, " |\n", error))
            return false;
    }
    return true;
}

static bool put_losses(Buffer *text, const Losses *losses, Error *error) {
    if (losses->train < 0) return true;
    if (!buffer_format(text, error, "\n## Losses\n\nAfter %lld steps the training loss was %.4f",
                       (long long)losses->steps, losses->train))
        return false;
    if (losses->last_eval >= 0 && !buffer_format(text, error, ", the loss on held-out data %.4f (%.4f before training)",
                                                 losses->last_eval, losses->first_eval))
        return false;
    return buffer_text(text, ".\n", error);
}

bool model_card_text(const ExportJob *job, Buffer *text, Error *error) {
    const char *folder = model_source_path(job->setup.source);
    json_t *training = read_training(folder);
    Losses losses = read_losses(folder);
    const char *base = json_string_value(json_object_get(training, "base_model"));
    const char *dataset = json_string_value(json_object_get(training, "dataset"));
    const char *method = json_string_value(json_object_get(training, "method"));
    bool ok = put_head(text, base, error) && buffer_format(text, error, "# %s\n", job->name);
    if (ok && base && method)
        ok =
            buffer_format(text, error, "\nMade from %s by %s on %s.\n", base, method, dataset ? dataset : "a data set");
    ok = ok && put_options(text, json_object_get(training, "options"), error) && put_losses(text, &losses, error);
    json_decref(training);
    return ok;
}
