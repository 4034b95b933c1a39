// source_hf.c - a Hugging Face directory: config.json, and one safetensors file or several with their index.
#include "base/ending.h"
#include "model/source_parts.h"
#include <stdlib.h>
#include <string.h>

#define JSON_BYTES_MAX (64 << 20)

bool source_is_pickle_name(const char *name) {
    static const char *const ENDINGS[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl"};
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++)
        if (has_ending(name, ENDINGS[i])) return true;
    return false;
}

bool source_refuse_pickle(const char *path, const char *name, Error *error) {
    error_set(error, "%s: %s is a pickle checkpoint; reading one can run code that it contains, so it is refused", path,
              name);
    // transformers wants the folder
    const char *slash = path_is_directory(path) ? path + strlen(path) : strrchr(path, '/');
    int length = slash ? (int)(slash - path) : 1;
    const char *folder = slash ? path : ".";
    return error_hint(error,
                      "convert it once, if you trust it: python3 -c \"from transformers import AutoModelForCausalLM as "
                      "M; M.from_pretrained('%.*s').save_pretrained('%.*s-safetensors', safe_serialization=True)\"",
                      length, folder, length, folder);
}

// No safetensors: says what is there instead.
static bool refuse_directory(const char *path, Error *error) {
    char **names;
    size_t count;
    if (!directory_list(path, &names, &count, error)) return false;
    const char *pickle = NULL;
    for (size_t i = 0; i < count && !pickle; i++)
        if (source_is_pickle_name(names[i])) pickle = names[i];
    if (pickle) {
        source_refuse_pickle(path, pickle, error);
    } else {
        error_set(error, "%s: neither model.safetensors nor model.safetensors.index.json is there", path);
        error_hint(error, "the download is not complete, or this is no model; download it again");
    }
    names_free(names, count);
    return false;
}

static bool open_file(ModelSource *source, const char *name, Error *error) {
    if (strchr(name, '/') || !strcmp(name, "..")) {
        return error_set(error, "%s/model.safetensors.index.json: \"%s\" is not the name of a file beside it",
                         source->path, name);
    }
    char *path = path_join(source->path, name);
    if (!path) return error_memory(error, "a file name", strlen(name));
    bool ok = true;
    if (!path_exists(path)) {
        error_set(error, "%s: the index names this file, but it is not there", path);
        ok = error_hint(error, "the download is not complete; download the model again");
    }
    ok = ok && safetensors_open(&source->files[source->file_count], path, error);
    if (ok) source->file_count++;
    free(path);
    return ok;
}

static const SafetensorsFile *file_named(const ModelSource *source, const char *name) {
    for (size_t i = 0; i < source->file_count; i++)
        if (!strcmp(path_name(source->files[i].where), name)) return &source->files[i];
    return NULL;
}

static bool open_index(ModelSource *source, const char *path, Error *error) {
    json_t *index = json_read_file(path, JSON_BYTES_MAX, error);
    if (!index) return false;
    source->weight_map = json_incref(json_object_get(index, "weight_map"));
    json_decref(index);
    size_t tensors = json_object_size(source->weight_map);
    if (tensors == 0) return error_set(error, "%s: \"weight_map\" is missing or empty", path);
    source->files = calloc(tensors, sizeof *source->files);
    if (!source->files) return error_memory(error, "the list of files", tensors * sizeof *source->files);
    const char *name;
    json_t *file;
    json_object_foreach(source->weight_map, name, file) {
        if (!json_is_string(file))
            return error_set(error, "%s: \"weight_map\": \"%s\" must be a file name", path, name);
        const char *file_name = json_string_value(file);
        if (!file_named(source, file_name) && !open_file(source, file_name, error)) return false;
    }
    return true;
}

static bool open_weights(ModelSource *source, Error *error) {
    char *single = path_join(source->path, "model.safetensors");
    char *index = path_join(source->path, "model.safetensors.index.json");
    bool ok = false;
    if (!single || !index) {
        error_memory(error, "a file name", strlen(source->path));
    } else if (path_exists(single)) {
        source->files = calloc(1, sizeof *source->files);
        ok = source->files ? safetensors_open(source->files, single, error)
                           : error_memory(error, "the list of files", sizeof *source->files);
        source->file_count = ok ? 1 : 0;
    } else {
        ok = path_exists(index) ? open_index(source, index, error) : refuse_directory(source->path, error);
    }
    free(single);
    free(index);
    return ok;
}

bool source_open_hugging_face(ModelSource *source, const char *config_path, bool config_only, Error *error) {
    source->kind = SOURCE_HUGGING_FACE;
    source->json = json_read_file(config_path, JSON_BYTES_MAX, error);
    return source->json && model_config_from_json(&source->config, source->json, config_path, error) &&
           (config_only || open_weights(source, error));
}

static const GgmlTypeInfo *element_type(SafetensorsType type) {
    switch (type) {
    case SAFETENSORS_F32:
        return ggml_type_info(GGML_F32);
    case SAFETENSORS_F16:
        return ggml_type_info(GGML_F16);
    case SAFETENSORS_BF16:
        return ggml_type_info(GGML_BF16);
    default:
        return NULL;
    }
}

bool source_find_hugging_face(const ModelSource *source, const BlockTensor *tensor, StoredTensor *stored,
                              Error *error) {
    const SafetensorsFile *file = source->files;
    if (source->weight_map) {
        const char *name = json_string_value(json_object_get(source->weight_map, tensor->name));
        file = name ? file_named(source, name) : NULL;
    }
    const SafetensorsTensor *found = file ? safetensors_find(file, tensor->name) : NULL;
    if (!found) return source_missing(file ? file->where : source->path, tensor->name, tensor, error);
    bool fits = tensor->vector
                    ? found->dimensions == 1 && found->shape[0] == tensor->columns
                    : found->dimensions == 2 && found->shape[0] == tensor->rows && found->shape[1] == tensor->columns;
    if (!fits) return source_misshapen(file->where, tensor->name, found->shape, found->dimensions, tensor, error);
    const GgmlTypeInfo *type = element_type(found->type);
    if (!type) {
        error_set(error, "%s: tensor \"%s\" is stored as %s, which is not supported (supported: BF16, F16, F32)",
                  file->where, tensor->name, safetensors_type_name(found->type));
        return error_hint(error, "take the model's unquantised weights, or a GGUF file of it");
    }
    *stored = (StoredTensor){.map = &file->map, .offset = found->offset, .bytes = found->bytes, .type = type};
    return true;
}
