// source.c - opening a model by name: which kind of source it is, and whether all of its tensors are there.
#include "base/ending.h"
#include "base/log.h"
#include "model/source_parts.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

// "[32, 64]" or "[64]" into text, which is returned.
static const char *shape_text(char text[96], const int64_t *shape, int dimensions) {
    size_t used = (size_t)snprintf(text, 96, "[");
    for (int i = 0; i < dimensions && used < 80; i++)
        used += (size_t)snprintf(text + used, 96 - used, i ? ", %" PRId64 : "%" PRId64, shape[i]);
    if (used < 94) snprintf(text + used, 96 - used, "]");
    return text;
}

static const char *expected_shape(char text[96], const BlockTensor *tensor) {
    int64_t shape[2] = {tensor->rows, tensor->columns};
    return shape_text(text, tensor->vector ? shape + 1 : shape, tensor->vector ? 1 : 2);
}

bool source_missing(const char *where, const char *name, const BlockTensor *tensor, Error *error) {
    char text[96];
    error_set(error, "%s: tensor \"%s\" of shape %s is missing", where, name, expected_shape(text, tensor));
    return error_hint(error, "the weights do not belong to this configuration, or the download is not complete");
}

bool source_misshapen(const char *where, const char *name, const int64_t *shape, int dimensions,
                      const BlockTensor *tensor, Error *error) {
    char found[96], expected[96];
    error_set(error, "%s: tensor \"%s\" has the shape %s, but the configuration needs %s", where, name,
              shape_text(found, shape, dimensions), expected_shape(expected, tensor));
    return error_hint(error, "the weights do not belong to this configuration; download the model again");
}

// Files hold more than we read: old rotary buffers, a tied model's output matrix. Worth a word when someone wonders.
static void report_unused(const ModelSource *source, size_t used) {
    size_t stored = source->gguf.tensor_count;
    for (size_t i = 0; i < source->file_count; i++) stored += source->files[i].count;
    if (stored > used)
        log_debug("%s: %zu tensors are not part of the model and are ignored", source->path, stored - used);
}

// "Q4_1 + F32": the types in use, those with the most elements first.
static void describe_types(ModelSource *source, const uint64_t elements[GGML_BF16 + 1]) {
    uint64_t left[GGML_BF16 + 1];
    memcpy(left, elements, sizeof left);
    size_t used = 0;
    for (;;) {
        int most = 0;
        for (int type = 0; type <= GGML_BF16; type++)
            if (left[type] > left[most]) most = type;
        if (left[most] == 0) return;
        left[most] = 0;
        const char *name = ggml_type_info((uint32_t)most)->name;
        if (source->kind == SOURCE_HUGGING_FACE) name = most == GGML_F32 ? "f32" : most == GGML_F16 ? "f16" : "bf16";
        if (used >= sizeof source->types - 16) return;
        used += (size_t)snprintf(source->types + used, sizeof source->types - used, used ? " + %s" : "%s", name);
        source->rounds = source->rounds || most != GGML_BF16;
    }
}

// Finds every tensor of every block and checks its shape.
static bool locate_tensors(ModelSource *source, Error *error) {
    int blocks = block_count(&source->layout);
    uint64_t elements[GGML_BF16 + 1] = {0};
    size_t used = 0;
    source->tensors = calloc((size_t)blocks * BLOCK_TENSORS_MAX, sizeof *source->tensors);
    if (!source->tensors)
        return error_memory(error, "the list of tensors", (size_t)blocks * BLOCK_TENSORS_MAX * sizeof *source->tensors);
    for (int block = 0; block < blocks; block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(&source->layout, &source->config, block, tensors);
        for (int i = 0; i < count; i++) {
            StoredTensor *stored = &source->tensors[block * BLOCK_TENSORS_MAX + i];
            bool ok = source->kind == SOURCE_GGUF ? source_find_gguf(source, &tensors[i], stored, error)
                                                  : source_find_hugging_face(source, &tensors[i], stored, error);
            if (!ok) return false;
            elements[stored->type->type] += (uint64_t)(tensors[i].rows * tensors[i].columns);
            used++;
        }
    }
    describe_types(source, elements);
    report_unused(source, used);
    return true;
}

