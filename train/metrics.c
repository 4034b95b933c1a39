// metrics.c - see metrics.h.
#include "train/metrics.h"
#include "base/buffer.h"
#include "base/files.h"
#include "base/json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_LIMIT ((size_t)1 << 30) // bytes of a metrics file

struct Metrics {
    FILE *file;
    char *path;
};

// Whether a line belongs to a step that is already part of the run; a torn last line does not.
static bool line_stays(const char *line, size_t size, int64_t step) {
    Error ignored = {0};
    int64_t found = INT64_MAX;
    json_t *row = json_parse(line, size, "metrics.jsonl", 1, 1, &ignored);
    bool stays = row && json_get_integer(row, "step", &found, "metrics.jsonl", &ignored) && found <= step;
    json_decref(row);
    return stays;
}

// Rewrites the file without the lines of later steps.
static bool drop_later_lines(const char *path, int64_t step, Error *error) {
    char *text;
    size_t size;
    if (!path_exists(path)) return true;
    if (!file_read(path, METRICS_LIMIT, &text, &size, error)) return false;
    Buffer kept = BUFFER_EMPTY;
    bool ok = true;
    for (char *line = text, *end; ok && (end = memchr(line, '\n', (size_t)(text + size - line))); line = end + 1)
        if (line_stays(line, (size_t)(end - line), step))
            ok = buffer_append(&kept, line, (size_t)(end - line) + 1, error);
    ok = ok && file_write_atomic(path, buffer_string(&kept), kept.size, error);
    buffer_free(&kept);
    free(text);
    return ok;
}

Metrics *metrics_open(const char *folder, int64_t step, Error *error) {
    Metrics *metrics = calloc(1, sizeof *metrics);
    char *path = path_join(folder, "metrics.jsonl");
    if (!metrics || !path) {
        error_memory(error, "metrics.jsonl", sizeof *metrics);
        free(metrics);
        free(path);
        return NULL;
    }
    metrics->path = path;
    if (step > 0 && !drop_later_lines(path, step, error)) {
        metrics_close(metrics);
        return NULL;
    }
    metrics->file = fopen(path, step > 0 ? "a" : "w");
    if (!metrics->file) {
        error_system(error, "cannot write", path);
        metrics_close(metrics);
        return NULL;
    }
    return metrics;
}

void metrics_close(Metrics *metrics) {
    if (!metrics) return;
    if (metrics->file) fclose(metrics->file);
    free(metrics->path);
    free(metrics);
}

// jansson has no way to write a number that is not finite; such a one becomes null.
static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

// Writes one object as a line and takes it.
static bool write_row(Metrics *metrics, json_t *row, Error *error) {
    char *text = row ? json_dumps(row, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(row);
    if (!text) return error_memory(error, metrics->path, 512);
    bool ok = fprintf(metrics->file, "%s\n", text) > 0 && fflush(metrics->file) == 0;
    free(text);
    return ok || error_system(error, "cannot write", metrics->path);
}

bool metrics_step(Metrics *metrics, const StepMetrics *m, Error *error) {
    json_t *layers = json_array(), *row = json_object();
    for (int i = 0; i < m->active_count; i++) json_array_append_new(layers, json_integer(m->active_layers[i]));
    json_object_set_new(row, "step", json_integer(m->step));
    json_object_set_new(row, "epoch", number(m->epoch));
    json_object_set_new(row, "loss", number(m->loss));
    json_object_set_new(row, "grad_norm", number(m->grad_norm));
    json_object_set_new(row, "learning_rate", number(m->learning_rate));
    json_object_set_new(row, "tokens_per_second", number(m->tokens_per_second));
    json_object_set_new(row, "active_layers", layers);
    return write_row(metrics, row, error);
}

bool metrics_evaluation(Metrics *metrics, int64_t step, double epoch, double loss, int64_t targets, Error *error) {
    json_t *row = json_object();
    json_object_set_new(row, "step", json_integer(step));
    json_object_set_new(row, "epoch", number(epoch));
    json_object_set_new(row, "eval_loss", number(loss));
    json_object_set_new(row, "eval_tokens", json_integer(targets));
    return write_row(metrics, row, error);
}
