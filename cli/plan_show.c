// plan_show.c - see plan_show.h.
#include "cli/plan_show.h"
#include "base/numbers.h"
#include "cli/report.h"
#include <stdio.h>
#include <string.h>

#define NAME_WIDTH 36

// ---- components ----

// A use's name for a person and for JSON.
static const char *use_name(int use) {
    static const char *const names[USE_COUNT] = {
        [USE_LAYERS] = "layers (bf16)",
        [USE_STREAM_BUFFERS] = "buffers that weights pass through",
        [USE_EMBEDDING] = "embedding (bf16)",
        [USE_HEAD] = "head (bf16)",
        [USE_MOMENTS] = "AdamW's m and v",
        [USE_LOW_BITS] = "low bits of fp32 masters",
        [USE_MASTERS] = "weights beside state on the host",
        [USE_GRADIENTS] = "gradients (fp32)",
        [USE_ROWS] = "rows of the embedding in a batch",
        [USE_KEPT] = "activations kept",
        [USE_WORK] = "work buffers",
        [USE_SMALL] = "indices, tables, norms",
    };
    return names[use];
}

#define FIXED_NAME "driver, code, library work space"
#define FILE_NAME  "scratch file"

static uint64_t host_of(const PlanUse *use) {
    return use->pinned_bytes + use->host_bytes;
}

static uint64_t device_total(const Plan *plan) {
    return plan->device_bytes + plan->fixed_bytes;
}

static double mib(uint64_t bytes) {
    return (double)bytes / (1 << 20);
}

static void print_cell(uint64_t bytes) {
    if (bytes)
        printf(" %12.1f", mib(bytes));
    else
        printf(" %12s", "-");
}

static void print_row(const char *name, uint64_t device, uint64_t host, uint64_t disk) {
    if (!device && !host && !disk) return;
    printf("%-*s", NAME_WIDTH, name);
    print_cell(device);
    print_cell(host);
    print_cell(disk);
    putchar('\n');
}

static void print_components(const Plan *plan) {
    printf("%-*s %12s %12s %12s\n", NAME_WIDTH, "", "device MiB", "host MiB", "disk MiB");
    for (int use = 0; use < USE_COUNT; use++)
        print_row(use_name(use), plan->uses[use].device_bytes, host_of(&plan->uses[use]), 0);
    print_row(FIXED_NAME, plan->fixed_bytes, 0, 0);
    print_row(FILE_NAME, 0, 0, plan->disk_bytes);
    print_row("in all", device_total(plan), plan->pinned_bytes + plan->host_bytes, plan->disk_bytes);
}

// ---- one plan in words ----

static void print_limits(const ShownPlan *s) {
    char device[16], host[16], pinned[16];
    const Plan *p = &s->plan;
    if (s->request.backend->unified) {
        printf("\nof %s that can be used\n", format_bytes(device, p->limit));
        return;
    }
    printf("\nof %s that can be used on the card and %s of host memory, %s of them for the card to reach\n",
           format_bytes(device, p->limit), format_bytes(host, p->host_limit), format_bytes(pinned, p->pinned_limit));
}

static void print_choices(const ShownPlan *s) {
    char keeps[PLAN_CHECKPOINTING_SIZE];
    const Plan *p = &s->plan;
    const PlanRequest *r = &s->request;
    int L = r->config->layers;
    printf("micro-batch of %lld tokens, %lld at a time", (long long)p->sizes.tokens, (long long)p->sizes.sweep);
    if (!p->evaluate_only) printf("; gradient_checkpointing %s", plan_checkpointing(p, L, keeps));
    printf("\n%d of %d layers stay on the device", L - p->store.streamed, L);
    if (p->store.streamed)
        printf(", %d are streamed from %s", p->store.streamed, p->store.in_file ? "a scratch file" : "host memory");
    if (p->store.embedding_on_host) printf("; the embedding and its state on the host");
    if (p->state.head_on_host) printf("; the head's state on the host");
    if (p->state.layers_on_host) printf("; the state of the layers in training on the host");
    if (p->sizes.inputs == INPUTS_ON_HOST) printf("; layer inputs on the host");
    if (p->state.shared_gradient && !p->fused_update) printf("; gradients wait on the host");
    putchar('\n');
}

