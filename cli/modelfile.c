// modelfile.c - the Modelfile of an exported GGUF file: what `ollama create` needs to know beside it.
//
// Source: github.com/ollama/ollama/blob/main/docs/modelfile.md. A text between """ cannot hold """ itself.
#include "base/log.h"
#include "cli/export.h"
#include <inttypes.h>
#include <string.h>

#define CONTEXT_DEFAULT 4096 // tokens, unless the model has fewer positions

static bool put_block(Buffer *text, const char *name, const char *value, Error *error) {
    if (!strstr(value, "\"\"\"")) return buffer_format(text, error, "%s \"\"\"%s\"\"\"\n", name, value);
    log_warning("%s is left out of the Modelfile: it holds \"\"\", which has no place there", name);
    return true;
}

static bool put_template(const ExportJob *job, Buffer *text, Error *error) {
    const Setup *setup = &job->setup;
    Buffer go = BUFFER_EMPTY;
    if (!setup->chat) return true;
    bool ok = template_go(setup->chat, setup->tokenizer, &go, error) &&
              put_block(text, "TEMPLATE", buffer_string(&go), error);
    buffer_free(&go);
    const char *system = template_system(setup->chat, setup->system);
    return ok && (!system || put_block(text, "SYSTEM", system, error));
}

// One line for each end token.
static bool put_stops(const ExportJob *job, Buffer *text, Error *error) {
    const Setup *setup = &job->setup;
    int32_t ends[EXPORT_ENDS_MAX];
    int count = export_ends(setup, ends);
    for (int i = 0; i < count; i++) {
        Buffer token = BUFFER_EMPTY;
        bool ok = tokenizer_decode(setup->tokenizer, ends[i], true, &token, error);
        if (ok && token.size && !strpbrk(buffer_string(&token), "\"\n"))
            ok = buffer_format(text, error, "PARAMETER stop \"%s\"\n", buffer_string(&token));
        buffer_free(&token);
        if (!ok) return false;
    }
    return true;
}

bool modelfile_text(const ExportJob *job, const char *file_name, Buffer *text, Error *error) {
    int64_t context = job->setup.config->max_positions;
    if (context > CONTEXT_DEFAULT) context = CONTEXT_DEFAULT;
    return buffer_format(text, error, "# ollama create %s -f Modelfile\nFROM ./%s\n", job->name, file_name) &&
           put_template(job, text, error) && put_stops(job, text, error) &&
           buffer_format(text, error, "PARAMETER num_ctx %" PRId64 "\n", context);
}
