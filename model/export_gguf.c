// export_gguf.c - which tensors a GGUF file of a model holds, and what it says of the model. Keys and names are those
// of llama.cpp's convert_hf_to_gguf.py.
#include "base/log.h"
#include "model/export_parts.h"
#include <inttypes.h>
#include <stdlib.h>

#define ROPE_FACTORS "rope_freqs.weight"

struct GgufPlan {
    const GgufExport *job;
    ExportTensor *tensors; // [count] in the order of the file
    GgufEntry *entries;    // [count]
    size_t count;
    size_t alignment;
    size_t changed;
    float *factors; // [D / 2] of a llama3 rope scaling, NULL when there is none
};

static bool keeps_layout(const GgufExport *job) {
    return job->base && !job->new_layout;
}

void gguf_plan_free(GgufPlan *plan) {
    if (!plan) return;
    free(plan->tensors);
    free(plan->entries);
    free(plan->factors);
    free(plan);
}

size_t gguf_plan_changed(const GgufPlan *plan) {
    return plan->changed;
}

const GgufFile *gguf_plan_kept(const GgufPlan *plan) {
    const ModelSource *source = plan->job->base ? plan->job->base : plan->job->source;
    return source->kind == SOURCE_GGUF ? &source->gguf : NULL;
}

static ExportTensor *add_tensor(GgufPlan *plan, const char *name, const GgmlTypeInfo *type, int64_t rows,
                                int64_t columns, bool vector) {
    ExportTensor *tensor = &plan->tensors[plan->count];
    GgufEntry *entry = &plan->entries[plan->count++];
    *tensor = (ExportTensor){.type = type, .rows = vector ? 1 : rows, .columns = columns};
    *entry = (GgufEntry){.type = type, .dimensions = vector ? 1 : 2, .shape = {vector ? columns : rows, columns}};
    if (vector) entry->shape[1] = 0;
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    snprintf(entry->name, sizeof entry->name, "%s", name);
    return tensor;
}

// ---- a new layout ----

// Whether the tensor's product are the logits.
static bool is_output(const ModelConfig *config, const char *name) {
    return !strcmp(name, config->tied ? "token_embd.weight" : "output.weight");
}

static const GgmlTypeInfo *new_type(const GgufExport *job, const BlockTensor *tensor, const char *name) {
    if (tensor->vector) return ggml_type_info(GGML_F32);
    GgmlType type = job->type;
    if (type == GGML_Q4_0 && is_output(&job->source->config, name)) type = GGML_Q8_0;
    const GgmlTypeInfo *info = ggml_type_info(type);
    return tensor->columns % info->block ? ggml_type_info(GGML_F16) : info;
}

// Takes a tensor of a GGUF file as it is.
static void keep_tensor(GgufPlan *plan, const GgufFile *file, const GgufTensor *kept) {
    ExportTensor *tensor = &plan->tensors[plan->count];
    GgufEntry *entry = &plan->entries[plan->count++];
    *tensor =
        (ExportTensor){.from = {.map = &file->map, .offset = kept->offset, .bytes = kept->bytes, .type = kept->type},
                       .type = kept->type,
                       .copied = true};
    *entry = (GgufEntry){.type = kept->type, .dimensions = kept->dimensions};
    memcpy(entry->shape, kept->shape, sizeof entry->shape);
    memcpy(tensor->name, kept->name, sizeof tensor->name);
    memcpy(entry->name, kept->name, sizeof entry->name);
}

static bool add_factors(GgufPlan *plan, Error *error) {
    const ModelConfig *config = &plan->job->source->config;
    const GgufFile *kept = gguf_plan_kept(plan);
    const GgufTensor *factors = kept ? gguf_tensor(kept, ROPE_FACTORS) : NULL;
    if (factors) {
        keep_tensor(plan, kept, factors);
        return true;
    }
    int half = config->head_dim / 2;
    if (config->rope_scaling != ROPE_LLAMA3) return true;
    plan->factors = malloc((size_t)half * sizeof *plan->factors);
    if (!plan->factors) return error_memory(error, ROPE_FACTORS, (size_t)half * sizeof *plan->factors);
    model_rope_factors(config, plan->factors);
    add_tensor(plan, ROPE_FACTORS, ggml_type_info(GGML_F32), 1, half, true)->values = plan->factors;
    return true;
}