static void print_time(const ShownPlan *s) {
    const Estimate *e = &s->plan.estimate;
    if (s->request.backend->unified || s->plan.evaluate_only) return;
    printf(
        "about %.0f tokens/s, by the figures of %s: a step of %lld tokens takes %.2f s, of which it computes %.2f s;\n"
        "the link is busy for %.2f s up and %.2f s down, the CPU for %.2f s\n",
        e->tokens_per_second, s->rates.name, (long long)(s->plan.batches * s->plan.sizes.tokens), e->seconds,
        e->compute, e->to_device, e->to_host, e->host);
    if (e->tokens_to_hide_link == INT64_MAX)
        printf("no number of tokens hides the streaming behind computing\n");
    else if (e->tokens_to_hide_link > 0)
        printf("from %lld tokens per sweep on streaming costs no time; a sweep of this plan has up to %lld\n",
               (long long)e->tokens_to_hide_link, (long long)(s->plan.sizes.sweep * s->plan.sizes.tokens));
    if (s->plan.store.in_file)
        printf(
            "the scratch file (%s) is read once and again in every sweep: %.2f s of disk at %.1f GB/s, an assumption\n",
            s->plan.store.scratch_dir, e->disk, s->rates.disk * 1e-9);
}

static void print_neighbours(const ShownPlan *s) {
    PlanNeighbour list[PLAN_NEIGHBOURS_MAX];
    int count = plan_neighbours(&s->plan, &s->request, list);
    if (count == 0) return;
    printf("\n%-*s %12s %12s %12s\n", NAME_WIDTH, "instead", "device MiB", "host MiB", "tokens/s");
    for (int i = 0; i < count; i++)
        printf("%-*s %12.1f %12.1f %12.0f%s\n", NAME_WIDTH, list[i].change, mib(device_total(&list[i].plan)),
               mib(list[i].plan.pinned_bytes + list[i].plan.host_bytes), list[i].plan.estimate.tokens_per_second,
               list[i].fits ? "" : "  does not fit");
}

void plan_show(const ShownPlan *s) {
    print_components(&s->plan);
    print_limits(s);
    print_choices(s);
    print_time(s);
    print_neighbours(s);
}

// ---- side by side ----

#define COLUMN 16

typedef enum {
    ROW_VRAM,
    ROW_DEVICE,
    ROW_HOST,
    ROW_DISK,
    ROW_RESIDENT,
    ROW_TOKENS,
    ROW_SWEEP,
    ROW_KEEP_ALL,
    ROW_KEEP_ATTENTION,
    ROW_INPUTS,
    ROW_EMBEDDING,
    ROW_HEAD,
    ROW_LAYERS,
    ROW_GRADIENTS,
    ROW_RATES,
    ROW_SPEED,
    ROW_HIDE,
    ROW_COUNT
} TableRow;

static const char *const row_names[ROW_COUNT] = {"memory that can be used, MiB",
                                                 "device MiB",
                                                 "host MiB",
                                                 "disk MiB",
                                                 "layers resident",
                                                 "micro-batch, tokens",
                                                 "micro-batches per sweep",
                                                 "layers that keep everything",
                                                 "layers that keep all but the MLP",
                                                 "layer inputs",
                                                 "embedding and its state",
                                                 "state of the head",
                                                 "state of layers in training",
                                                 "gradients until the norm is known",
                                                 "figures of",
                                                 "tokens/s, estimated",
                                                 "tokens per sweep that hide the link"};

static const char *place(bool host) {
    return host ? "host" : "device";
}

