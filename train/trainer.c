// trainer.c - see trainer.h.
#include "train/trainer.h"
#include "model/uses.h"
#include <stdlib.h>

// ---- memory: one path for measuring and for allocating ----

static bool needs_host(const Plan *plan) {
    return !plan->evaluate_only &&
           (plan->store.embedding_on_host || plan->state.head_on_host || plan->state.layers_on_host);
}

static bool needs_rows(const Trainer *t, const Plan *plan) {
    return !(t->config->tied && plan->evaluate_only);
}

static bool take_state(Trainer *t, const BlockLayout *layout, const Plan *plan, Error *error) {
    Backend *b = t->backend;
    Method method = method_of(t->settings, t->config->layers);
    ActivePlan active = {.layout = layout,
                         .store = &plan->store,
                         .places = plan->state,
                         .rows = t->config->tied ? 0 : plan->sizes.rows,
                         .host = t->updates ? host_updates_backend(t->updates) : NULL};
    return active_create(&t->active, &method, t->settings, &active, b, &t->device, &t->pinned, &t->host, error) &&
           offload_create(&t->offload, b, t->settings, &t->store, &t->active, t->config->tied ? NULL : &t->rows,
                          t->updates, &t->pinned, error);
}

static bool take(Trainer *t, Plan *plan, Error *error) {
    Backend *b = t->backend;
    BlockLayout layout;
    if (!block_layout(&layout, t->config, error)) return false;
    if (!store_create(&t->store, b, &layout, &plan->store, &t->device, &t->pinned, &t->host, error)) return false;
    if (needs_rows(t, plan))
        batch_rows_take(&t->rows, b, t->config, plan->sizes.rows, plan->store.embedding_on_host, &t->device, &t->pinned,
                        &t->host);
    if (!plan->evaluate_only && !take_state(t, &layout, plan, error)) return false;
    if (!passes_create(&t->passes, b, t->config, &t->store, &plan->sizes, &t->device, &t->pinned, error)) return false;
    t->device.use = t->pinned.use = USE_SMALL;
    t->numbers = arena_take(&t->device, 1, sizeof *t->numbers);
    t->squares = arena_take(&t->device, block_count(&layout), sizeof *t->squares);
    reports_take(&t->reports, b, &t->pinned);
    t->evaluated = arena_take(&t->pinned, 1, sizeof *t->evaluated);
    if (t->device.overflow || t->pinned.overflow || t->host.overflow)
        return error_set(error, "the run does not fit its arenas");
    t->gradients = calloc((size_t)block_count(&layout), sizeof *t->gradients);
    return t->gradients || error_memory(error, "the table of gradients", (size_t)layout.layers * sizeof(float *));
}

bool trainer_measure(Plan *plan, Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                     Error *error) {
    Trainer t = {.backend = backend, .config = config, .settings = settings};
    arena_measure(&t.device, MEMORY_DEVICE);
    arena_measure(&t.pinned, MEMORY_PINNED);
    arena_measure(&t.host, MEMORY_HOST);
    bool ok = take(&t, plan, error);
    for (int use = 0; ok && use < USE_COUNT; use++)
        plan->uses[use] = (PlanUse){t.device.by_use[use], t.pinned.by_use[use], t.host.by_use[use]};
    plan->device_bytes = t.device.peak;
    plan->pinned_bytes = t.pinned.peak;
    plan->host_bytes = t.host.peak;
    plan->disk_bytes = t.store.file_bytes;
    trainer_free(&t);
    return ok;
}

static bool open_all(Trainer *t, Error *error) {
    bool evaluate_only = t->plan.evaluate_only;
    return store_open(&t->store, error) && (!needs_rows(t, &t->plan) || batch_rows_open(&t->rows, error)) &&
           (evaluate_only || offload_open(&t->offload, error)) && passes_prepare(&t->passes, error) &&
           reports_open(&t->reports, error);
}

bool trainer_create(Trainer *t, Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                    const Plan *plan, Error *error) {
    *t = (Trainer){.backend = backend, .config = config, .settings = settings, .plan = *plan};
    t->plan.store.cached = plan_spare_bytes(plan, backend);
    if (needs_host(plan)) {
        t->updates = host_updates_create(thread_pool_size(backend->threads), config->layers + 3, error);
        if (!t->updates) return false;
    }
    if (!arena_create(&t->device, backend, MEMORY_DEVICE, plan->device_bytes, "the device arena", error)) return false;
    t->pinned_refused =
        !arena_create(&t->pinned, backend, MEMORY_PINNED, plan->pinned_bytes, "the pinned arena", error);
    return !t->pinned_refused &&
           arena_create(&t->host, backend, MEMORY_HOST, plan->host_bytes, "the host arena", error) &&
           take(t, &t->plan, error) && open_all(t, error);
}

