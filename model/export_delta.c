// export_delta.c - what training changed, as files that are small to share: see export.h.
//
// delta.json: {"format": "lisa-delta", "version": 1, "base": {"name": ..., "blocks": [CRC-32 of each block's bf16
// weights]}, "shard_bytes": ..., "tensors": {name: CRC-32}}. Checksums are eight hexadecimal digits, zlib's CRC-32.
#include "model/export_parts.h"
#include "model/save_parts.h"
#include <stdlib.h>

#define FORMAT     "lisa-delta"
#define FACTS      "delta.json"
#define WEIGHTS    "delta.safetensors"
#define JSON_LIMIT ((size_t)64 << 20) // bytes of delta.json

static json_t *hexadecimal(uint32_t checksum) {
    char text[9];
    snprintf(text, sizeof text, "%08x", checksum);
    return json_string(text);
}

static SaveOptions save_options(const ModelDifference *difference) {
    return (SaveOptions){.stem = "delta", .chosen = difference->changed};
}

bool delta_bytes(const ModelSource *source, const ModelDifference *difference, uint64_t *bytes, Error *error) {
    SaveOptions options = save_options(difference);
    return model_save_bytes(source, &source->layout, &options, bytes, error);
}

// ---- writing ----

static void note_tensor(void *context, const char *file_name, const SafetensorsEntry *entry) {
    (void)file_name;
    json_object_set_new(context, entry->name, hexadecimal(entry->crc32));
}

// The size that cuts the model's tensors into files as they are cut now: that of its largest file of several tensors
// (one alone may be larger than was allowed). 0: one file.
static uint64_t shard_bytes(const ModelSource *source) {
    if (source->file_count < 2) return 0;
    uint64_t largest = 1;
    for (size_t i = 0; i < source->file_count; i++) {
        uint64_t bytes = 0;
        for (size_t t = 0; t < source->files[i].count; t++) bytes += source->files[i].tensors[t].bytes;
        if (source->files[i].count > 1 && bytes > largest) largest = bytes;
    }
    return largest;
}

static bool write_facts(const ModelSource *source, const ModelDifference *difference, const char *base_name,
                        json_t *tensors, const char *directory, Error *error) {
    json_t *blocks = json_array();
    for (int block = 0; block < block_count(&source->layout); block++)
        json_array_append_new(blocks, hexadecimal(difference->checksums[block]));
    json_t *facts =
        json_pack("{s:s, s:i, s:{s:s, s:o}, s:I, s:O}", "format", FORMAT, "version", 1, "base", "name", base_name,
                  "blocks", blocks, "shard_bytes", (json_int_t)shard_bytes(source), "tensors", tensors);
    bool ok = facts ? save_json(facts, directory, FACTS, error) : error_memory(error, FACTS, 65536);
    json_decref(facts);
    return ok;
}

bool delta_write(SourceReader *reader, const ModelDifference *difference, const char *base_name, const char *directory,
                 Error *error) {
    const ModelSource *source = reader->source;
    json_t *tensors = json_object();
    SaveOptions options = save_options(difference);
    options.written = note_tensor;
    options.context = tensors;
    WeightReader weights = source_reader(reader);
    bool ok = (tensors || error_memory(error, FACTS, 65536)) &&
              save_weights(&source->config, &source->layout, &weights, &options, directory, error) &&
              write_facts(source, difference, base_name, tensors, directory, error);
    json_decref(tensors);
    return ok;
}

// ---- reading ----

static bool damaged(const char *directory, const char *what, Error *error) {
    error_set(error, "delta %s: %s", directory, what);
    return error_hint(error, "the delta is damaged or was not copied completely; get it again");
}

static bool same_checksum(const json_t *stored, uint32_t checksum) {
    json_t *text = hexadecimal(checksum);
    bool same = text && json_equal(stored, text);
    json_decref(text);
    return same;
}

