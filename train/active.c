// active.c - see active.h.
#include "train/active.h"
#include "base/random.h"
#include <stdlib.h>
#include <string.h>

static void take_gradients(ActiveSet *active, bool one_gradient, bool tied, Arena *device) {
    float *shared = NULL;
    int64_t largest = 0;
    int first = tied; // the first slot that shares; slot 0 is E's
    for (int i = first; i < active->slot_count; i++)
        if (active->slots[i].elements > largest) largest = active->slots[i].elements;
    if (one_gradient) shared = arena_take(device, largest, sizeof(float));
    for (int i = 0; i < active->slot_count; i++) {
        Slot *slot = &active->slots[i];
        slot->gradient = shared && i >= first ? shared : arena_take(device, slot->elements, sizeof(float));
    }
}

bool active_create(ActiveSet *active, const Method *method, const TrainSettings *settings, const BlockLayout *layout,
                   bool one_gradient, Arena *device, Arena *host, Error *error) {
    int blocks = block_count(layout);
    bool park = settings->lisa_keep_low_bits && settings->finetuning_type == METHOD_LISA;
    *active = (ActiveSet){.method = *method, .slot_count = method->activated + 2, .draw = -1, .blocks = blocks};
    active->slots = calloc((size_t)active->slot_count, sizeof *active->slots);
    active->of_block = calloc((size_t)blocks, sizeof(Slot *));
    active->parked = park ? calloc((size_t)blocks, sizeof(int16_t *)) : NULL;
    if (!active->slots || !active->of_block || (park && !active->parked)) {
        active_free(active);
        return error_memory(error, "the table of slots", (size_t)blocks * sizeof(Slot *));
    }
    for (int i = 0; i < active->slot_count; i++) {
        int block = i == 0 ? 0 : i == 1 ? blocks - 1 : block_of_layer(0);
        slot_take(&active->slots[i], device, block_elements(layout, block), block_decayed(layout, block));
    }
    take_gradients(active, one_gradient, layout->head.rows == 0, device);
    for (int block = 1; park && block < blocks - 1; block++) {
        active->parked[block] = arena_take(host, layout->layer.elements, sizeof(int16_t));
        if (host->memory) memset(active->parked[block], 0, (size_t)layout->layer.elements * sizeof(int16_t));
    }
    if (!device->overflow && (!park || !host->overflow)) return true;
    active_free(active);
    return error_set(error, "the slots do not fit their arena");
}

void active_free(ActiveSet *active) {
    free(active->slots);
    free(active->of_block);
    free(active->parked);
    *active = (ActiveSet){0};
}

Slot *active_claim(ActiveSet *active, int block) {
    int first = 2, last = active->slot_count; // a layer's slots
    if (block == 0) first = 0, last = 1;
    if (block == active->blocks - 1) first = 1, last = 2;
    for (int i = first; i < last; i++) {
        Slot *slot = &active->slots[i];
        if (slot->block >= 0) continue;
        slot->block = block;
        active->of_block[block] = slot;
        return slot;
    }
    return NULL;
}

static void leave(ActiveSet *active, BlockStore *store, int block) {
    Slot *slot = active->of_block[block];
    Backend *backend = store->backend;
    if (active->parked) {
        size_t bytes = (size_t)slot->elements * sizeof(int16_t);
        backend->copy(backend, active->parked[block], slot->low_bits, bytes, NULL);
        slot->block = -1; // the weight stays rounded to nearest; what it lost is parked
    } else {
        uint64_t key = random_key(active->method.seed, RANDOM_FREEZE, (uint64_t)active->draw, (uint64_t)block);
        slot_leave(slot, backend, store_acquire(store, block), key);
    }
    active->of_block[block] = NULL;
}

static void enter(ActiveSet *active, BlockStore *store, int block) {
    Slot *slot = active_claim(active, block);
    Backend *backend = store->backend;
    slot_enter(slot, backend, block);
    if (!active->parked || !active->parked[block]) return;
    backend->copy(backend, slot->low_bits, active->parked[block], (size_t)slot->elements * sizeof(int16_t), NULL);
}

void active_update(ActiveSet *active, BlockStore *store, int64_t step) {
    int64_t draw = method_draw_index(&active->method, step);
    if (draw == active->draw) return;
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