void trainer_free(Trainer *t) {
    if (t->device.memory) t->backend->synchronize(t->backend, NULL); // what is queued still uses the memory
    free(t->gradients);
    reports_free(&t->reports);
    passes_free(&t->passes);
    offload_free(&t->offload);
    active_free(&t->active);
    batch_rows_free(&t->rows);
    store_free(&t->store);
    host_updates_free(t->updates);
    arena_free(&t->host);
    arena_free(&t->pinned);
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
    t->backend->zero(t->backend, slot->gradient, (size_t)slot->gradient_elements * sizeof(float), NULL);
}

// Whether the slot's gradient is in the buffer that H and the layers share.
static bool is_shared(const Trainer *t, int block) {
    return t->plan.state.shared_gradient && block > 0;
}

// The rows of E that the batch touches, and what the step before has left to do on the host.
static bool begin_rows(Trainer *t, const MicroBatch *batches, int64_t count, Error *error) {
    bool on_host = t->plan.store.embedding_on_host;
    if (!batch_rows_find(&t->rows, batches, count, error)) return false;
    const RowSet *set = batch_rows_current(&t->rows);
    if (t->updates) offload_begin_step(&t->offload, on_host ? set : NULL);
    if (t->config->tied)
        batch_rows_clear_gradient(&t->rows);
    else
        t->active.slots[0].gradient_elements = set->count * t->config->hidden;
    t->passes.places = set->places;
    if (on_host) {
        batch_rows_send_weights(&t->rows, store_home(&t->store, 0));
        t->passes.table = t->rows.table;
    } else {
        batch_rows_send_places(&t->rows);
    }
    return true;
}

static bool begin_step(Trainer *t, int64_t step, const MicroBatch *batches, int64_t count, Error *error) {
    if (active_changes(&t->active, step)) {
        trainer_settle(t);
        active_update(&t->active, &t->store, step);
    }
    if (!begin_rows(t, batches, count, error)) return false;
    for (int block = 0; block < t->active.blocks; block++) {
        const Slot *slot = t->active.of_block[block];
        t->gradients[block] = slot ? slot->gradient : NULL;
        if (slot && !is_shared(t, block)) clear_gradient(t, slot);
    }
    t->backend->zero(t->backend, t->squares, (size_t)t->active.blocks * sizeof *t->squares, NULL);
    t->backend->zero(t->backend, t->numbers, sizeof *t->numbers, NULL); // its padding too: it is copied
    passes_begin(&t->passes);
    return true;
}

// The last sweep is through: a tied E's gradient is now complete but for its rows as the input table.
static void complete_embedding(Trainer *t) {
    if (t->config->tied) batch_rows_add_gradient(&t->rows, t->gradients[0]);
}

static void add_squares(Trainer *t, int block) {
    const Slot *slot = t->active.of_block[block];
    if (slot) t->backend->sum_squares(t->backend, &t->squares[block], slot->gradient, slot->gradient_elements, NULL);
}

// Norm of the gradients so far, clip scale, and whether to skip; all on the device.
static void finish_norm(Trainer *t) {
    StepNumbers *n = t->numbers;
    t->backend->clip_finish(t->backend, &n->norm, &n->clip_scale, &n->skip, t->squares, t->active.blocks,
                            t->passes.loss, (float)t->settings->max_grad_norm, NULL);
}

// The update of a block whose state is on the device.
static void update_block(Trainer *t, int block) {
    Slot *slot = t->active.of_block[block];
    if (!slot || slot->on_host) return;
    AdamWStep step = slot_step(slot, t->settings, t->learning_rate, &t->numbers->clip_scale, &t->numbers->skip);
    SlotRows rows = {0};
    if (block == 0 && !t->config->tied)
        rows = (SlotRows){t->rows.places, NULL, t->config->vocabulary, t->config->hidden};
    slot_update(slot, store_acquire_to_change(&t->store, block), slot->gradient, &step, &rows);
    store_release_changed(&t->store, block);
}

static void before_gradient(void *trainer, int block) {
    Trainer *t = trainer;
    if (!is_shared(t, block)) return;
    offload_before_gradient(&t->offload);
    clear_gradient(t, t->active.of_block[block]);
}

