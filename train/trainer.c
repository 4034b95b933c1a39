// trainer.c - see trainer.h.
#include "train/trainer.h"
#include <stdlib.h>

// ---- memory: one path for measuring and for allocating ----

// Notes in the plan what has been taken from the arenas since the last note.
static void note(Plan *plan, const char *name, const Arena *device, const Arena *host) {
    uint64_t device_before = 0, host_before = 0;
    for (int i = 0; i < plan->component_count; i++) {
        device_before += plan->components[i].device_bytes;
        host_before += plan->components[i].host_bytes;
    }
    plan->components[plan->component_count++] =
        (PlanComponent){name, device->peak - device_before, host->peak - host_before};
}

static bool take(Trainer *t, Plan *plan, Error *error) {
    Backend *b = t->backend;
    BlockLayout layout;
    Method method = method_of(t->settings, t->config->layers);
    plan->component_count = 0;
    if (!block_layout(&layout, t->config, error)) return false;
    if (!store_create(&t->store, &layout, &t->device, b->unified ? NULL : &t->host, error)) return false;
    note(plan, "weights (bf16)", &t->device, &t->host);
    if (!plan->evaluate_only) {
        if (!active_create(&t->active, &method, t->settings, &layout, plan->fused_update, &t->device, &t->host, error))
            return false;
        note(plan, "gradients, m, v (fp32), low bits", &t->device, &t->host);
    }
    if (!passes_create(&t->passes, b, t->config, &t->store, &plan->sizes, &t->device, &t->host, error)) return false;
    t->numbers = arena_take(&t->device, 1, sizeof *t->numbers);
    reports_take(&t->reports, b, &t->host);
    t->evaluated = arena_take(&t->host, 1, sizeof *t->evaluated);
    note(plan, "activations and work buffers", &t->device, &t->host);
    if (t->device.overflow || t->host.overflow) return error_set(error, "the run does not fit its arenas");
    t->gradients = calloc((size_t)block_count(&layout), sizeof *t->gradients);
    if (!t->gradients) return error_memory(error, "the table of gradients", (size_t)layout.layers * sizeof(float *));
    plan->device_bytes = t->device.peak;
    plan->host_bytes = t->host.peak;
    return true;
}

bool trainer_measure(Plan *plan, Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                     Error *error) {
    Trainer t = {.backend = backend, .config = config, .settings = settings};
    arena_measure(&t.device, MEMORY_DEVICE);
    arena_measure(&t.host, MEMORY_PINNED);
    bool ok = take(&t, plan, error);
    trainer_free(&t);
    return ok;
}

bool trainer_create(Trainer *t, Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                    const Plan *plan, Error *error) {
    *t = (Trainer){.backend = backend, .config = config, .settings = settings, .plan = *plan};
    return arena_create(&t->device, backend, MEMORY_DEVICE, plan->device_bytes, "the device arena", error) &&
           arena_create(&t->host, backend, MEMORY_PINNED, plan->host_bytes, "the host arena", error) &&
           take(t, &t->plan, error) && passes_prepare(&t->passes, error) && reports_open(&t->reports, error);
}

void trainer_free(Trainer *t) {
    if (t->device.memory) t->backend->synchronize(t->backend, NULL); // what is queued still uses the memory
    free(t->gradients);
    reports_free(&t->reports);
    passes_free(&t->passes);
    active_free(&t->active);
    store_free(&t->store);
    arena_free(&t->host);
    arena_free(&t->device);
    *t = (Trainer){0};
}

// ---- one optimizer step ----

static int64_t count_targets(const MicroBatch *batches, int64_t count) {
    int64_t targets = 0;
    for (int64_t m = 0; m < count; m++) targets += batches[m].targets;
    return targets;
}

static void clear_gradient(Trainer *t, const Slot *slot) {
    t->backend->zero(t->backend, slot->gradient, (size_t)slot->elements * sizeof(float), NULL);
}

static void begin_step(Trainer *t) {
    for (int block = 0; block < t->active.blocks; block++) {
        const Slot *slot = t->active.of_block[block];
        t->gradients[block] = slot ? slot->gradient : NULL;
        if (slot) clear_gradient(t, slot);
    }
    t->backend->zero(t->backend, t->numbers, sizeof *t->numbers, NULL); // its padding too: it is copied
    passes_begin(&t->passes);
}

static void add_squares(Trainer *t, int block) {
    const Slot *slot = t->active.of_block[block];
    if (slot) t->backend->sum_squares(t->backend, &t->numbers->squares, slot->gradient, slot->elements, NULL);
}