static bool starts_as_gguf(const char *path) {
    char magic[4] = {0};
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    bool ok = fread(magic, 1, sizeof magic, file) == sizeof magic && !memcmp(magic, "GGUF", 4);
    fclose(file);
    return ok;
}

static bool open_file(ModelSource *source, bool config_only, Error *error) {
    if (has_ending(source->path, ".gguf") || starts_as_gguf(source->path)) return source_open_gguf(source, error);
    if (config_only && has_ending(source->path, ".json"))
        return source_open_hugging_face(source, source->path, true, error);
    if (source_is_pickle_name(source->path)) return source_refuse_pickle(source->path, path_name(source->path), error);
    error_set(error, "%s is neither a GGUF file nor a folder", source->path);
    return error_hint(error, "give the folder that holds config.json and model.safetensors, or a .gguf file");
}

static bool open_directory(ModelSource *source, bool config_only, Error *error) {
    char *config = path_join(source->path, "config.json");
    if (!config) return error_memory(error, "a file name", strlen(source->path));
    bool ok;
    if (path_exists(config)) {
        ok = source_open_hugging_face(source, config, config_only, error);
    } else {
        error_set(error, "%s: there is no config.json in this folder", source->path);
        ok = error_hint(error, "give a Hugging Face model folder, a .gguf file or a hub id");
    }
    free(config);
    return ok;
}

// Opens a file, a folder, or a model of the cache. A name that ends like a file is not taken for a hub id.
static bool open_name(ModelSource *source, const char *name, bool config_only, Error *error) {
    bool here = path_exists(name);
    bool hub = !here && hub_is_id(name) && !has_ending(name, ".gguf") && !has_ending(name, ".json");
    source->path = hub ? hub_find(name, error) : strdup(name);
    if (!source->path) return hub ? false : error_memory(error, "a file name", strlen(name));
    if (path_is_directory(source->path)) return open_directory(source, config_only, error);
    if (path_exists(source->path)) return open_file(source, config_only, error);
    error_set(error, "model %s: no such file or folder", name);
    return error_hint(error, "give a Hugging Face model folder, a .gguf file or a hub id such as "
                             "HuggingFaceTB/SmolLM2-135M-Instruct");
}

ModelSource *model_source_open(const char *name, bool config_only, Error *error) {
    ModelSource *source = calloc(1, sizeof *source);
    if (!source) {
        error_memory(error, "a model source", sizeof *source);
        return NULL;
    }
    bool ok = open_name(source, name, config_only, error) && block_layout(&source->layout, &source->config, error);
    bool has_weights = source->kind == SOURCE_GGUF || !config_only;
    if (ok && (!has_weights || locate_tensors(source, error))) return source;
    error_hint_if_none(error,
                       "the model's files are damaged, or of a kind that lisa does not read; download them again "
                       "or take another model");
    model_source_close(source);
    return NULL;
}

void model_source_close(ModelSource *source) {
    if (!source) return;
    for (size_t i = 0; i < source->file_count; i++) safetensors_close(&source->files[i]);
    free(source->files);
    gguf_close(&source->gguf);
    json_decref(source->json);
    json_decref(source->weight_map);
    free(source->tensors);
    free(source->path);
    free(source);
}

const ModelConfig *model_source_config(const ModelSource *source) {
    return &source->config;
}

const BlockLayout *model_source_layout(const ModelSource *source) {
    return &source->layout;
}

SourceKind model_source_kind(const ModelSource *source) {
    return source->kind;
}

const char *model_source_path(const ModelSource *source) {
    return source->path;
}

const char *model_source_types(const ModelSource *source) {
    return source->types;
}

bool model_source_rounds(const ModelSource *source) {
    return source->rounds;
}