// A shared buffer is wanted for the next block: its gradient is complete, and is applied at once, or goes to the host.
// Nothing else of the step needs it or the block's weights. Applied at once, a norm that is not finite leaves this
// block and all later ones as they were.
static void gradient_complete(void *trainer, int block) {
    Trainer *t = trainer;
    Slot *slot = t->active.of_block[block];
    phase_start(t->passes.clock, PHASE_UPDATE);
    if (block == 0) complete_embedding(t);
    add_squares(t, block);
    if (slot->host_gradient) {
        offload_mark(&t->offload);
        offload_gradient(&t->offload, slot);
    } else if (t->plan.fused_update) {
        finish_norm(t);
        update_block(t, block);
    }
}

// With the norm known, AdamW on every slot whose state is on the device; the gradients of the others go to the host.
static void update_all(Trainer *t) {
    bool shared = t->plan.state.shared_gradient;
    phase_start(t->passes.clock, PHASE_UPDATE);
    if (!shared) complete_embedding(t);
    for (int block = 0; block < t->active.blocks && !shared; block++) add_squares(t, block);
    finish_norm(t);
    if (t->updates) offload_mark(&t->offload);
    for (int block = 0; block < t->active.blocks; block++) {
        Slot *slot = t->active.of_block[block];
        if (slot && slot->host_gradient && !slot->on_host) offload_gradient_back(&t->offload, slot);
        if (slot && slot->on_host && !shared) offload_gradient(&t->offload, slot);
        if (!t->plan.fused_update) update_block(t, block);
    }
    offload_end_step(&t->offload, t->learning_rate, t->numbers);
}

// Sweep after sweep: loss and gradients of the whole optimizer batch, then the update.
static void sweep_and_update(Trainer *t, const MicroBatch *batches, int64_t count, float scale) {
    bool shared = t->plan.state.shared_gradient;
    GradientSink sink = {.gradients = t->gradients,
                         .embedding = t->rows.gradient,
                         .begin = before_gradient,
                         .complete = shared ? gradient_complete : NULL,
                         .context = t};
    for (int64_t first = 0; first < count; first += t->plan.sizes.sweep) {
        int64_t some = count - first < t->plan.sizes.sweep ? count - first : t->plan.sizes.sweep;
        passes_train(&t->passes, batches + first, some, scale, &sink);
    }
    update_all(t);
}

static bool check_step(const Trainer *t, int64_t step, int64_t count, int64_t targets, Error *error) {
    if (targets == 0) return error_set(error, "step %lld: no target token in its examples", (long long)step + 1);
    if (t->plan.state.shared_gradient && count > t->plan.sizes.sweep)
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
    if (!begin_step(t, step, batches, count, error)) return false;
    t->learning_rate = learning_rate;
    sweep_and_update(t, batches, count, (float)(1 / (double)known.targets));
    phase_start(t->passes.clock, PHASE_OTHER);
    reports_queue(&t->reports, &known, t->passes.loss, t->numbers);
    return t->backend->check(t->backend, error) && store_check(&t->store, error);
}

void trainer_settle(Trainer *t) {
    offload_settle(&t->offload);
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
    if (!t->plan.evaluate_only) trainer_settle(t);
    passes_begin(&t->passes);
}

bool trainer_evaluate(Trainer *t, const MicroBatch *batches, int64_t count, Error *error) {
    bool on_host = t->plan.store.embedding_on_host;
    if (!on_host) t->passes.places = NULL;
    for (int64_t first = 0; first < count; first += t->plan.sizes.sweep) {
        int64_t some = count - first < t->plan.sizes.sweep ? count - first : t->plan.sizes.sweep;
        if (on_host) {
            if (!batch_rows_find(&t->rows, batches + first, some, error)) return false;
            t->passes.places = batch_rows_current(&t->rows)->places;
            batch_rows_send_weights(&t->rows, store_home(&t->store, 0));
            t->passes.table = t->rows.table;
        }
        passes_evaluate(&t->passes, batches + first, some);
    }
    t->evaluated_targets += count_targets(batches, count);
    return t->backend->check(t->backend, error) && store_check(&t->store, error);
}

bool trainer_evaluate_end(Trainer *t, double *loss, int64_t *targets, Error *error) {
    Backend *b = t->backend;
    b->copy(b, t->evaluated, t->passes.loss, sizeof *t->evaluated, NULL);
    b->synchronize(b, NULL);
    *loss = *t->evaluated;
    *targets = t->evaluated_targets;
    return b->check(b, error);
}
