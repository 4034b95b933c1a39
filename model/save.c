// save.c - the weights of a saved model: which tensors go into which safetensors file, and their index.
#include "model/save_parts.h"
#include "model/source_parts.h"
#include <stdlib.h>
#include <string.h>

// All tensors of a model, cut into files. Within a file the entries are in the writer's order.
typedef struct SavePlan {
    BlockTensor *tensors;      // [count] in the order of the blocks
    SafetensorsEntry *entries; // [count]; tag: index into tensors
    int *blocks;               // [count] the block of each of `tensors`
    size_t count;
    size_t *starts; // [files + 1]: file f holds entries starts[f] .. starts[f + 1] - 1
    size_t files;
} SavePlan;

static void plan_free(SavePlan *plan) {
    free(plan->tensors);
    free(plan->entries);
    free(plan->blocks);
    free(plan->starts);
    *plan = (SavePlan){0};
}

static bool plan_allocate(SavePlan *plan, const BlockLayout *layout, Error *error) {
    size_t most = (size_t)block_count(layout) * BLOCK_TENSORS_MAX;
    *plan = (SavePlan){.tensors = calloc(most, sizeof *plan->tensors),
                       .entries = calloc(most, sizeof *plan->entries),
                       .blocks = calloc(most, sizeof *plan->blocks),
                       .starts = calloc(most + 1, sizeof *plan->starts)};
    if (plan->tensors && plan->entries && plan->blocks && plan->starts) return true;
    plan_free(plan);
    error_memory(error, "the list of tensors", most * (sizeof *plan->tensors + sizeof *plan->entries));
    return false;
}

static void plan_block(SavePlan *plan, const BlockLayout *layout, const ModelConfig *config, const bool *chosen,
                       int block) {
    BlockTensor tensors[BLOCK_TENSORS_MAX];
    int count = block_tensors(layout, config, block, tensors);
    for (int i = 0; i < count; i++) {
        if (chosen && !chosen[block * BLOCK_TENSORS_MAX + i]) continue;
        BlockTensor *tensor = &plan->tensors[plan->count];
        *tensor = tensors[i];
        plan->blocks[plan->count] = block;
        plan->entries[plan->count] = (SafetensorsEntry){.name = tensor->name,
                                                        .type = SAFETENSORS_BF16,
                                                        .dimensions = tensor->vector ? 1 : 2,
                                                        .shape = {tensor->vector ? tensor->columns : tensor->rows},
                                                        .tag = (int64_t)plan->count};
        if (!tensor->vector) plan->entries[plan->count].shape[1] = tensor->columns;
        plan->count++;
    }
}

// A file is closed when the next tensor would make it larger than shard_bytes.
static bool make_plan(SavePlan *plan, const BlockLayout *layout, const ModelConfig *config, const SaveOptions *options,
                      Error *error) {
    uint64_t shard_bytes = options->shard_bytes;
    if (!plan_allocate(plan, layout, error)) return false;
    for (int block = 0; block < block_count(layout); block++) plan_block(plan, layout, config, options->chosen, block);
    uint64_t bytes = 0;
    plan->files = 1;
    for (size_t i = 0; i < plan->count; i++) {
        uint64_t more = (uint64_t)(plan->tensors[i].rows * plan->tensors[i].columns) * sizeof(bf16);
        if (shard_bytes && bytes > 0 && bytes + more > shard_bytes) {
            plan->starts[plan->files++] = i;
            bytes = 0;
        }
        bytes += more;
    }
    plan->starts[plan->files] = plan->count;
    return true;
}

static void file_name(char name[64], const SaveOptions *options, size_t file, size_t files) {
    const char *stem = options->stem ? options->stem : "model";
    if (files == 1)
        snprintf(name, 64, "%s.safetensors", stem);
    else
        snprintf(name, 64, "%s-%05zu-of-%05zu.safetensors", stem, file + 1, files);
}