static bool open_files(ModelDelta *delta, const char *directory, Error *error) {
    char *facts = path_join(directory, FACTS), *weights = path_join(directory, WEIGHTS);
    bool ok = (facts && weights) || error_memory(error, directory, strlen(directory));
    if (ok && !path_exists(facts)) {
        error_set(error, "delta %s: there is no %s", directory, FACTS);
        ok = error_hint(error, "name a folder that lisa export --export_format delta has written");
    }
    ok = ok && (delta->facts = json_read_file(facts, JSON_LIMIT, error)) != NULL;
    if (ok) {
        const char *format = json_string_value(json_object_get(delta->facts, "format"));
        if (!format || strcmp(format, FORMAT) != 0 || json_integer_value(json_object_get(delta->facts, "version")) != 1)
            ok = damaged(directory, FACTS " is none of this version of lisa", error);
    }
    ok = ok && safetensors_open(&delta->file, weights, error);
    free(facts);
    free(weights);
    return ok;
}

// The tensor of this name in the base, by its block; false when there is none.
static bool find_tensor(const ModelSource *base, const char *name, BlockTensor *found) {
    for (int block = 0; block < block_count(&base->layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(&base->layout, &base->config, block, tensors);
        for (int i = 0; i < count; i++) {
            if (strcmp(tensors[i].name, name) != 0) continue;
            *found = tensors[i];
            return true;
        }
    }
    return false;
}

static bool check_tensors(const ModelDelta *delta, const char *directory, const ModelSource *base, Error *error) {
    const json_t *stored = json_object_get(delta->facts, "tensors");
    if (json_object_size(stored) != delta->file.count)
        return damaged(directory, FACTS " and " WEIGHTS " list different tensors", error);
    for (size_t i = 0; i < delta->file.count; i++) {
        const SafetensorsTensor *tensor = &delta->file.tensors[i];
        BlockTensor place;
        char what[256];
        if (!same_checksum(json_object_get(stored, tensor->name), safetensors_crc32(&delta->file, tensor))) {
            snprintf(what, sizeof what, "tensor \"%.120s\" does not have the checksum that %s gives", tensor->name,
                     FACTS);
            return damaged(directory, what, error);
        }
        if (!find_tensor(base, tensor->name, &place) || tensor->type != SAFETENSORS_BF16 ||
            tensor->bytes != (size_t)(place.rows * place.columns) * sizeof(bf16)) {
            error_set(error, "delta %s: tensor \"%.120s\" does not fit the base %s", directory, tensor->name,
                      base->path);
            return error_hint(error, "name the model that the delta was made against as base");
        }
    }
    return true;
}

static bool check_base(const ModelDelta *delta, const char *directory, const ModelSource *base, ThreadPool *threads,
                       Error *error) {
    const json_t *facts = json_object_get(delta->facts, "base"), *blocks = json_object_get(facts, "blocks");
    const char *name = json_string_value(json_object_get(facts, "name"));
    SourceReader reader = {.source = base, .threads = threads};
    bool ok = source_reader_open(&reader, error);
    int count = block_count(&base->layout), wrong = -1;
    if (ok && json_array_size(blocks) != (size_t)count) wrong = 0;
    WeightReader weights = source_reader(&reader);
    for (int block = 0; ok && wrong < 0 && block < count; block++) {
        const bf16 *values = weights.read(weights.context, block, error);
        if (!same_checksum(json_array_get(blocks, (size_t)block), export_block_checksum(base, block, values)))
            wrong = block;
    }
    source_reader_free(&reader);
    if (!ok || wrong < 0) return ok;
    error_set(error,
              "base %s is not the model that the delta %s was made against (%s): the checksum of block %d differs",
              base->path, directory, name ? name : "not named", wrong);
    return error_hint(error, "get %s, in the very version that was trained", name ? name : "the right one");
}

bool delta_open(ModelDelta *delta, const char *directory, const ModelSource *base, ThreadPool *threads, Error *error) {
    *delta = (ModelDelta){0};
    if (!open_files(delta, directory, error) || !check_tensors(delta, directory, base, error) ||
        !check_base(delta, directory, base, threads, error))
        return false;
    int64_t shards = 0;
    if (!json_get_integer(delta->facts, "shard_bytes", &shards, FACTS, error)) return false;
    delta->shard_bytes = shards > 0 ? (uint64_t)shards : 0;
    return true;
}

void delta_close(ModelDelta *delta) {
    json_decref(delta->facts);
    safetensors_close(&delta->file);
    *delta = (ModelDelta){0};
}