// Norm of the gradients so far, clip scale, and whether to skip; all on the device.
static void finish_norm(Trainer *t) {
    StepNumbers *n = t->numbers;
    t->backend->clip_finish(t->backend, &n->norm, &n->clip_scale, &n->skip, &n->squares, 1, t->passes.loss,
                            (float)t->settings->max_grad_norm, NULL);
}

static void update_block(Trainer *t, int block) {
    Slot *slot = t->active.of_block[block];
    if (!slot) return;
    slot_update(slot, t->backend, store_acquire(&t->store, block), t->settings, t->learning_rate,
                &t->numbers->clip_scale, &t->numbers->skip);
}

// The fused update: the block's gradient is complete, nothing else of the step needs it or the block's weights, and the
// buffer is wanted for the next block. A norm that is not finite leaves this block and all later ones as they were.
static void update_at_once(void *trainer, int block) {
    Trainer *t = trainer;
    phase_start(t->passes.clock, PHASE_UPDATE);
    add_squares(t, block);
    finish_norm(t);
    update_block(t, block);
    clear_gradient(t, t->active.of_block[block]);
}

// Sweep after sweep: loss and gradients of the whole optimizer batch, then AdamW on every slot.
static void sweep_and_update(Trainer *t, const MicroBatch *batches, int64_t count, float scale) {
    bool fused = t->plan.fused_update;
    GradientSink sink = {t->gradients, fused ? update_at_once : NULL, t};
    for (int64_t first = 0; first < count; first += t->plan.sizes.sweep) {
        int64_t some = count - first < t->plan.sizes.sweep ? count - first : t->plan.sizes.sweep;
        passes_train(&t->passes, batches + first, some, scale, &sink);
    }
    if (fused) return;
    phase_start(t->passes.clock, PHASE_UPDATE);
    for (int block = 0; block < t->active.blocks; block++) add_squares(t, block);
    finish_norm(t);
    for (int block = 0; block < t->active.blocks; block++) update_block(t, block);
}

static bool check_step(const Trainer *t, int64_t step, int64_t count, int64_t targets, Error *error) {
    if (targets == 0) return error_set(error, "step %lld: no target token in its examples", (long long)step + 1);
    if (t->plan.fused_update && count > t->plan.sizes.sweep)
        return error_set(error, "step %lld: its examples do not fit the one sweep that was planned",
                         (long long)step + 1);
    if (trainer_owed(t) == STEPS_IN_FLIGHT)
        return error_set(error, "step %lld: no one has asked what the steps before it did", (long long)step + 1);
    return true;
}

bool trainer_step(Trainer *t, int64_t step, double learning_rate, const MicroBatch *batches, int64_t count,
                  Error *error) {
    StepReport known = {.step = step, .learning_rate = learning_rate, .targets = count_targets(batches, count)};
    for (int64_t m = 0; m < count; m++) known.tokens += batches[m].used;
    if (!check_step(t, step, count, known.targets, error)) return false;
    phase_start(t->passes.clock, PHASE_UPDATE);
    active_update(&t->active, &t->store, step);
    begin_step(t);
    t->learning_rate = learning_rate;
    sweep_and_update(t, batches, count, (float)(1 / (double)known.targets));
    phase_start(t->passes.clock, PHASE_OTHER);
    reports_queue(&t->reports, &known, t->passes.loss, t->numbers);
    return t->backend->check(t->backend, error);
}

int64_t trainer_owed(const Trainer *t) {
    return reports_owed(&t->reports);
}

bool trainer_report(Trainer *t, StepReport *report, Error *error) {
    return reports_next(&t->reports, report, error);
}

// ---- evaluation ----

void trainer_evaluate_begin(Trainer *t) {
    t->evaluated_targets = 0;
    passes_begin(&t->passes);
}

bool trainer_evaluate(Trainer *t, const MicroBatch *batches, int64_t count, Error *error) {
    for (int64_t first = 0; first < count; first += t->plan.sizes.sweep) {
        int64_t some = count - first < t->plan.sizes.sweep ? count - first : t->plan.sizes.sweep;
        passes_evaluate(&t->passes, batches + first, some);
    }
    t->evaluated_targets += count_targets(batches, count);
    return t->backend->check(t->backend, error);
}

bool trainer_evaluate_end(Trainer *t, double *loss, int64_t *targets, Error *error) {
    Backend *b = t->backend;
    b->copy(b, t->evaluated, t->passes.loss, sizeof *t->evaluated, NULL);
    b->synchronize(b, NULL);
    *loss = *t->evaluated;
    *targets = t->evaluated_targets;
    return b->check(b, error);
}
