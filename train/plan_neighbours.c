// plan_neighbours.c - what each choice of a plan is worth: the same plan with one of them made otherwise.
#include "train/plan_parts.h"
#include <stdarg.h>
#include <stdio.h>

typedef struct Neighbours {
    const PlanFrame *frame;
    PlanNeighbour *list;
    int count;
} Neighbours;

// Lists the plan, unless it cannot be measured.
__attribute__((format(printf, 3, 4))) static void add(Neighbours *n, const Plan *plan, const char *format, ...) {
    PlanNeighbour *to = &n->list[n->count];
    Error ignored;
    va_list arguments;
    if (n->count == PLAN_NEIGHBOURS_MAX) return;
    to->plan = *plan;
    if (!plan_complete(&to->plan, n->frame, &ignored)) return;
    to->fits = plan_fits(&to->plan, n->frame->request->backend);
    va_start(arguments, format);
    vsnprintf(to->change, sizeof to->change, format, arguments);
    va_end(arguments);
    n->count++;
}

static void add_keeps(Neighbours *n, const Plan *now) {
    static const char *const names[] = {[KEEP_INPUT] = "true", [KEEP_ATTENTION] = "mlp", [KEEP_ALL] = "false"};
    int L = n->frame->request->config->layers;
    for (int keep = KEEP_INPUT; keep <= KEEP_ALL; keep++) {
        Plan plan = *now;
        pass_keep_everywhere(&plan.sizes, L, (LayerKeep)keep);
        bool same =
            plan.sizes.keep_all == now->sizes.keep_all && plan.sizes.keep_attention == now->sizes.keep_attention;
        if (!same) add(n, &plan, "gradient_checkpointing=%s", names[keep]);
    }
}

static void add_place(Neighbours *n, const Plan *now, const char *option, size_t offset) {
    Plan plan = *now;
    bool *on_host = (bool *)((char *)&plan + offset);
    *on_host = !*on_host;
    add(n, &plan, "%s=%s", option, *on_host ? "host" : "device");
}

static void add_places(Neighbours *n, const Plan *now) {
    bool untied = !n->frame->request->config->tied;
    if (untied) add_place(n, now, "embedding_state", offsetof(Plan, store.embedding_on_host));
    if (untied) add_place(n, now, "head_state", offsetof(Plan, state.head_on_host));
    add_place(n, now, "layer_state", offsetof(Plan, state.layers_on_host));
    Plan plan = *now;
    bool away = plan.sizes.inputs == INPUTS_ON_HOST;
    plan.sizes.inputs = away ? INPUTS_ON_DEVICE : INPUTS_ON_HOST;
    add(n, &plan, "layer_inputs=%s", away ? "device" : "host");
    if (now->fused_update) return;
    plan = *now;
    plan.state.shared_gradient = !now->state.shared_gradient;
    plan.sizes.sweep = plan.batches; // a shared buffer needs that
    add(n, &plan, "gradients=%s", now->state.shared_gradient ? "device" : "host");
}

static void add_streams(Neighbours *n, const Plan *now) {
    int L = n->frame->request->config->layers;
    static const int changes[] = {4, 2, -2, -4};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        Plan plan = *now;
        plan.store.streamed += changes[i];
        if (plan.store.streamed < 0 || plan.store.streamed > L) continue;
        if (plan.store.streamed < 3) plan.store.streamed = 0; // two streamed layers need no less than two resident ones
        if (plan.store.streamed == 0) plan.store.in_file = false;
        if (plan.store.streamed == now->store.streamed) continue;
        add(n, &plan, "layers_resident=%d", L - plan.store.streamed);
        if (plan.store.streamed == 0) return;
    }
}

static void add_sweeps(Neighbours *n, const Plan *now) {
    if (now->state.shared_gradient) return;
    for (int way = 0; way < 2; way++) {
        Plan plan = *now;
        plan.sizes.sweep = way ? 2 * now->sizes.sweep : now->sizes.sweep / 2;
        if (plan.sizes.sweep >= 1 && plan.sizes.sweep <= now->batches)
            add(n, &plan, "sweep_micro_batches=%lld", (long long)plan.sizes.sweep);
    }
}

int plan_neighbours(const Plan *plan, const PlanRequest *request, PlanNeighbour list[PLAN_NEIGHBOURS_MAX]) {
    PlanFrame frame;
    Error ignored;
    if (plan->evaluate_only || request->backend->unified || !plan_frame(&frame, request, &ignored)) return 0;
    Neighbours n = {&frame, list, 0};
    add_keeps(&n, plan);
    add_places(&n, plan);
    add_streams(&n, plan);
    add_sweeps(&n, plan);
    return n.count;
}
