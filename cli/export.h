// export.h - what the kinds of `lisa export` share: the opened model and the folder that appears when all is written.
#pragma once
#include "base/threads.h"
#include "cli/setup.h"

typedef struct ExportJob {
    const Options *options;
    Setup setup; // the model; chat and system are NULL where no template is known
    ThreadPool *threads;
    char *name;    // of the model, for file names
    char *folder;  // export_dir without slashes at its end
    Buffer next;   // what to do with what was written, for the person
    char *partial; // the folder that is written, beside it; NULL: not begun
} ExportJob;

// Checks that `bytes` and some more fit the disk, and makes the folder to write into.
bool export_begin(ExportJob *job, uint64_t bytes, Error *error);
// partial/name in memory of the caller's; NULL with an error.
char *export_path(const ExportJob *job, const char *name, Error *error);
// An ExportProgress: a line with the share that is done.
void export_progress(void *context, uint64_t done, uint64_t total);

// The end tokens, the one that ends a turn first: the template's, then the configuration's. Returns how many.
#define EXPORT_ENDS_MAX (TEMPLATE_STOPS + MODEL_EOS_MAX)
int export_ends(const Setup *setup, int32_t ends[EXPORT_ENDS_MAX]);

// One for each export_format; each calls export_begin once it knows the size. *bytes: of the large files.
bool export_gguf(ExportJob *job, uint64_t *bytes, Error *error);
bool export_hugging_face(ExportJob *job, uint64_t *bytes, Error *error);
bool export_delta(ExportJob *job, uint64_t *bytes, Error *error);
// The directory again from base and delta; no model is open.
bool export_rebuild(ExportJob *job, uint64_t *bytes, Error *error);

// Copies the files of a model's folder that hold no weights and no record of the training run; a NULL-terminated list
// of names is left out.
bool export_copy_files(const ExportJob *job, const char *from, const char *const *left_out, Error *error);

// The text of the Modelfile that `ollama create` reads, for a GGUF file of this name.
bool modelfile_text(const ExportJob *job, const char *file_name, Buffer *text, Error *error);

// README.md of an exported directory: what the model was made from and how, as far as its folder says so.
bool model_card_text(const ExportJob *job, Buffer *text, Error *error);