// Where the values of a tensor come from: the source, or base where they are equal and of one type there.
static void take_values(const GgufPlan *plan, const ModelDifference *difference, int index, ExportTensor *tensor) {
    const GgufExport *job = plan->job;
    bool compared = difference->changed != NULL;
    tensor->from = job->source->tensors[index];
    if (compared && !difference->changed[index] && job->base->tensors[index].type == tensor->type) {
        tensor->from = job->base->tensors[index];
        tensor->copied = true;
    } else if (!tensor->from.interleaved) {
        tensor->order = source_gguf_order(&job->source->config, tensor->name);
    }
}

static bool add_block(GgufPlan *plan, const ModelDifference *difference, int block, Error *error) {
    const ModelSource *source = plan->job->source;
    BlockTensor tensors[BLOCK_TENSORS_MAX];
    int count = block_tensors(&source->layout, &source->config, block, tensors);
    for (int i = 0; i < count; i++) {
        char name[GGUF_NAME_MAX + 1];
        if (!source_gguf_name(tensors[i].name, name))
            return error_set(error, "tensor \"%s\" has no name in a GGUF file", tensors[i].name);
        ExportTensor *tensor = add_tensor(plan, name, new_type(plan->job, &tensors[i], name), tensors[i].rows,
                                          tensors[i].columns, tensors[i].vector);
        take_values(plan, difference, block * BLOCK_TENSORS_MAX + i, tensor);
    }
    return true;
}

static bool plan_new(GgufPlan *plan, Error *error) {
    const GgufExport *job = plan->job;
    ModelDifference difference = {0};
    plan->alignment = 32;
    bool ok = add_factors(plan, error) &&
              (!job->base || model_compare(job->source, job->base, job->threads, &difference, error));
    for (int block = 0; ok && block < block_count(&job->source->layout); block++)
        ok = add_block(plan, &difference, block, error);
    plan->changed = difference.tensors;
    model_difference_free(&difference);
    return ok;
}

// ---- the layout of base ----

