// plan.c - see plan.h.
#include "train/plan.h"
#include "train/trainer.h"
#include <stdio.h>
#include <string.h>

#define TOKENS_MULTIPLE 128  // of a micro-batch's capacity: whole tiles of every kernel
#define TOKENS_USEFUL   2048 // more tokens at a time make no matrix multiplication faster
#define CHUNK_LOGITS    512  // rows of logits at a time
#define HOST_SHARE      0.9  // of the free memory; the rest is for files, tokens and the system

// The number behind "name:" in a file of the form of /proc/meminfo, in bytes; or the file's only number when name is
// "".
static bool read_number(const char *path, const char *name, uint64_t unit, uint64_t *bytes) {
    FILE *file = fopen(path, "r");
    if (!file) return false;
    char line[256];
    bool found = false;
    unsigned long long number;
    while (!found && fgets(line, sizeof line, file)) {
        size_t size = strlen(name);
        if (!strncmp(line, name, size) && sscanf(line + size, "%llu", &number) == 1) found = true;
    }
    fclose(file);
    if (found) *bytes = (uint64_t)number * unit;
    return found;
}

// Bytes of memory that this process can still take: the free memory of the machine and of its control group.
static uint64_t free_memory(void) {
    uint64_t available, limit, used, file_pages;
    if (!read_number("/proc/meminfo", "MemAvailable:", 1024, &available)) return UINT64_MAX;
    // inside a container the control group's limit binds; its page cache can be given back
    if (read_number("/sys/fs/cgroup/memory.max", "", 1, &limit) &&
        read_number("/sys/fs/cgroup/memory.current", "", 1, &used)) {
        if (!read_number("/sys/fs/cgroup/memory.stat", "inactive_file ", 1, &file_pages)) file_pages = 0;
        used = used > file_pages ? used - file_pages : 0;
        uint64_t rest = limit > used ? limit - used : 0;
        if (rest < available) available = rest;
    }
    return available;
}

// Tokens of an optimizer batch, were each sequence as long as the longest.
static int64_t largest_batch(const PlanRequest *request) {
    const TrainSettings *s = request->settings;
    int64_t batch;
    if (__builtin_mul_overflow(s->per_device_train_batch_size, s->gradient_accumulation_steps, &batch) ||
        __builtin_mul_overflow(batch, request->cutoff_len, &batch))
        return INT64_MAX;
    return batch;
}

static PassSizes choose_sizes(const PlanRequest *request) {
    const TrainSettings *s = request->settings;
    int64_t longest = request->cutoff_len, batch = largest_batch(request);
    int64_t tokens = s->micro_batch_tokens;
    if (tokens == 0) tokens = batch < TOKENS_USEFUL ? batch : TOKENS_USEFUL;
    if (tokens < longest) tokens = longest;
    tokens = round_up(tokens, TOKENS_MULTIPLE);
    return (PassSizes){
        .tokens = tokens,
        .sweep = 1,
        .positions = longest,
        .chunk = tokens < CHUNK_LOGITS ? tokens : CHUNK_LOGITS,
        .keep = request->evaluate_only || s->gradient_checkpointing == CHECKPOINT_TRUE ? KEEP_INPUT
                : s->gradient_checkpointing == CHECKPOINT_MLP                          ? KEEP_ATTENTION
                                                                                       : KEEP_ALL,
    };
}

static bool check_request(const PlanRequest *request, Error *error) {
    const TrainSettings *s = request->settings;
    int layers = request->config->layers;
    if (!request->evaluate_only && s->finetuning_type == METHOD_LISA && s->lisa_activated_layers > layers) {
        error_usage(error, "lisa_activated_layers: %lld is more than the model's %d layers",
                    (long long)s->lisa_activated_layers, layers);
        return error_hint(error, "choose 0 to %d, or train all of them with finetuning_type=full", layers);
    }
    if (request->cutoff_len > request->config->max_positions) {
        error_usage(error, "cutoff_len: %lld is more than the %lld positions that the model was made for",
                    (long long)request->cutoff_len, (long long)request->config->max_positions);
        return error_hint(error, "choose cutoff_len=%lld or less", (long long)request->config->max_positions);
    }
    return true;
}

static bool too_large(const Plan *plan, Error *error) {
    char needed[16], limit[16];
    uint64_t bytes = plan->device_bytes + plan->host_bytes;
    error_set(error, "the run needs %s of memory, %s can be used", format_bytes(needed, bytes),
              format_bytes(limit, plan->limit));
    return error_hint(error,
                      "close other programs, or choose a smaller cutoff_len (now %lld), fewer "
                      "lisa_activated_layers or gradient_checkpointing=true",
                      (long long)plan->sizes.positions);
}

bool plan_make(Plan *plan, const PlanRequest *request, Error *error) {
    *plan = (Plan){.limit = request->memory_limit,
                   .evaluate_only = request->evaluate_only,
                   .workspace_bytes = request->backend->workspace_bytes};
    if (!plan->limit) plan->limit = (uint64_t)((double)free_memory() * HOST_SHARE);
    if (!check_request(request, error)) return false;
    plan->sizes = choose_sizes(request);
    plan->fused_update = request->settings->max_grad_norm == 0 && largest_batch(request) <= plan->sizes.tokens;
    bool lower = request->settings->gradient_checkpointing == CHECKPOINT_AUTO;
    for (;;) {
        if (!trainer_measure(plan, request->backend, request->config, request->settings, error)) return false;
        if (plan->device_bytes + plan->host_bytes <= plan->limit) return true;
        if (!lower || plan->sizes.keep == KEEP_INPUT) return too_large(plan, error);
        plan->sizes.keep--;
    }
}
