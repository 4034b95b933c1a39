// export_gguf.c - `lisa export --export_format gguf`: a GGUF file and its Modelfile.
#include "base/files.h"
#include "cli/export.h"
#include "model/export.h"
#include "tokenizer/write_gguf.h"
#include <stdlib.h>
#include <string.h>

// What is put together before the file is written.
typedef struct GgufJob {
    ModelSource *base; // opened here, or NULL
    GgufExport export;
    GgufPlan *plan;
    GgufMetadata metadata;
    Buffer jinja; // of the template that the options name
    char *file_name;
} GgufJob;

// Keys that training may change, in a file that keeps the rest of its metadata.
static const char *const trained_keys[] = {"general.name",
                                           "tokenizer.ggml.eos_token_id",
                                           "tokenizer.ggml.eot_token_id",
                                           "tokenizer.ggml.eom_token_id",
                                           "tokenizer.ggml.add_bos_token",
                                           "tokenizer.chat_template",
                                           NULL};

static bool open_base(GgufJob *gguf, const ExportJob *job, Error *error) {
    const char *name = job->options->base;
    const ModelSource *source = job->setup.source;
    GgufExport *export = &gguf->export;
    if (!name) {
        if (!export->new_layout && model_source_kind(source) == SOURCE_GGUF) export->base = source;
        return true;
    }
    gguf->base = model_source_open(name, false, error);
    if (!gguf->base) return error_context(error, "base");
    if (model_source_kind(gguf->base) == SOURCE_GGUF)
        export->base = gguf->base;
    else
        log_note("base %s is no GGUF file: it has no bytes that could be kept", name);
    return true;
}

static bool plan_file(GgufJob *gguf, const ExportJob *job, Error *error) {
    static const GgmlType types[] = {[OUT_AUTO] = GGML_BF16,
                                     [OUT_BF16] = GGML_BF16,
                                     [OUT_F16] = GGML_F16,
                                     [OUT_Q8_0] = GGML_Q8_0,
                                     [OUT_Q4_0] = GGML_Q4_0};
    GgmlType type = types[job->options->outtype];
    gguf->export = (GgufExport){.source = job->setup.source,
                                .new_layout = job->options->outtype != OUT_AUTO,
                                .type = type,
                                .threads = job->threads,
                                .progress = export_progress};
    if (!open_base(gguf, job, error)) return false;
    Buffer name = BUFFER_EMPTY;
    bool keeps = gguf->export.base && !gguf->export.new_layout;
    bool ok = keeps ? buffer_format(&name, error, "%s.gguf", job->name)
                    : buffer_format(&name, error, "%s-%s.gguf", job->name, ggml_type_info(type)->name);
    gguf->file_name = name.data;
    gguf->plan = ok ? gguf_plan_make(&gguf->export, error) : NULL;
    if (gguf->plan && gguf->base && gguf->export.base)
        log_note("%zu tensors differ from %s; the others keep its bytes where the type is the same",
                 gguf_plan_changed(gguf->plan), job->options->base);
    return gguf->plan != NULL;
}

static bool describe(GgufJob *gguf, const ExportJob *job, Error *error) {
    const Setup *setup = &job->setup;
    const Tokenizer *tokenizer = setup->tokenizer;
    GgufMetadata *metadata = &gguf->metadata;
    int32_t ends[EXPORT_ENDS_MAX];
    TokenizerFacts facts = {.chat = setup->chat,
                            .chat_template = tokenizer_chat_template(tokenizer),
                            .ends = ends,
                            .end_count = export_ends(setup, ends)};
    if (job->options->data.template_name || job->options->data.default_system) {
        if (!template_jinja(setup->chat, tokenizer, setup->system, &gguf->jinja, error)) return false;
        facts.chat_template = buffer_string(&gguf->jinja);
    }
    // a GGUF file that is written back, or only into other types, keeps all it says
    bool trained = (gguf->base && gguf->export.base == gguf->base) || gguf->jinja.size;
    if (!gguf_plan_kept(gguf->plan))
        return gguf_plan_metadata(gguf->plan, job->name, NULL, metadata, error) &&
               tokenizer_put_metadata(tokenizer, &facts, setup->config->vocabulary, metadata, error);
    if (!gguf_plan_metadata(gguf->plan, job->name, trained ? trained_keys : NULL, metadata, error)) return false;
    if (!trained) return true;
    return gguf_put_string(metadata, "general.name", job->name, error) &&
           tokenizer_put_ends(&facts, tokenizer_eos(tokenizer), metadata, error) &&
           gguf_put_boolean(metadata, "tokenizer.ggml.add_bos_token", tokenizer_chat_adds_bos(tokenizer, setup->chat),
                            error) &&
           (!facts.chat_template || gguf_put_string(metadata, "tokenizer.chat_template", facts.chat_template, error));
}

static bool write_model(const GgufJob *gguf, const ExportJob *job, Error *error) {
    char *path = export_path(job, gguf->file_name, error);
    bool ok = path && gguf_plan_write(gguf->plan, &gguf->metadata, path, error);
    free(path);
    return ok;
}

static bool write_modelfile(const GgufJob *gguf, const ExportJob *job, Error *error) {
    Buffer text = BUFFER_EMPTY;
    char *path = export_path(job, "Modelfile", error);
    bool ok = path && modelfile_text(job, gguf->file_name, &text, error) &&
              file_write_atomic(path, buffer_string(&text), text.size, error);
    buffer_free(&text);
    free(path);
    return ok;
}

// Two ways to run it.
static bool say_what_next(const GgufJob *gguf, ExportJob *job, Error *error) {
    Buffer path = BUFFER_EMPTY, *next = &job->next;
    bool ok = buffer_format(&path, error, "%s/%s", job->folder, gguf->file_name) &&
              buffer_text(next, "; to run it:\nllama-cli -m ", error) &&
              buffer_shell_word(next, buffer_string(&path), error) && buffer_text(next, "\ncd ", error) &&
              buffer_shell_word(next, job->folder, error) && buffer_text(next, " && ollama create ", error) &&
              buffer_shell_word(next, job->name, error) && buffer_text(next, " -f Modelfile && ollama run ", error) &&
              buffer_shell_word(next, job->name, error);
    buffer_free(&path);
    return ok;
}

bool export_gguf(ExportJob *job, uint64_t *bytes, Error *error) {
    GgufJob gguf = {0};
    bool ok = plan_file(&gguf, job, error) && describe(&gguf, job, error) &&
              gguf_plan_bytes(gguf.plan, &gguf.metadata, bytes, error) && export_begin(job, *bytes, error) &&
              write_model(&gguf, job, error) && write_modelfile(&gguf, job, error) && say_what_next(&gguf, job, error);
    gguf_plan_free(gguf.plan);
    gguf_metadata_free(&gguf.metadata);
    buffer_free(&gguf.jinja);
    model_source_close(gguf.base);
    free(gguf.file_name);
    return ok;
}
