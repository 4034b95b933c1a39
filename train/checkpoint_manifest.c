// checkpoint_manifest.c - size and checksum of every file of a checkpoint. See checkpoint.h.
#include "base/ending.h"
#include "base/safetensors.h"
#include "train/checkpoint.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MANIFEST_LIMIT ((size_t)64 << 20) // bytes of a manifest

static json_t *checksum(uint64_t bytes, uint32_t crc) {
    char text[9];
    snprintf(text, sizeof text, "%08x", crc);
    return json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "crc32", text);
}

// {"bytes", "tensors": {name: {"bytes", "crc32"}}}
static json_t *entry_of_tensors(const char *path, Error *error) {
    SafetensorsFile file;
    if (!safetensors_open(&file, path, error)) return NULL;
    json_t *tensors = json_object();
    for (size_t i = 0; i < file.count; i++) {
        const SafetensorsTensor *tensor = &file.tensors[i];
        json_object_set_new(tensors, tensor->name, checksum(tensor->bytes, safetensors_crc32(&file, tensor)));
        file_map_forget(&file.map, tensor->offset, tensor->bytes);
    }
    json_t *entry = json_pack("{s:I, s:o}", "bytes", (json_int_t)file.map.size, "tensors", tensors);
    safetensors_close(&file);
    return entry;
}

// {"bytes", "crc32"}
static json_t *entry_of_bytes(const char *path, Error *error) {
    FileMap map;
    if (!file_map(&map, path, error)) return NULL;
    json_t *entry = checksum(map.size, (uint32_t)crc32_z(0, map.data, map.size));
    file_unmap(&map);
    return entry;
}

static json_t *entry_of(const char *path, Error *error) {
    return has_ending(path, ".safetensors") ? entry_of_tensors(path, error) : entry_of_bytes(path, error);
}

bool manifest_add_tensor(json_t *files, const char *file, const SafetensorsEntry *entry) {
    json_t *tensors = json_object_get(json_object_get(files, file), "tensors");
    if (!tensors) {
        json_object_set_new(files, file, json_pack("{s:I, s:{}}", "bytes", (json_int_t)0, "tensors"));
        tensors = json_object_get(json_object_get(files, file), "tensors");
    }
    return json_object_set_new(tensors, entry->name, checksum(entry->bytes, entry->crc32)) == 0;
}

bool manifest_add_files(json_t *files, const char *folder, Error *error) {
    char **names;
    size_t count;
    if (!directory_list(folder, &names, &count, error)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        char *path = path_join(folder, names[i]);
        json_t *entry = json_object_get(files, names[i]);
        if (!path)
            ok = error_memory(error, folder, strlen(folder));
        else if (entry)
            ok = json_object_set_new(entry, "bytes", json_integer(path_size(path))) == 0 ||
                 error_memory(error, path, sizeof(json_int_t));
        else
            ok = (entry = entry_of_bytes(path, error)) &&
                 (json_object_set_new(files, names[i], entry) == 0 || error_memory(error, path, 64));
        free(path);
    }
    names_free(names, count);
    return ok;
}

static bool altered(const char *path, const char *tensor, Error *error) {
    if (tensor)
        error_set(error, "%s: tensor \"%s\" is not what the checkpoint's manifest says", path, tensor);
    else
        error_set(error, "%s is not what the checkpoint's manifest says", path);
    return error_hint(error, "the checkpoint is damaged or was changed; remove its folder to go on from an older one, "
                             "or use it as a model: model_name_or_path and another output_dir");
}

// The first tensor that differs between two entries of a safetensors file, NULL when none does.
static const char *different_tensor(const json_t *said, json_t *found) {
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(found, "tensors"), name, value) {
        if (!json_equal(json_object_get(json_object_get(said, "tensors"), name), value)) return name;
    }
    return NULL;
}

static bool verify_file(const char *folder, const char *name, const json_t *said, Error *error) {
    char *path = path_join(folder, name);
    if (!path) return error_memory(error, folder, strlen(folder));
    json_t *found = NULL;
    bool ok = true;
    if (strchr(name, '/') || path_size(path) != json_integer_value(json_object_get(said, "bytes"))) {
        ok = altered(path, NULL, error);
    } else {
        found = entry_of(path, error);
        ok = found && (json_equal(said, found) || altered(path, different_tensor(said, found), error));
    }
    json_decref(found);
    free(path);
    return ok;
}

json_t *manifest_verify(const char *folder, Error *error) {
    char *path = path_join(folder, "manifest.json");
    if (!path) {
        error_memory(error, folder, strlen(folder));
        return NULL;
    }
    json_t *manifest = json_read_file(path, MANIFEST_LIMIT, error);
    bool ok = manifest && (json_is_object(json_object_get(manifest, "files")) ||
                           error_set(error, "%s: no checkpoint manifest", path));
    const char *name;
    json_t *said;
    json_object_foreach(ok ? json_object_get(manifest, "files") : NULL, name, said) {
        ok = verify_file(folder, name, said, error);
        if (!ok) break;
    }
    free(path);
    if (ok) return manifest;
    json_decref(manifest);
    return NULL;
}