// The cell where it is a word; NULL where it is a number.
static const char *word_of(const ShownPlan *s, TableRow row) {
    const Plan *p = &s->plan;
    int64_t hide = p->estimate.tokens_to_hide_link;
    switch (row) {
    case ROW_INPUTS:
        return place(p->sizes.inputs == INPUTS_ON_HOST);
    case ROW_EMBEDDING:
        return place(p->store.embedding_on_host);
    case ROW_HEAD:
        return s->request.config->tied ? "-" : place(p->state.head_on_host);
    case ROW_LAYERS:
        return place(p->state.layers_on_host);
    case ROW_GRADIENTS:
        return place(p->state.shared_gradient && !p->fused_update);
    case ROW_RATES:
        return s->rates.name;
    case ROW_HIDE:
        return hide == INT64_MAX ? "never" : hide == 0 ? "-" : NULL;
    default:
        return NULL;
    }
}

static double number_of(const Plan *p, TableRow row) {
    switch (row) {
    case ROW_VRAM:
        return mib(p->limit);
    case ROW_DEVICE:
        return mib(device_total(p));
    case ROW_HOST:
        return mib(p->pinned_bytes + p->host_bytes);
    case ROW_DISK:
        return mib(p->disk_bytes);
    case ROW_TOKENS:
        return (double)p->sizes.tokens;
    case ROW_SWEEP:
        return (double)p->sizes.sweep;
    case ROW_KEEP_ALL:
        return p->sizes.keep_all;
    case ROW_KEEP_ATTENTION:
        return p->sizes.keep_attention;
    case ROW_SPEED:
        return p->estimate.tokens_per_second;
    default:
        return (double)p->estimate.tokens_to_hide_link;
    }
}

static void fill_cell(char text[32], const ShownPlan *s, TableRow row) {
    const char *word = word_of(s, row);
    int layers = s->request.config->layers;
    bool tenths = row == ROW_DEVICE || row == ROW_HOST || row == ROW_DISK;
    if (word)
        snprintf(text, 32, "%s", word);
    else if (row == ROW_RESIDENT)
        snprintf(text, 32, "%d/%d", layers - s->plan.store.streamed, layers);
    else
        snprintf(text, 32, "%.*f", tenths, number_of(&s->plan, row));
}

void plan_show_side_by_side(const ShownPlan *shown, int count) {
    for (TableRow row = 0; row < ROW_COUNT; row++) {
        printf("%-*s", NAME_WIDTH, row_names[row]);
        for (int i = 0; i < count; i++) {
            char text[32] = "-";
            if (shown[i].fits)
                fill_cell(text, &shown[i], row);
            else if (row == ROW_VRAM)
                snprintf(text, sizeof text, "%.0f", mib(shown[i].vram));
            else if (row == ROW_DEVICE)
                snprintf(text, sizeof text, "does not fit");
            printf(" %*s", COLUMN, text);
        }
        putchar('\n');
    }
    for (int i = 0; i < count; i++)
        if (!shown[i].fits)
            printf("\n%.0f MiB: %s\n%s\n", mib(shown[i].vram), shown[i].error.text, shown[i].error.hint);
}

// ---- JSON ----

static json_t *component(const char *name, uint64_t device, uint64_t pinned, uint64_t host, uint64_t disk) {
    return json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", name, "device_bytes", (json_int_t)device, "host_bytes",
                     (json_int_t)(pinned + host), "pinned_bytes", (json_int_t)pinned, "disk_bytes", (json_int_t)disk);
}

static json_t *components_json(const Plan *p) {
    json_t *list = json_array();
    for (int use = 0; use < USE_COUNT; use++) {
        const PlanUse *u = &p->uses[use];
        if (u->device_bytes + u->pinned_bytes + u->host_bytes > 0)
            json_array_append_new(list, component(use_name(use), u->device_bytes, u->pinned_bytes, u->host_bytes, 0));
    }
    if (p->fixed_bytes) json_array_append_new(list, component(FIXED_NAME, p->fixed_bytes, 0, 0, 0));
    if (p->disk_bytes) json_array_append_new(list, component(FILE_NAME, 0, 0, 0, p->disk_bytes));
    return list;
}

