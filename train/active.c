// active.c - see active.h.
#include "train/active.h"
#include "base/random.h"
#include "model/uses.h"
#include <stdlib.h>
#include <string.h>

// ---- memory ----

static void take_gradients(ActiveSet *active, const ActivePlan *plan, Arena *device) {
    float *shared = NULL;
    int64_t largest = 0;
    for (int i = 1; i < active->slot_count; i++) // slot 0 is E's
        if (active->slots[i].elements > largest) largest = active->slots[i].elements;
    device->use = USE_GRADIENTS;
    if (plan->places.shared_gradient) shared = arena_take(device, largest, sizeof(float));
    for (int i = 1; i < active->slot_count; i++) {
        Slot *slot = &active->slots[i];
        slot->gradient = shared ? shared : arena_take(device, slot->elements, sizeof(float));
    }
    Slot *embedding = &active->slots[0];
    if (plan->rows > 0) device->use = USE_ROWS;
    embedding->gradient = arena_take(device, embedding->gradient_elements, sizeof(float));
}

static bool is_on_host(const ActivePlan *plan, int i) {
    return i == 0 ? plan->store->embedding_on_host : i == 1 ? plan->places.head_on_host : plan->places.layers_on_host;
}

// A slot whose block may be resident or in the file keeps the weights beside the state.
static bool needs_weights(const ActivePlan *plan, int i) {
    if (!is_on_host(plan, i) || i == 0) return false;
    return i == 1 || plan->store->in_file || plan->store->streamed < plan->layout->layers;
}

static void take_slot(Slot *slot, const ActivePlan *plan, int i, const TrainSettings *settings, Backend *backend,
                      Arena *device, Arena *pinned, Arena *host) {
    const BlockLayout *layout = plan->layout;
    int block = i == 0 ? 0 : i == 1 ? block_count(layout) - 1 : block_of_layer(0);
    bool on_host = is_on_host(plan, i);
    slot_take(slot, on_host ? host : device, block_elements(layout, block), block_decayed(layout, block),
              settings->optim_bits);
    slot->on_host = on_host;
    slot->backend = on_host ? plan->host : backend;
    slot->gradient_elements = i == 0 && plan->rows > 0 ? plan->rows * layout->embedding.columns : slot->elements;
    pinned->use = i == 0 && plan->rows > 0 ? USE_ROWS : USE_GRADIENTS;
    if (on_host || (i > 0 && plan->places.shared_gradient && settings->max_grad_norm > 0))
        slot->host_gradient = arena_take(pinned, slot->gradient_elements, sizeof(float));
    pinned->use = USE_MASTERS;
    if (needs_weights(plan, i)) slot->own_weights = arena_take(pinned, slot->elements, sizeof(bf16));
}

static void take_parked(ActiveSet *active, const BlockLayout *layout, Arena *host) {
    host->use = USE_LOW_BITS;
    for (int block = 1; block < active->blocks - 1; block++) {
        active->parked[block] = arena_take(host, layout->layer.elements, sizeof(int16_t));
        if (host->memory) memset(active->parked[block], 0, (size_t)layout->layer.elements * sizeof(int16_t));
    }
}

bool active_create(ActiveSet *active, const Method *method, const TrainSettings *settings, const ActivePlan *plan,
                   Backend *backend, Arena *device, Arena *pinned, Arena *host, Error *error) {
    int blocks = block_count(plan->layout);
    bool park = settings->lisa_keep_low_bits && settings->finetuning_type == METHOD_LISA;
    *active = (ActiveSet){.method = *method, .slot_count = method->activated + 2, .draw = -1, .blocks = blocks};
    active->slots = calloc((size_t)active->slot_count, sizeof *active->slots);
    active->of_block = calloc((size_t)blocks, sizeof(Slot *));
    active->parked = park ? calloc((size_t)blocks, sizeof(int16_t *)) : NULL;
    if (!active->slots || !active->of_block || (park && !active->parked)) {
        active_free(active);
        return error_memory(error, "the table of slots", (size_t)blocks * sizeof(Slot *));
    }
    for (int i = 0; i < active->slot_count; i++)
        take_slot(&active->slots[i], plan, i, settings, backend, device, pinned, host);
    take_gradients(active, plan, device);
    if (park) take_parked(active, plan->layout, host);
    if (!device->overflow && !pinned->overflow && !host->overflow) return true;
    active_free(active);
    return error_set(error, "the slots do not fit their arena");
}

void active_free(ActiveSet *active) {
    free(active->slots);
    free(active->of_block);
    free(active->parked);
    *active = (ActiveSet){0};
}

// ---- entering and leaving ----

