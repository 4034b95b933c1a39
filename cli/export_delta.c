// export_delta.c - `lisa export --export_format delta`: what training changed; and `lisa export base=B delta=D`, which
// makes the directory again.
#include "base/files.h"
#include "cli/export.h"
#include "model/export.h"
#include <stdlib.h>
#include <string.h>

#define DELTA_FACTS "delta.json"

static const char *const delta_files[] = {DELTA_FACTS, NULL};
static const char *const none[] = {NULL};

static ModelSource *open_base(const ExportJob *job, Error *error) {
    ModelSource *base = model_source_open(job->options->base, false, error);
    if (!base) error_context(error, "base");
    return base;
}

// The last name of what was given.
static const char *base_name(const ExportJob *job) {
    const char *name = path_name(job->options->base);
    return *name ? name : job->options->base;
}

// Configuration and tokenizer: the folder's own files, or those that a GGUF file's metadata give.
static bool write_small_files(const ExportJob *job, Error *error) {
    const ModelSource *source = job->setup.source;
    SaveOptions save = {0};
    if (model_source_kind(source) == SOURCE_HUGGING_FACE)
        return export_copy_files(job, model_source_path(source), none, error);
    return save_configurations(source, &save, job->partial, error) &&
           tokenizer_write(job->setup.tokenizer, job->partial, NULL, error);
}

static bool write_delta(ExportJob *job, const ModelDifference *difference, uint64_t *bytes, Error *error) {
    const ModelSource *source = job->setup.source;
    SourceReader reader = {.source = source, .threads = job->threads, .progress = export_progress};
    bool ok = delta_bytes(source, difference, bytes, error) && export_begin(job, *bytes, error) &&
              source_reader_open(&reader, error) &&
              delta_write(&reader, difference, base_name(job), job->partial, error) && write_small_files(job, error);
    source_reader_free(&reader);
    if (!ok) return false;
    log_note("%zu tensors differ from %s", difference->tensors, job->options->base);
    return buffer_text(&job->next, "; with the same base it is the model again:\nlisa export --base ", error) &&
           buffer_shell_word(&job->next, job->options->base, error) && buffer_text(&job->next, " --delta ", error) &&
           buffer_shell_word(&job->next, job->folder, error) && buffer_text(&job->next, " --export_dir FOLDER", error);
}

bool export_delta(ExportJob *job, uint64_t *bytes, Error *error) {
    ModelDifference difference = {0};
    ModelSource *base = open_base(job, error);
    bool ok = base && model_compare(job->setup.source, base, job->threads, &difference, error) &&
              write_delta(job, &difference, bytes, error);
    model_difference_free(&difference);
    model_source_close(base);
    return ok;
}

static bool write_model(ExportJob *job, const ModelSource *base, const ModelDelta *delta, uint64_t *bytes,
                        Error *error) {
    const BlockLayout *layout = model_source_layout(base);
    bool own_size = options_given(job->options, "export_size");
    SaveOptions save = {.shard_bytes = own_size ? (uint64_t)(job->options->export_size * 1e9) : delta->shard_bytes};
    SourceReader reader = {.source = base, .delta = &delta->file, .threads = job->threads, .progress = export_progress};
    bool ok = model_save_bytes(base, layout, &save, bytes, error) && export_begin(job, *bytes, error) &&
              source_reader_open(&reader, error);
    WeightReader weights = source_reader(&reader);
    ok = ok && save_weights(model_source_config(base), layout, &weights, &save, job->partial, error) &&
         export_copy_files(job, job->options->delta, delta_files, error);
    source_reader_free(&reader);
    return ok;
}

bool export_rebuild(ExportJob *job, uint64_t *bytes, Error *error) {
    ModelDelta delta = {0};
    ModelSource *base = open_base(job, error);
    bool ok = base && delta_open(&delta, job->options->delta, base, job->threads, error) &&
              write_model(job, base, &delta, bytes, error);
    delta_close(&delta);
    model_source_close(base);
    return ok;
}
