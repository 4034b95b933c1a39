// export.c - `lisa export`: the model as files for other programs. The folder appears under its name complete or not
// at all.
#include "cli/export.h"
#include "base/ending.h"
#include "base/files.h"
#include "base/numbers.h"
#include "cli/command.h"
#include "cli/report.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SMALL_FILES ((uint64_t)64 << 20) // bytes kept free for tokenizer and configuration files

// ---- the folder

static bool is_empty(const char *folder, bool *empty, Error *error) {
    char **names;
    size_t count;
    if (!directory_list(folder, &names, &count, error)) return false;
    *empty = count == 0;
    names_free(names, count);
    return true;
}

static bool check_target(const char *folder, Error *error) {
    bool empty = true;
    if (!path_exists(folder)) return true;
    if (path_is_directory(folder) && !is_empty(folder, &empty, error)) return false;
    if (path_is_directory(folder) && empty) return true;
    error_set(error, "export_dir %s %s", folder, path_is_directory(folder) ? "is not empty" : "is a file");
    return error_hint(error, "name a folder that does not exist yet, or remove this one; nothing was written");
}

static bool check_disk(const char *folder, uint64_t bytes, Error *error) {
    uint64_t have;
    char need_text[16], have_text[16];
    if (!disk_free_bytes(folder, &have, error)) return false;
    if (bytes <= have && have - bytes >= SMALL_FILES) return true;
    error_set(error, "export_dir %s: %s are needed there, the disk has %s free", folder,
              format_bytes(need_text, bytes + SMALL_FILES), format_bytes(have_text, have));
    return error_hint(error, "free some space, name a folder on another disk, or choose a smaller outtype; nothing "
                             "was written");
}

// "<parent>/.<name>.partial"
static char *partial_name(const char *folder, Error *error) {
    Buffer text = BUFFER_EMPTY;
    const char *name = path_name(folder);
    if (buffer_append(&text, folder, (size_t)(name - folder), error) &&
        buffer_format(&text, error, ".%s.partial", name))
        return text.data;
    buffer_free(&text);
    return NULL;
}

bool export_begin(ExportJob *job, uint64_t bytes, Error *error) {
    if (!check_target(job->folder, error) || !check_disk(job->folder, bytes, error)) return false;
    char *partial = partial_name(job->folder, error);
    if (!partial) return false;
    // what a process that was killed has left
    bool ok = (!path_exists(partial) || directory_remove(partial, error)) && directory_create(partial, error);
    if (ok)
        job->partial = partial;
    else
        free(partial);
    return ok;
}

char *export_path(const ExportJob *job, const char *name, Error *error) {
    char *path = path_join(job->partial, name);
    if (!path) error_memory(error, "a file name", strlen(name));
    return path;
}

// Gives what was written its name; rename puts a folder in the place of an empty one.
static bool publish(const ExportJob *job, Error *error) {
    if (!directory_sync(job->partial, error)) return false;
    if (rename(job->partial, job->folder) != 0) return error_system(error, "cannot create", job->folder);
    const char *name = path_name(job->folder);
    char *parent = name == job->folder ? strdup(".") : strndup(job->folder, (size_t)(name - job->folder));
    bool ok = parent ? directory_sync(parent, error) : error_memory(error, "a file name", strlen(job->folder));
    free(parent);
    return ok;
}

void export_progress(void *context, uint64_t done, uint64_t total) {
    (void)context;
    char line[64];
    snprintf(line, sizeof line, "exporting: %3.0f %%", total ? 100.0 * (double)done / (double)total : 100.0);
    log_progress(done < total ? line : NULL);
}

// ---- the model

// The last name of what was given, without .gguf; of "." the folder's real one.
static char *model_name(const char *given, Error *error) {
    Buffer text = BUFFER_EMPTY;
    size_t size = strlen(given);
    while (size > 1 && given[size - 1] == '/') size--;
    bool ok = buffer_append(&text, given, size, error);
    const char *name = path_name(buffer_string(&text));
    char *real = !*name || *name == '.' ? realpath(given, NULL) : NULL;
    if (real) name = path_name(real);
    if (has_ending(name, ".gguf"))
        size = strlen(name) - strlen(".gguf");
    else
        size = strlen(name);
    char *copy = ok ? strndup(size ? name : "model", size ? size : 5) : NULL;
    if (ok && !copy) error_memory(error, "a name", size);
    free(real);
    buffer_free(&text);
    return copy;
}