static json_t *choices_json(const ShownPlan *s) {
    char keeps[PLAN_CHECKPOINTING_SIZE];
    const Plan *p = &s->plan;
    int L = s->request.config->layers;
    return json_pack("{s:I, s:I, s:I, s:i, s:i, s:b, s:s, s:i, s:i, s:s, s:s, s:s, s:s, s:s}", "micro_batch_tokens",
                     (json_int_t)p->sizes.tokens, "sweep_micro_batches", (json_int_t)p->sizes.sweep, "logits_chunk",
                     (json_int_t)p->sizes.chunk, "layers_resident", L - p->store.streamed, "layers", L,
                     "streamed_from_file", (int)p->store.in_file, "gradient_checkpointing",
                     plan_checkpointing(p, L, keeps), "layers_keep_all", p->sizes.keep_all, "layers_keep_attention",
                     p->sizes.keep_attention, "layer_inputs", place(p->sizes.inputs == INPUTS_ON_HOST),
                     "embedding_state", place(p->store.embedding_on_host), "head_state", place(p->state.head_on_host),
                     "layer_state", place(p->state.layers_on_host), "gradients",
                     place(p->state.shared_gradient && !p->fused_update));
}

// A plan that does not fit has the same keys as others, with null for what it would be.
static json_t *refusal_json(const ShownPlan *s) {
    return json_pack("{s:I, s:b, s:n, s:n, s:n, s:n, s:n, s:[], s:s, s:s}", "vram_bytes", (json_int_t)s->vram, "fits",
                     0, "device_bytes", "host_bytes", "disk_bytes", "layers_resident", "tokens_per_second",
                     "components", "error", s->error.text, "hint", s->error.hint);
}

static json_t *plan_json(const ShownPlan *s) {
    const Plan *p = &s->plan;
    if (!s->fits) return refusal_json(s);
    json_t *json = json_pack("{s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "vram_bytes",
                             (json_int_t)(s->vram ? s->vram : p->limit), "fits", 1, "device_bytes",
                             (json_int_t)device_total(p), "host_bytes", (json_int_t)(p->pinned_bytes + p->host_bytes),
                             "pinned_bytes", (json_int_t)p->pinned_bytes, "disk_bytes", (json_int_t)p->disk_bytes,
                             "limit_bytes", (json_int_t)p->limit, "host_limit_bytes", (json_int_t)p->host_limit,
                             "components", components_json(p));
    json_t *choices = choices_json(s);
    if (json) json_object_update(json, choices);
    json_decref(choices);
    if (json && s->request.backend->unified)
        json_object_set_new(json, "tokens_per_second", json_null()); // not estimated
    if (!json || s->request.backend->unified) return json;
    const Estimate *e = &p->estimate;
    json_t *times =
        json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "rates", s->rates.name, "tokens_per_second",
                  e->tokens_per_second, "step_seconds", e->seconds, "compute_seconds", e->compute, "link_up_seconds",
                  e->to_device, "link_down_seconds", e->to_host, "cpu_seconds", e->host, "disk_seconds", e->disk);
    json_object_update(json, times);
    json_decref(times);
    if (e->tokens_to_hide_link < INT64_MAX)
        json_object_set_new(json, "tokens_to_hide_link", json_integer(e->tokens_to_hide_link));
    else
        json_object_set_new(json, "tokens_to_hide_link", json_null());
    return json;
}

bool plan_show_json(const ShownPlan *shown, int count, Error *error) {
    Report report;
    json_t *list = json_array();
    report_start(&report);
    report_text(&report, "backend", shown[0].request.backend->name);
    report_bytes(&report, "workspace", shown[0].request.backend->workspace_bytes);
    for (int i = 0; i < count; i++) json_array_append_new(list, plan_json(&shown[i]));
    report_value(&report, "plans", list);
    return report_print(&report, true, error);
}