bool model_save_bytes(const ModelSource *source, const BlockLayout *layout, const SaveOptions *options, uint64_t *bytes,
                      Error *error) {
    SavePlan plan;
    if (!make_plan(&plan, layout, model_source_config(source), options, error)) return false;
    bool ok = true;
    *bytes = 0;
    for (size_t file = 0; ok && file < plan.files; file++) {
        uint64_t more = 0;
        size_t first = plan.starts[file];
        ok = safetensors_file_size(plan.entries + first, plan.starts[file + 1] - first, &more, error);
        *bytes += more;
    }
    plan_free(&plan);
    return ok;
}

static bool write_tensors(const SavePlan *plan, size_t file, const WeightReader *from, SafetensorsWriter *writer,
                          Error *error) {
    int block = -1;
    const bf16 *weights = NULL;
    for (size_t i = plan->starts[file]; i < plan->starts[file + 1]; i++) {
        const SafetensorsEntry *entry = &plan->entries[i];
        if (plan->blocks[entry->tag] != block) { // the writer's order keeps a block's tensors together, nearly
            block = plan->blocks[entry->tag];
            weights = from->read(from->context, block, error);
            if (!weights) return false;
        }
        if (!safetensors_write(writer, weights + plan->tensors[entry->tag].offset, entry->bytes, error)) return false;
    }
    return true;
}

static bool write_file(const SavePlan *plan, size_t file, const WeightReader *from, const SaveOptions *options,
                       const char *directory, Error *error) {
    char name[64];
    file_name(name, options, file, plan->files);
    char *path = path_join(directory, name);
    if (!path) return error_memory(error, "a file name", strlen(directory));
    size_t first = plan->starts[file], end = plan->starts[file + 1];
    SafetensorsWriter *writer = safetensors_create(path, plan->entries + first, end - first, error);
    bool ok = writer && write_tensors(plan, file, from, writer, error);
    if (ok)
        ok = safetensors_finish(writer, error);
    else
        safetensors_abandon(writer);
    for (size_t i = first; ok && options->written && i < end; i++)
        options->written(options->context, name, &plan->entries[i]);
    free(path);
    return ok;
}

// model.safetensors.index.json: which file holds which tensor.
static bool write_index(const SavePlan *plan, const SaveOptions *options, const char *directory, Error *error) {
    json_t *map = json_object(), *index;
    uint64_t total = 0;
    bool ok = map != NULL;
    for (size_t file = 0; file < plan->files; file++)
        for (size_t i = plan->starts[file]; i < plan->starts[file + 1]; i++) {
            char name[64];
            file_name(name, options, file, plan->files);
            ok = ok && json_object_set_new(map, plan->entries[i].name, json_string(name)) == 0;
            total += plan->entries[i].bytes;
        }
    index = json_pack("{s:{s:I},s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    char index_name[64];
    snprintf(index_name, sizeof index_name, "%s.safetensors.index.json", options->stem ? options->stem : "model");
    ok = ok && index ? save_json(index, directory, index_name, error)
                     : error_memory(error, "the index of the files", plan->count * 128);
    json_decref(index);
    return ok;
}

bool save_weights(const ModelConfig *config, const BlockLayout *layout, const WeightReader *weights,
                  const SaveOptions *options, const char *directory, Error *error) {
    SavePlan plan;
    if (!make_plan(&plan, layout, config, options, error)) return false;
    bool ok = true;
    for (size_t file = 0; ok && file < plan.files; file++)
        ok = write_file(&plan, file, weights, options, directory, error);
    if (ok && plan.files > 1) ok = write_index(&plan, options, directory, error);
    plan_free(&plan);
    return ok;
}

static const bf16 *read_store(void *context, int block, Error *error) {
    (void)error;
    return store_get(context, block);
}

bool model_save(const ModelSource *source, BlockStore *store, const SaveOptions *options, const char *directory,
                Error *error) {
    WeightReader weights = {read_store, store};
    return save_weights(model_source_config(source), &store->layout, &weights, options, directory, error) &&
           save_configurations(source, options, directory, error);
}