// The template of the options, else the one recognised in the model; none is no error.
static bool choose_template(ExportJob *job, Error *error) {
    const Options *options = job->options;
    Setup *setup = &job->setup;
    const char *jinja = tokenizer_chat_template(setup->tokenizer);
    if (options->data.template_name) return setup_choose_template(setup, options, error);
    if (jinja && !template_recognise(jinja, &setup->chat, &setup->system, error)) return false;
    if (!setup->chat) {
        log_warning(jinja ? "the chat template is none that lisa knows: it is handed on as it is, and the Modelfile "
                            "has no TEMPLATE"
                          : "the model has no chat template (template=NAME gives it one)");
        return true;
    }
    return !options->data.default_system || setup_choose_template(setup, options, error);
}

int export_ends(const Setup *setup, int32_t ends[EXPORT_ENDS_MAX]) {
    int count = setup->chat ? template_stop_ids(setup->chat, setup->tokenizer, ends) : 0;
    for (int i = 0; i < setup->config->eos_count; i++) {
        bool known = false;
        for (int j = 0; j < count; j++) known = known || ends[j] == setup->config->eos[i];
        if (!known) ends[count++] = setup->config->eos[i];
    }
    return count;
}

static bool check_options(const Options *options, Error *error) {
    if (options->delta && options->model_name_or_path) {
        error_usage(error, "both a model and a delta are given");
        return error_hint(error, "base=MODEL delta=FOLDER make a model again; leave the other model out");
    }
    if ((options->delta || options->export_format == EXPORT_DELTA) && !options->base) {
        error_usage(error, "base is not given");
        return error_hint(error, "add base=MODEL: the model that was trained from");
    }
    if (options->delta || options->model_name_or_path) return true;
    error_usage(error, "model_name_or_path is not given");
    return error_hint(error, "name the trained model, as in: lisa export out/my export_dir=out/my-gguf");
}

static bool open_job(ExportJob *job, Error *error) {
    const Options *options = job->options;
    size_t size = strlen(options->export_dir);
    while (size > 1 && options->export_dir[size - 1] == '/') size--;
    job->folder = strndup(options->export_dir, size);
    if (!job->folder) return error_memory(error, "export_dir", size);
    if (!check_options(options, error) || !check_target(job->folder, error)) return false;
    job->threads = thread_pool_create((int)options->threads, error);
    if (!job->threads) return false;
    if (options->delta) return true;
    job->name = model_name(options->model_name_or_path, error);
    return job->name && setup_open(&job->setup, options, error) && choose_template(job, error);
}

static void close_job(ExportJob *job) {
    Error ignored = {0};
    if (job->partial && path_exists(job->partial)) directory_remove(job->partial, &ignored);
    setup_close(&job->setup);
    thread_pool_free(job->threads);
    buffer_free(&job->next);
    free(job->name);
    free(job->folder);
    free(job->partial);
}

static bool report_job(const ExportJob *job, uint64_t bytes, Error *error) {
    char text[16];
    if (!job->options->json) {
        log_note("%s in %s%s", format_bytes(text, bytes), job->folder, buffer_string(&job->next));
        return true;
    }
    Report report;
    report_start(&report);
    report_text(&report, "export_dir", job->folder);
    report_bytes(&report, "written", bytes);
    return report_print(&report, true, error);
}

bool export_copy_files(const ExportJob *job, const char *from, const char *const *left_out, Error *error) {
    static const char *const endings[] = {
        ".safetensors", ".safetensors.index.json", ".bin",         ".bin.index.json", ".pt", ".pth", ".partial",
        ".gguf",        "metrics.jsonl",           "manifest.json"};
    char **names;
    size_t count;
    if (!directory_list(from, &names, &count, error)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        bool skip = names[i][0] == '.';
        for (size_t e = 0; e < sizeof endings / sizeof *endings; e++) skip = skip || has_ending(names[i], endings[e]);
        for (const char *const *name = left_out; *name; name++) skip = skip || !strcmp(*name, names[i]);
        char *path = path_join(from, names[i]), *to = export_path(job, names[i], error);
        ok = path && to;
        if (ok && !skip && path_size(path) >= 0) ok = file_copy(path, to, error);
        free(path);
        free(to);
    }
    names_free(names, count);
    return ok;
}

static bool run_job(ExportJob *job, uint64_t *bytes, Error *error) {
    if (job->options->delta) return export_rebuild(job, bytes, error);
    switch (job->options->export_format) {
    case EXPORT_HUGGING_FACE:
        return export_hugging_face(job, bytes, error);
    case EXPORT_DELTA:
        return export_delta(job, bytes, error);
    case EXPORT_GGUF:
        break;
    }
    return export_gguf(job, bytes, error);
}

int command_export(const Options *options, Error *error) {
    ExportJob job = {.options = options};
    uint64_t bytes = 0;
    bool good = open_job(&job, error) && run_job(&job, &bytes, error) && publish(&job, error);
    log_progress(NULL);
    good = good && report_job(&job, bytes, error);
    close_job(&job);
    return good ? 0 : ERROR_EXIT_FAILED;
}
