// plan.c - see plan.h.
#include "train/plan.h"
#include "train/trainer.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TOKENS_MULTIPLE 128                   // of a micro-batch's capacity: whole tiles of every kernel
#define TOKENS_USEFUL   2048                  // more tokens at a time make no matrix multiplication faster
#define CHUNK_LOGITS    512                   // rows of logits at a time
#define HOST_SHARE      0.9                   // of the free memory; the rest is for files, tokens and the system
#define CARD_RESERVE    ((uint64_t)256 << 20) // of a card's free memory, for the code of kernels, loaded at first use

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
    return model_config_fits(request->config, request->backend, error);
}

// ---- what fits ----

static uint64_t usable(Backend *b, MemoryKind kind) {
    uint64_t bytes = b->memory_available(b, kind);
    if (b->unified || kind == MEMORY_PINNED) return (uint64_t)((double)bytes * HOST_SHARE);
    return bytes > CARD_RESERVE ? bytes - CARD_RESERVE : 0;
}

static bool fits(const Plan *plan, const Backend *b) {
    if (b->unified) return plan->device_bytes + plan->host_bytes <= plan->limit;
    return plan->device_bytes <= plan->limit && plan->host_bytes <= plan->host_limit;
}

// The plan of a request that keeps as much as fits; *good says whether it does.
static bool try_plan(Plan *plan, const PlanRequest *request, bool *good, Error *error) {
    Backend *b = request->backend;
    *plan = (Plan){.limit = request->memory_limit ? request->memory_limit : usable(b, MEMORY_DEVICE),
                   .host_limit = usable(b, MEMORY_PINNED),
                   .evaluate_only = request->evaluate_only,
                   .workspace_bytes = b->workspace_bytes};
    plan->sizes = choose_sizes(request);
    plan->fused_update = request->settings->max_grad_norm == 0 && largest_batch(request) <= plan->sizes.tokens;
    bool lower = request->settings->gradient_checkpointing == CHECKPOINT_AUTO;
    for (;;) {
        if (!trainer_measure(plan, b, request->config, request->settings, error)) return false;
        *good = fits(plan, b);
        if (*good || !lower || plan->sizes.keep == KEEP_INPUT) return true;
        plan->sizes.keep--;
    }
}

static bool would_fit(const PlanRequest *request, const TrainSettings *settings, int64_t cutoff_len) {
    Plan plan;
    Error error;
    bool good = false;
    PlanRequest changed = *request;
    changed.settings = settings;
    changed.cutoff_len = cutoff_len;
    return try_plan(&plan, &changed, &good, &error) && good;
}

#define SHORTEST 64 // tokens; a cutoff_len below it is no advice

// Appends an alternative to "a, or b".
__attribute__((format(printf, 3, 4))) static void advise(char *text, size_t size, const char *format, ...) {
    size_t used = strlen(text);
    va_list arguments;
    if (used) used += (size_t)snprintf(text + used, size - used, ", or ");
    if (used >= size) return;
    va_start(arguments, format);
    vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
}

// Appends the largest number of layers that fits.
static void advise_layers(const PlanRequest *request, char *text, size_t size) {
    TrainSettings changed = *request->settings;
    bool lisa = changed.finetuning_type == METHOD_LISA;
    int64_t layers = changed.lisa_activated_layers;
    changed.finetuning_type = METHOD_LISA;
    for (changed.lisa_activated_layers = lisa ? layers - 1 : layers; changed.lisa_activated_layers >= 0;
         changed.lisa_activated_layers--) {
        if (!would_fit(request, &changed, request->cutoff_len)) continue;
        advise(text, size, "%slisa_activated_layers=%lld", lisa ? "" : "finetuning_type=lisa ",
               (long long)changed.lisa_activated_layers);
        return;
    }
}

// Appends the largest micro-batch that fits, of shorter sequences where it must be.
static void advise_tokens(const PlanRequest *request, int64_t now, char *text, size_t size) {
    TrainSettings changed = *request->settings;
    for (int64_t tokens = now / 2; tokens >= SHORTEST; tokens /= 2) {
        int64_t length = tokens < request->cutoff_len ? tokens : request->cutoff_len;
        changed.micro_batch_tokens = round_up(tokens, TOKENS_MULTIPLE);
        if (!would_fit(request, &changed, length)) continue;
        if (length == request->cutoff_len)
            advise(text, size, "micro_batch_tokens=%lld", (long long)changed.micro_batch_tokens);
        else
            advise(text, size, "cutoff_len=%lld micro_batch_tokens=%lld", (long long)length,
                   (long long)changed.micro_batch_tokens);
        return;
    }
}

// The changes of which each alone would make it fit; "" when there is none.
static void list_what_fits(const PlanRequest *request, const Plan *plan, char *text, size_t size) {
    TrainSettings changed = *request->settings;
    *text = 0;
    changed.gradient_checkpointing = CHECKPOINT_TRUE;
    bool keeps_more = request->settings->gradient_checkpointing > CHECKPOINT_TRUE; // auto has tried it
    if (!request->evaluate_only && keeps_more && would_fit(request, &changed, request->cutoff_len))
        advise(text, size, "gradient_checkpointing=true");
    if (!request->evaluate_only) advise_layers(request, text, size);
    advise_tokens(request, plan->sizes.tokens, text, size);
}

// Which memory is too small, and what would fit.
static bool too_large(const PlanRequest *request, const Plan *plan, Error *error) {
    char needed[16], limit[16], changes[256];
    const Backend *b = request->backend;
    bool card = !b->unified && plan->device_bytes > plan->limit, pinned = !b->unified && !card;
    uint64_t bytes = b->unified ? plan->device_bytes + plan->host_bytes : card ? plan->device_bytes : plan->host_bytes;
    error_set(error, "the run needs %s of %s, %s can be used", format_bytes(needed, bytes),
              card     ? "the card's memory"
              : pinned ? "pinned host memory"
                       : "memory",
              format_bytes(limit, pinned ? plan->host_limit : plan->limit));
    list_what_fits(request, plan, changes, sizeof changes);
    if (*changes) return error_hint(error, "this would fit: %s; or close other programs", changes);
    return error_hint(error,
                      "close other programs, or take a smaller model: no smaller cutoff_len (now %lld), fewer "
                      "lisa_activated_layers or gradient_checkpointing=true alone is enough",
                      (long long)request->cutoff_len);
}

bool plan_make(Plan *plan, const PlanRequest *request, Error *error) {
    bool good;
    if (!check_request(request, error) || !try_plan(plan, request, &good, error)) return false;
    return good || too_large(request, plan, error);
}
