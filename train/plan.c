// plan.c - limits, what is known before any plan is looked at, and the plans beside the chosen one. See plan.h.
#include "base/files.h"
#include "base/free_memory.h"
#include "kernels/usable.h"
#include "train/plan_parts.h"
#include <stdio.h>
#include <string.h>

#define CARD_CONTEXT ((uint64_t)450 << 20) // what the driver and that code take; an assumption
#define NO_LIMIT     (UINT64_MAX / 4)

int64_t plan_largest_batch(const PlanRequest *request) {
    const TrainSettings *s = request->settings;
    int64_t batch;
    if (__builtin_mul_overflow(s->per_device_train_batch_size, s->gradient_accumulation_steps, &batch) ||
        __builtin_mul_overflow(batch, request->cutoff_len, &batch))
        return INT64_MAX;
    return batch;
}

static bool check_request(const PlanRequest *request, Error *error) {
    const TrainSettings *s = request->settings;
    int layers = request->config->layers;
    if (!request->evaluate_only && s->finetuning_type == METHOD_LISA && s->lisa_activated_layers > layers) {
        error_usage(error, "lisa_activated_layers: %lld is more than the model's %d layers",
                    (long long)s->lisa_activated_layers, layers);
        return error_hint(error, "choose 0 to %d, or train all of them with finetuning_type=full", layers);
    }
    if (s->layers_resident > layers) {
        error_usage(error, "layers_resident: %lld is more than the model's %d layers", (long long)s->layers_resident,
                    layers);
        return error_hint(error, "choose 0 to %d, or leave it out", layers);
    }
    if (request->config->tied && (s->embedding_state == PLACE_HOST || s->head_state == PLACE_HOST)) {
        error_usage(error, "%s: the model's embedding and head are one matrix, whose state stays on the device",
                    s->embedding_state == PLACE_HOST ? "embedding_state" : "head_state");
        return error_hint(error, "leave it out");
    }
    if (request->cutoff_len > request->config->max_positions) {
        error_usage(error, "cutoff_len: %lld is more than the %lld positions that the model was made for",
                    (long long)request->cutoff_len, (long long)request->config->max_positions);
        return error_hint(error, "choose cutoff_len=%lld or less", (long long)request->config->max_positions);
    }
    return model_config_fits(request->config, request->backend, error);
}

// ---- limits ----

static bool describes_only(const Backend *b) {
    return !b->allocate;
}

static bool more_than_there_is(const char *option, uint64_t asked, uint64_t available, Error *error) {
    char more[16], less[16];
    error_usage(error, "%s: %s is more than the %s that are free", option, format_bytes(more, asked),
                format_bytes(less, available));
    return error_hint(error, "choose less, or leave it out to use what is free; `lisa plan` also plans for machines "
                             "that are not there: --device cuda with --vram and --ram");
}

// Of a card, limits count what is beside the arena too.
static bool limit_device(Plan *common, const PlanRequest *r, Error *error) {
    Backend *b = r->backend;
    bool live = !describes_only(b);
    if (!b->unified) common->fixed_bytes = b->workspace_bytes + CARD_CONTEXT;
    uint64_t available = live ? b->memory_available(b, MEMORY_DEVICE) + common->fixed_bytes : NO_LIMIT;
    if (r->memory_limit > available) return more_than_there_is("vram", r->memory_limit, available, error);
    common->limit = live ? usable_memory(b, MEMORY_DEVICE) + common->fixed_bytes : NO_LIMIT;
    if (r->memory_limit && (b->unified || r->memory_limit < common->limit)) common->limit = r->memory_limit;
    return true;
}

// Host memory beside a card; how much of it can be pinned.
static bool limit_host(Plan *common, const PlanRequest *r, Error *error) {
    Backend *b = r->backend;
    bool live = !describes_only(b);
    uint64_t available = free_memory();
    if (live && r->host_limit > available) return more_than_there_is("ram", r->host_limit, available, error);
    common->host_limit = r->host_limit ? r->host_limit : usable_share(available);
    common->pinned_limit = live ? usable_memory(b, MEMORY_PINNED) : common->host_limit;
    if (r->pinned_limit && r->pinned_limit < common->pinned_limit) common->pinned_limit = r->pinned_limit;
    if (common->host_limit < common->pinned_limit) common->pinned_limit = common->host_limit;
    return true;
}

bool plan_frame(PlanFrame *frame, const PlanRequest *request, Error *error) {
    Error ignored = {0};
    *frame = (PlanFrame){.request = request, .common = {.evaluate_only = request->evaluate_only}};
    Plan *common = &frame->common;
    if (!limit_device(common, request, error) || !limit_host(common, request, error)) return false;
    common->disk_limit = 0;
    if (request->scratch_dir && describes_only(request->backend))
        common->disk_limit = NO_LIMIT;
    else if (request->scratch_dir && !disk_free_bytes(request->scratch_dir, &common->disk_limit, &ignored))
        common->disk_limit = 0;
    frame->rates = request->rates ? *request->rates : rates_assumed(common->limit);
    return true;
}

uint64_t plan_limited_bytes(const Plan *plan, const Backend *b) {
    return plan->device_bytes + (b->unified ? plan->pinned_bytes + plan->host_bytes : plan->fixed_bytes);
}

uint64_t plan_spare_bytes(const Plan *plan, const Backend *b) {
    uint64_t limit = b->unified ? plan->limit : plan->host_limit;
    uint64_t taken = plan->pinned_bytes + plan->host_bytes + (b->unified ? plan->device_bytes : 0);
    return limit > taken ? limit - taken : 0;
}

bool plan_fits(const Plan *plan, const Backend *b) {
    if (plan->disk_bytes > plan->disk_limit || plan_limited_bytes(plan, b) > plan->limit) return false;
    return b->unified ||
           (plan->pinned_bytes <= plan->pinned_limit && plan->pinned_bytes + plan->host_bytes <= plan->host_limit);
}

bool plan_make(Plan *plan, const PlanRequest *request, Error *error) {
    PlanFrame frame;
    PlanSearch search;
    if (!check_request(request, error) || !plan_frame(&frame, request, error) ||
        !plan_search(&search, &frame, false, error))
        return false;
    if (!search.found) return plan_refuse(&frame, &search, error);
    *plan = search.best;
    return true;
}

// ---- words ----

const char *plan_checkpointing(const Plan *plan, int layers, char text[PLAN_CHECKPOINTING_SIZE]) {
    static const char *const names[] = {"false", "mlp", "true"};
    int all = plan->sizes.keep_all, attention = plan->sizes.keep_attention;
    int counts[] = {all, attention, layers - all - attention}, used = 0;
    *text = 0;
    for (int i = 0; i < 3; i++) {
        if (counts[i] == layers) return strcpy(text, names[i]);
        if (counts[i] == 0) continue;
        used += snprintf(text + used, PLAN_CHECKPOINTING_SIZE - (size_t)used, "%s%s for %d%s", used ? ", " : "",
                         names[i], counts[i], used ? "" : " layers");
    }
    return text;
}