// Where a slot in host memory finds the block's weights: in their home, or in its own memory, which then stands in for
// them.
static void bring_weights(Slot *slot, BlockStore *store) {
    bf16 *home = store_home(store, slot->block);
    slot->weights = home ? home : slot->own_weights;
    if (home) return;
    memcpy(slot->weights, store_get(store, slot->block), (size_t)slot->elements * sizeof(bf16));
    if (!store_is_resident(store, slot->block)) store_lend(store, slot->block, slot->weights);
}

static void return_weights(Slot *slot, BlockStore *store, int block) {
    if (slot->weights != slot->own_weights) {
        store_home_changed(store, block);
    } else if (store_is_resident(store, block)) {
        memcpy(store_put(store, block), slot->weights, (size_t)slot->elements * sizeof(bf16));
        store_put_finish(store, block);
    } else {
        store_home_changed(store, block);
        store_lend(store, block, NULL);
    }
    slot->weights = NULL;
}

Slot *active_claim(ActiveSet *active, BlockStore *store, int block) {
    int first = 2, last = active->slot_count; // a layer's slots
    if (block == 0) first = 0, last = 1;
    if (block == active->blocks - 1) first = 1, last = 2;
    for (int i = first; i < last; i++) {
        Slot *slot = &active->slots[i];
        if (slot->block >= 0) continue;
        slot->block = block;
        active->of_block[block] = slot;
        if (slot->on_host) bring_weights(slot, store);
        return slot;
    }
    return NULL;
}

// The weights of a block that leaves become what is kept of the master.
static void round_weights(const ActiveSet *active, BlockStore *store, Slot *slot) {
    int block = slot->block;
    uint64_t key = random_key(active->method.seed, RANDOM_FREEZE, (uint64_t)active->draw, (uint64_t)block);
    if (slot->on_host) {
        slot_leave(slot, slot->weights, key);
    } else {
        slot_leave(slot, store_acquire_to_change(store, block), key);
        store_release_changed(store, block);
    }
}

static void leave(ActiveSet *active, BlockStore *store, int block) {
    Slot *slot = active->of_block[block];
    if (active->parked) {
        size_t bytes = (size_t)slot->elements * sizeof(int16_t);
        slot->backend->copy(slot->backend, active->parked[block], slot->low_bits, bytes, NULL);
        slot->block = -1; // the weight stays rounded to nearest; what it lost is parked
    } else {
        round_weights(active, store, slot);
    }
    if (slot->on_host) return_weights(slot, store, block);
    active->of_block[block] = NULL;
}

static void enter(ActiveSet *active, BlockStore *store, int block) {
    Slot *slot = active_claim(active, store, block);
    slot_enter(slot, block);
    if (!active->parked || !active->parked[block]) return;
    slot->backend->copy(slot->backend, slot->low_bits, active->parked[block], (size_t)slot->elements * sizeof(int16_t),
                        NULL);
}

bool active_changes(const ActiveSet *active, int64_t step) {
    return method_draw_index(&active->method, step) != active->draw;
}

void active_update(ActiveSet *active, BlockStore *store, int64_t step) {
    int64_t draw = method_draw_index(&active->method, step);
    if (!active_changes(active, step)) return;
    int drawn[MODEL_LAYERS_MAX];
    bool stays[MODEL_LAYERS_MAX] = {false};
    method_draw(&active->method, draw, drawn);
    for (int i = 0; i < active->method.activated; i++) stays[drawn[i]] = true;
    for (int layer = 0; layer < active->method.layers; layer++)
        if (active->of_block[block_of_layer(layer)] && !stays[layer]) leave(active, store, block_of_layer(layer));
    for (int block = 0; block < active->blocks; block++) {
        bool wanted = block == 0 || block == active->blocks - 1 || stays[block - 1];
        if (wanted && !active->of_block[block]) enter(active, store, block);
    }
    active->draw = draw;
}

bool active_is_after(const ActiveSet *active, int64_t steps) {
    int drawn[MODEL_LAYERS_MAX];
    int64_t draw = steps > 0 ? method_draw_index(&active->method, steps - 1) : -1;
    if (active->draw != draw) return false;
    if (draw < 0) return true;
    method_draw(&active->method, draw, drawn);
    bool all = active->of_block[0] && active->of_block[active->blocks - 1];
    for (int i = 0; i < active->method.activated; i++) all = all && active->of_block[block_of_layer(drawn[i])];
    return all; // and no others: there are no more slots
}

int active_layers(const ActiveSet *active, int *layers) {
    int count = 0;
    for (int block = 1; block < active->blocks - 1; block++)
        if (active->of_block[block]) layers[count++] = block - 1;
    return count;
}
