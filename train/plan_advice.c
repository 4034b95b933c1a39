// plan_advice.c - what to say when no plan fits.
#include "base/numbers.h"
#include "train/plan_parts.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool would_fit(const PlanFrame *frame, const TrainSettings *settings, int64_t cutoff_len) {
    Error error;
    PlanSearch search;
    PlanRequest changed = *frame->request;
    PlanFrame other = *frame;
    changed.settings = settings;
    changed.cutoff_len = cutoff_len;
    other.request = &changed;
    return plan_search(&search, &other, true, &error) && search.found;
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

// What was given and is not left to the plan.
static void advise_freedom(const PlanFrame *frame, char *text, size_t size) {
    const TrainSettings *s = frame->request->settings;
    TrainSettings changed = *s;
    if (s->gradient_checkpointing > CHECKPOINT_TRUE) { // auto has tried it
        changed.gradient_checkpointing = CHECKPOINT_TRUE;
        if (!frame->common.evaluate_only && would_fit(frame, &changed, frame->request->cutoff_len))
            advise(text, size, "gradient_checkpointing=true");
        changed = *s;
    }
    changed.sweep_micro_batches = 0;
    changed.layers_resident = -1;
    changed.stream_from = STREAM_AUTO;
    changed.layer_inputs = changed.embedding_state = changed.head_state = changed.layer_state = changed.gradients =
        PLACE_AUTO;
    bool given = s->sweep_micro_batches > 0 || s->layers_resident >= 0 || s->stream_from != STREAM_AUTO ||
                 s->layer_inputs != PLACE_AUTO || s->embedding_state != PLACE_AUTO || s->head_state != PLACE_AUTO ||
                 s->layer_state != PLACE_AUTO || s->gradients != PLACE_AUTO;
    if (given && would_fit(frame, &changed, frame->request->cutoff_len))
        advise(text, size, "leaving the placement of weights, state, inputs and gradients to the plan");
}

// Half the memory of AdamW's moments.
static void advise_bits(const PlanFrame *frame, char *text, size_t size) {
    TrainSettings changed = *frame->request->settings;
    if (changed.optim_bits == OPTIM_BITS_16) return;
    changed.optim_bits = OPTIM_BITS_16;
    if (would_fit(frame, &changed, frame->request->cutoff_len)) advise(text, size, "optim_bits=16");
}

// Appends the largest number of layers that fits.
static void advise_layers(const PlanFrame *frame, char *text, size_t size) {
    TrainSettings changed = *frame->request->settings;
    bool lisa = changed.finetuning_type == METHOD_LISA;
    int64_t layers = changed.lisa_activated_layers;
    changed.finetuning_type = METHOD_LISA;
    for (changed.lisa_activated_layers = lisa ? layers - 1 : layers; changed.lisa_activated_layers >= 0;
         changed.lisa_activated_layers--) {
        if (!would_fit(frame, &changed, frame->request->cutoff_len)) continue;
        advise(text, size, "%slisa_activated_layers=%lld", lisa ? "" : "finetuning_type=lisa ",
               (long long)changed.lisa_activated_layers);
        return;
    }
}

// Appends the longest sequences that fit, to 64 tokens; with micro-batches no larger than that.
static void advise_tokens(const PlanFrame *frame, char *text, size_t size) {
    TrainSettings changed = *frame->request->settings;
    int64_t least = 0, most = frame->request->cutoff_len; // fits, does not
    changed.micro_batch_tokens = 0;
    if (frame->request->settings->micro_batch_tokens > 0 && would_fit(frame, &changed, most)) {
        advise(text, size, "micro_batch_tokens=0");
        return;
    }
    while (most - least > SHORTEST) {
        int64_t middle = round_up((least + most) / 2, SHORTEST);
        if (middle >= most) middle -= SHORTEST;
        if (middle <= least) break;
        if (would_fit(frame, &changed, middle))
            least = middle;
        else
            most = middle;
    }
    if (least < SHORTEST) return;
    advise(text, size, "cutoff_len=%lld%s", (long long)least,
           frame->request->settings->micro_batch_tokens ? " micro_batch_tokens=0" : "");
}

// The changes of which each alone would make it fit; "" when there is none.
static void list_what_fits(const PlanFrame *frame, char *text, size_t size) {
    *text = 0;
    advise_freedom(frame, text, size);
    if (!frame->common.evaluate_only) advise_bits(frame, text, size);
    if (!frame->common.evaluate_only) advise_layers(frame, text, size);
    advise_tokens(frame, text, size);
}

// Appends how much the most frugal plan takes, and what is missing; nothing where more of it alone is not enough.
static void add_need(char *needs, size_t size, const char *what, uint64_t needed, uint64_t limit) {
    char need[16], usable[16], missing[16];
    if (needed == UINT64_MAX) return;
    advise(needs, size, "%s of %s, %s can be used: %s are missing", format_bytes(need, needed), what,
           format_bytes(usable, limit), format_bytes(missing, needed > limit ? needed - limit : 0));
}

// The memories of which more, of one of them alone, would do.
static void name_shortage(const PlanFrame *frame, const PlanSearch *search, Error *error) {
    char needs[640] = "", disk[256], card[16], host[16];
    const Plan *common = &frame->common;
    bool unified = frame->request->backend->unified;
    snprintf(disk, sizeof disk, "disk space in %s", frame->request->scratch_dir ? frame->request->scratch_dir : "");
    add_need(needs, sizeof needs, unified ? "memory" : "the card's memory", search->least_device, common->limit);
    if (!unified) add_need(needs, sizeof needs, "host memory", search->least_host, common->host_limit);
    add_need(needs, sizeof needs, disk, search->least_disk, common->disk_limit);
    if (*needs)
        error_set(error, "the run needs %s", needs);
    else
        error_set(error, "the run fits neither %s of the card's memory nor %s of host memory",
                  format_bytes(card, common->limit), format_bytes(host, common->host_limit));
}

bool plan_refuse(const PlanFrame *frame, const PlanSearch *search, Error *error) {
    char changes[384];
    name_shortage(frame, search, error);
    list_what_fits(frame, changes, sizeof changes);
    if (*changes) return error_hint(error, "this would fit: %s; or close other programs", changes);
    return error_hint(error,
                      "close other programs, or take a smaller model: no smaller cutoff_len (now %lld), fewer "
                      "lisa_activated_layers or other placement alone is enough",
                      (long long)frame->request->cutoff_len);
}