static int compare_places(const void *a, const void *b) {
    const GgufTensor *x = *(const GgufTensor *const *)a, *y = *(const GgufTensor *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

// The entry of a name that is in the plan; plans of kept layouts hold some hundred tensors.
static size_t find_entry(const GgufPlan *plan, const char *name) {
    size_t i = 0;
    while (i < plan->count && strcmp(plan->entries[i].name, name) != 0) i++;
    return i;
}

// Gives a tensor of base the values of the source. Returns whether its type had to change.
static bool replace_tensor(GgufPlan *plan, const BlockTensor *shape, const StoredTensor *from) {
    const ModelSource *source = plan->job->source;
    char name[GGUF_NAME_MAX + 1];
    if (!source_gguf_name(shape->name, name)) return false;
    size_t at = find_entry(plan, name);
    ExportTensor *tensor = &plan->tensors[at];
    bool writable = ggml_can_quantise(tensor->type->type);
    if (!writable) plan->entries[at].type = ggml_type_info(GGML_Q8_0);
    *tensor =
        (ExportTensor){.from = *from, .type = plan->entries[at].type, .rows = shape->rows, .columns = shape->columns};
    if (!from->interleaved) tensor->order = source_gguf_order(&source->config, name);
    memcpy(tensor->name, name, sizeof name);
    plan->changed++;
    return !writable;
}

static bool replace_changed(GgufPlan *plan, Error *error) {
    const ModelSource *source = plan->job->source;
    ModelDifference difference;
    size_t other_types = 0;
    bool ok = model_compare(source, plan->job->base, plan->job->threads, &difference, error);
    for (int block = 0; ok && block < block_count(&source->layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(&source->layout, &source->config, block, tensors);
        for (int i = 0; i < count; i++) {
            int index = block * BLOCK_TENSORS_MAX + i;
            if (difference.changed[index]) other_types += replace_tensor(plan, &tensors[i], &source->tensors[index]);
        }
    }
    model_difference_free(&difference);
    if (other_types)
        log_note("%zu trained tensors become Q8_0: the types they had can be read, not written", other_types);
    return ok;
}

static bool plan_like_base(GgufPlan *plan, Error *error) {
    const GgufFile *file = &plan->job->base->gguf;
    int64_t alignment = 32;
    const GgufTensor **sorted = malloc(file->tensor_count * sizeof *sorted);
    if (!sorted) return error_memory(error, "the list of tensors", file->tensor_count * sizeof *sorted);
    for (size_t i = 0; i < file->tensor_count; i++) sorted[i] = &file->tensors[i];
    qsort(sorted, file->tensor_count, sizeof *sorted, compare_places);
    for (size_t i = 0; i < file->tensor_count; i++) keep_tensor(plan, file, sorted[i]);
    free(sorted);
    if (!gguf_get_integer(file, "general.alignment", &alignment, error)) return false;
    plan->alignment = (size_t)alignment;
    return plan->job->base == plan->job->source || replace_changed(plan, error);
}

GgufPlan *gguf_plan_make(const GgufExport *job, Error *error) {
    GgufPlan *plan = calloc(1, sizeof *plan);
    const ModelSource *source = job->source;
    size_t most =
        job->base ? job->base->gguf.tensor_count : (size_t)block_count(&source->layout) * BLOCK_TENSORS_MAX + 1;
    if (plan) *plan = (GgufPlan){.job = job};
    if (plan) plan->tensors = calloc(most, sizeof *plan->tensors);
    if (plan) plan->entries = calloc(most, sizeof *plan->entries);
    bool ok = (plan && plan->tensors && plan->entries) ||
              error_memory(error, "the list of tensors", most * (sizeof(ExportTensor) + sizeof(GgufEntry)));
    if (ok && (keeps_layout(job) ? plan_like_base(plan, error) : plan_new(plan, error))) return plan;
    gguf_plan_free(plan);
    return NULL;
}

// ---- metadata ----

static bool put_integer(GgufMetadata *metadata, const char *architecture, const char *key, int64_t value,
                        Error *error) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", architecture, key);
    if (value > UINT32_MAX) return error_set(error, "%s: %" PRId64 " does not fit a GGUF file", name, value);
    return gguf_put_integer(metadata, name, (uint32_t)value, error);
}

static bool put_number(GgufMetadata *metadata, const char *architecture, const char *key, double value, Error *error) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", architecture, key);
    return gguf_put_number(metadata, name, (float)value, error);
}

static bool put_rope(const ModelConfig *config, const char *architecture, GgufMetadata *metadata, Error *error) {
    char key[96];
    if (!put_integer(metadata, architecture, "rope.dimension_count", config->head_dim, error) ||
        !put_number(metadata, architecture, "rope.freq_base", config->rope_theta, error))
        return false;
    if (config->rope_scaling != ROPE_LINEAR) return true;
    snprintf(key, sizeof key, "%s.rope.scaling.type", architecture);
    return gguf_put_string(metadata, key, "linear", error) &&
           put_number(metadata, architecture, "rope.scaling.factor", config->rope_factor, error);
}

static bool put_shape(const ModelConfig *config, const char *architecture, GgufMetadata *metadata, Error *error) {
    bool wide = (int64_t)config->heads * config->head_dim != config->hidden;
    return put_integer(metadata, architecture, "vocab_size", config->vocabulary, error) &&
           put_integer(metadata, architecture, "context_length", config->max_positions, error) &&
           put_integer(metadata, architecture, "embedding_length", config->hidden, error) &&
           put_integer(metadata, architecture, "block_count", config->layers, error) &&
           put_integer(metadata, architecture, "feed_forward_length", config->intermediate, error) &&
           put_integer(metadata, architecture, "attention.head_count", config->heads, error) &&
           put_integer(metadata, architecture, "attention.head_count_kv", config->kv_heads, error) &&
           put_number(metadata, architecture, "attention.layer_norm_rms_epsilon", (double)config->norm_epsilon,
                      error) &&
           (!wide || (put_integer(metadata, architecture, "attention.key_length", config->head_dim, error) &&
                      put_integer(metadata, architecture, "attention.value_length", config->head_dim, error))) &&
           (!config->window || put_integer(metadata, architecture, "attention.sliding_window", config->window, error));
}

// llama.cpp's number for the kind of most matrices.
static uint32_t file_type(GgmlType type) {
    return type == GGML_F16 ? 1 : type == GGML_Q4_0 ? 2 : type == GGML_Q8_0 ? 7 : 32;
}

// What depends on the types of the tensors.
static bool put_types(const GgufPlan *plan, GgufMetadata *metadata, Error *error) {
    GgmlType type = plan->job->type;
    return gguf_put_integer(metadata, "general.file_type", file_type(type), error) &&
           (ggml_type_info(type)->block == 1 || gguf_put_integer(metadata, "general.quantization_version", 2, error));
}

static int compare_values(const void *a, const void *b) {
    const GgufValue *x = *(const GgufValue *const *)a, *y = *(const GgufValue *const *)b;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static bool is_one_of(GgufString key, const char *const *names) {
    for (; names && *names; names++)
        if (gguf_string_equals(key, *names)) return true;
    return false;
}

// All of a file's metadata in its order, but for what the caller or put_types puts.
static bool copy_metadata(const GgufPlan *plan, const GgufFile *file, const char *const *replaced,
                          GgufMetadata *metadata, Error *error) {
    static const char *const of_types[] = {"general.file_type", "general.quantization_version", "general.alignment",
                                           NULL};
    const GgufValue **sorted = malloc((file->value_count + 1) * sizeof *sorted);
    if (!sorted) return error_memory(error, "GGUF metadata", file->value_count * sizeof *sorted);
    for (size_t i = 0; i < file->value_count; i++) sorted[i] = &file->values[i];
    qsort(sorted, file->value_count, sizeof *sorted, compare_values);
    bool ok = true;
    for (size_t i = 0; ok && i < file->value_count; i++)
        if (!is_one_of(sorted[i]->key, replaced) && (keeps_layout(plan->job) || !is_one_of(sorted[i]->key, of_types)))
            ok = gguf_put_value(metadata, sorted[i], error);
    free(sorted);
    return ok && (keeps_layout(plan->job) || put_types(plan, metadata, error));
}

bool gguf_plan_metadata(const GgufPlan *plan, const char *name, const char *const *replaced, GgufMetadata *metadata,
                        Error *error) {
    const ModelConfig *config = &plan->job->source->config;
    const char *architecture = config->family == FAMILY_QWEN2 ? "qwen2" : "llama"; // Mistral is stored as llama
    const GgufFile *kept = gguf_plan_kept(plan);
    if (config->window)
        log_warning("llama.cpp attends to all positions in this architecture: beyond the window of %d tokens its "
                    "answers differ",
                    config->window);
    if (kept) return copy_metadata(plan, kept, replaced, metadata, error);
    return gguf_put_string(metadata, "general.architecture", architecture, error) &&
           gguf_put_string(metadata, "general.type", "model", error) &&
           gguf_put_string(metadata, "general.name", name, error) && put_types(plan, metadata, error) &&
           put_shape(config, architecture, metadata, error) && put_rope(config, architecture, metadata, error);
}

// ---- the file ----

bool gguf_plan_bytes(const GgufPlan *plan, const GgufMetadata *metadata, uint64_t *bytes, Error *error) {
    return gguf_file_size(metadata, plan->entries, plan->count, plan->alignment, bytes, error);
}

bool gguf_plan_write(GgufPlan *plan, const GgufMetadata *metadata, const char *path, Error *error) {
    const GgufExport *job = plan->job;
    ExportStream stream = {.threads = job->threads, .progress = job->progress, .context = job->context};
    stream.writer = gguf_create(path, metadata, plan->entries, plan->count, plan->alignment, error);
    if (!stream.writer) return false;
    for (size_t i = 0; i < plan->count; i++) stream.total += plan->entries[i].bytes;
    bool ok = true;
    for (size_t i = 0; ok && i < plan->count; i++) ok = export_convert(&stream, &plan->tensors[i], error);
    if (ok) return gguf_finish(stream.writer, error);
    gguf_abandon(stream.writer);
    return false;
}
