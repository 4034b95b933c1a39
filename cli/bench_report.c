// bench_report.c - what was measured, as lines or JSON. Every rate is made here from FLOP, bytes and seconds.
#include "cli/bench.h"
#include "cli/report.h"
#include <stdio.h>

static void report_run(Report *report, const Bench *bench) {
    char keeps[PLAN_CHECKPOINTING_SIZE];
    const TrainSettings *train = &bench->options.train;
    bool lisa = train->finetuning_type == METHOD_LISA;
    int64_t tokens = 0, targets = 0, sequences = 0;
    for (int64_t m = 0; m < bench->count; m++) {
        tokens += bench->batches[m].used;
        targets += bench->batches[m].targets;
        sequences += bench->batches[m].sequences;
    }
    report_text(report, "backend", bench->backend->name);
    report_integer(report, "threads", thread_pool_size(bench->backend->threads));
    report_integer(report, "parameters", model_parameters(&bench->config));
    report_text(report, "finetuning_type", lisa ? "lisa" : "full");
    if (lisa) report_integer(report, "lisa_activated_layers", train->lisa_activated_layers);
    report_number(report, "max_grad_norm", train->max_grad_norm);
    report_integer(report, "optim_bits", train->optim_bits == OPTIM_BITS_16 ? 16 : 32);
    report_text(report, "gradient_checkpointing", plan_checkpointing(&bench->plan, bench->config.layers, keeps));
    report_integer(report, "sequences", sequences);
    report_integer(report, "tokens", tokens);
    report_integer(report, "targets", targets);
    report_integer(report, "micro_batches", bench->count);
    report_integer(report, "micro_batch_tokens", bench->plan.sizes.tokens);
    report_number(report, "first_loss", bench->times.first_loss);
    report_number(report, "last_loss", bench->times.last_loss);
    report_integer(report, "steps", bench->times.steps);
    report_number(report, "step_seconds", bench->times.median);
    report_number(report, "least_step_seconds", bench->times.least);
    report_number(report, "most_step_seconds", bench->times.most);
    report_number(report, "tokens_per_second", (double)tokens / bench->times.median);
}

static void report_phases(Report *report, const double phases[PHASE_COUNT]) {
    static const char *const names[PHASE_COUNT] = {
        [PHASE_OTHER] = "other_seconds", [PHASE_UPLOAD] = "upload_seconds",     [PHASE_FORWARD] = "forward_seconds",
        [PHASE_HEAD] = "head_seconds",   [PHASE_BACKWARD] = "backward_seconds", [PHASE_UPDATE] = "update_seconds"};
    for (int phase = 0; phase < PHASE_COUNT; phase++) report_number(report, names[phase], phases[phase]);
}

static void report_rates(Report *report, const Bench *bench) {
    const BenchRates *r = &bench->rates;
    const StepTimes *times = &bench->times;
    double needed = r->needed / times->median, library = r->gemm_needed / r->library_seconds;
    double attention = r->attention_forward + r->attention_backward;
    report_number(report, "needed_gflop", r->needed * 1e-9);
    report_number(report, "executed_gflop", r->executed * 1e-9);
    report_number(report, "step_gflop_per_second", needed * 1e-9);
    report_number(report, "executed_gflop_per_second", r->executed / times->median * 1e-9);
    report_number(report, "library_gflop_per_second", library * 1e-9);
    report_number(report, "efficiency", needed / library);
    report_integer(report, "large_gemm_size", (int64_t)r->large_size);
    report_number(report, "large_gemm_gflop_per_second", r->large_flops * 1e-9);
    report_number(report, "efficiency_to_large_gemm", needed / r->large_flops);
    report_number(report, "attention_forward_seconds", r->attention_forward);
    report_number(report, "attention_backward_seconds", r->attention_backward);
    report_number(report, "attention_gflop_per_second", r->attention_needed / attention * 1e-9);
    report_number(report, "copy_gigabytes_per_second", r->copied * 1e-9);
    report_number(report, "update_gigabytes_per_second", (double)times->updated / times->phases[PHASE_UPDATE] * 1e-9);
}

// What the plan had chosen and foretold.
static void report_plan(Report *report, const Bench *bench) {
    const Plan *plan = &bench->plan;
    report_integer(report, "micro_batch_tokens", plan->sizes.tokens);
    report_integer(report, "sweep_micro_batches", plan->sizes.sweep);
    report_integer(report, "layers_resident", bench->config.layers - plan->store.streamed);
    if (!bench->backend->unified) report_number(report, "planned_step_seconds", plan->estimate.seconds);
    if (bench->options.train.max_steps <= 0) return;
    json_t *losses = json_array(); // as text, to the last bit
    for (int64_t step = 0; step < bench->times.steps; step++) {
        char text[32];
        snprintf(text, sizeof text, "%.17g", bench->times.losses[step]);
        json_array_append_new(losses, json_string(text));
    }
    report_value(report, "losses", losses);
}

static void report_memory(Report *report, const Bench *bench) {
    const StepTimes *times = &bench->times;
    const Plan *plan = &bench->plan;
    uint64_t planned = plan->device_bytes + (bench->backend->unified ? plan->pinned_bytes + plan->host_bytes : 0);
    report_bytes(report, "planned", planned);
    report_bytes(report, "arenas", times->arenas);
    report_bytes(report, "workspace", bench->backend->workspace_bytes);
    report_bytes(report, "memory_before", times->memory_before);
    report_bytes(report, "memory", times->memory);
    report_number(report, "memory_share_of_plan",
                  ((double)times->memory - (double)times->memory_before) / (double)planned);
}

bool bench_report(const Bench *bench, Error *error) {
    Report report;
    report_start(&report);
    report_run(&report, bench);
    report_phases(&report, bench->times.phases);
    report_rates(&report, bench);
    report_plan(&report, bench);
    report_memory(&report, bench);
    return report_print(&report, bench->options.json, error);
}
