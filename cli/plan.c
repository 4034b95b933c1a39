// plan.c - `lisa plan`: what a training run will take of memory, to the byte, without running it.
#include "train/plan.h"
#include "base/numbers.h"
#include "cli/command.h"
#include "cli/report.h"
#include "cli/setup.h"
#include "model/source.h"
#include <stdio.h>

static const char *keep_name(LayerKeep keep) {
    static const char *const names[] = {[KEEP_INPUT] = "true", [KEEP_ATTENTION] = "mlp", [KEEP_ALL] = "false"};
    return names[keep];
}

static void print_row(const char *name, uint64_t device, uint64_t host) {
    char device_size[16], host_size[16];
    uint64_t both = device + host;
    printf("%-32s %12s %12s %16llu\n", name, device ? format_bytes(device_size, device) : "-",
           host ? format_bytes(host_size, host) : "-", (unsigned long long)both);
}

static void print_plan(const Plan *plan) {
    char size[16];
    printf("%-32s %12s %12s %16s\n", "", "device", "host", "bytes");
    for (int i = 0; i < plan->component_count; i++)
        print_row(plan->components[i].name, plan->components[i].device_bytes, plan->components[i].host_bytes);
    print_row("in all", plan->device_bytes, plan->host_bytes);
    printf("\nof %s that can be used; ", format_bytes(size, plan->limit));
    printf("beside the arenas the backend has %s of work space\n", format_bytes(size, plan->workspace_bytes));
    printf("micro-batch of %lld tokens, %lld at a time; gradient_checkpointing %s\n", (long long)plan->sizes.tokens,
           (long long)plan->sizes.sweep, keep_name(plan->sizes.keep));
}

static bool print_json(const Plan *plan, Error *error) {
    Report report;
    report_start(&report);
    json_t *components = json_array();
    for (int i = 0; i < plan->component_count; i++) {
        const PlanComponent *part = &plan->components[i];
        json_array_append_new(components,
                              json_pack("{s:s, s:I, s:I}", "name", part->name, "device_bytes",
                                        (json_int_t)part->device_bytes, "host_bytes", (json_int_t)part->host_bytes));
    }
    report_value(&report, "components", components);
    report_bytes(&report, "device", plan->device_bytes);
    report_bytes(&report, "host", plan->host_bytes);
    report_bytes(&report, "workspace", plan->workspace_bytes);
    report_bytes(&report, "limit", plan->limit);
    report_integer(&report, "micro_batch_tokens", plan->sizes.tokens);
    report_integer(&report, "sweep", plan->sizes.sweep);
    report_text(&report, "gradient_checkpointing", keep_name(plan->sizes.keep));
    return report_print(&report, true, error);
}

int command_plan(const Options *options, Error *error) {
    bool good = false;
    Plan plan;
    Backend *backend = NULL;
    ModelSource *source = model_source_open(options->model_name_or_path, true, error);
    if (source) good = setup_plan(options, model_source_config(source), false, &backend, &plan, error);
    if (good && options->json)
        good = print_json(&plan, error);
    else if (good)
        print_plan(&plan);
    if (backend) backend->destroy(backend);
    model_source_close(source);
    return good ? 0 : ERROR_EXIT_FAILED;
}
