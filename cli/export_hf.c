// export_hf.c - `lisa export --export_format hf`: a Hugging Face directory, in files of the wanted size.
#include "base/files.h"
#include "cli/export.h"
#include "model/export.h"
#include <stdlib.h>
#include <string.h>

// End tokens and chat template, where the options name a template.
static bool choose_ends(const ExportJob *job, SaveOptions *save, Buffer *jinja, Error *error) {
    const Setup *setup = &job->setup;
    const DataSettings *data = &job->options->data;
    int32_t stops[TEMPLATE_STOPS];
    if (!data->template_name && !data->default_system) return true;
    if (!template_jinja(setup->chat, setup->tokenizer, setup->system, jinja, error)) return false;
    save->eos_count = template_stop_ids(setup->chat, setup->tokenizer, stops);
    memcpy(save->eos, stops, (size_t)save->eos_count * sizeof *stops);
    return true;
}

static bool write_weights(const ExportJob *job, const SaveOptions *save, Error *error) {
    const ModelSource *source = job->setup.source;
    SourceReader reader = {.source = source, .threads = job->threads, .progress = export_progress};
    bool ok = source_reader_open(&reader, error);
    WeightReader weights = source_reader(&reader);
    ok = ok && save_weights(job->setup.config, model_source_layout(source), &weights, save, job->partial, error);
    source_reader_free(&reader);
    return ok;
}

static bool write_card(const ExportJob *job, Error *error) {
    Buffer text = BUFFER_EMPTY;
    char *path = export_path(job, "README.md", error);
    bool ok =
        path && model_card_text(job, &text, error) && file_write_atomic(path, buffer_string(&text), text.size, error);
    buffer_free(&text);
    free(path);
    return ok;
}

bool export_hugging_face(ExportJob *job, uint64_t *bytes, Error *error) {
    const ModelSource *source = job->setup.source;
    SaveOptions save = {.shard_bytes = (uint64_t)(job->options->export_size * 1e9)};
    Buffer jinja = BUFFER_EMPTY;
    if (model_source_rounds(source))
        log_note("the weights are stored as %s and become bf16", model_source_types(source));
    bool ok = choose_ends(job, &save, &jinja, error) &&
              model_save_bytes(source, model_source_layout(source), &save, bytes, error) &&
              export_begin(job, *bytes, error) && write_weights(job, &save, error) &&
              save_configurations(source, &save, job->partial, error) &&
              tokenizer_write(job->setup.tokenizer, job->partial, jinja.size ? buffer_string(&jinja) : NULL, error) &&
              write_card(job, error);
    buffer_free(&jinja);
    return ok;
}
