// offload.c - see offload.h.
#include "train/offload.h"
#include "model/uses.h"
#include <stdlib.h>

bool offload_create(Offload *o, Backend *backend, const TrainSettings *settings, BlockStore *store, ActiveSet *active,
                    BatchRows *rows, HostUpdates *updates, Arena *pinned, Error *error) {
    *o = (Offload){
        .backend = backend, .settings = settings, .store = store, .active = active, .rows = rows, .updates = updates};
    for (int i = 0; i < active->slot_count; i++) o->used |= active->slots[i].host_gradient != NULL;
    pinned->use = USE_SMALL;
    o->numbers = arena_take(pinned, 1, sizeof *o->numbers);
    o->stale = calloc((size_t)active->blocks, sizeof *o->stale);
    return o->stale || error_memory(error, "the table of blocks", (size_t)active->blocks);
}

// Where the host has newer weights than the device, they are brought; where the home is about to be read, it is ready.
static void prepare(void *context, int block) {
    Offload *o = context;
    Backend *b = o->backend;
    const Slot *slot = o->active->of_block[block];
    if (!slot || !slot->on_host) return;
    if (o->pending) offload_settle(o); // between two steps
    host_updates_wait(o->updates, slot);
    if (!o->stale[block]) return;
    o->stale[block] = false;
    b->copy(b, o->store->blocks[block], slot->weights, (size_t)slot->elements * sizeof(bf16), o->up);
    b->event_record(b, o->back, o->up);
    b->event_wait(b, o->back, NULL);
}

bool offload_open(Offload *o, Error *error) {
    Backend *b = o->backend;
    if (!o->used) return true;
    o->down = b->stream_create(b, error);
    o->up = o->down ? b->stream_create(b, error) : NULL;
    o->complete = o->up ? b->event_create(b, error) : NULL;
    o->gone = o->complete ? b->event_create(b, error) : NULL;
    o->arrived = o->gone ? b->event_create(b, error) : NULL;
    o->back = o->arrived ? b->event_create(b, error) : NULL;
    if (!o->back) return false;
    o->store->prepare = prepare;
    o->store->prepare_context = o;
    return true;
}

void offload_free(Offload *o) {
    Backend *b = o->backend;
    if (o->down) b->synchronize(b, o->down);
    if (o->up) b->synchronize(b, o->up);
    if (o->updates) host_updates_wait(o->updates, NULL);
    Event *events[] = {o->complete, o->gone, o->arrived, o->back};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i]) b->event_free(b, events[i]);
    if (o->down) b->stream_free(b, o->down);
    if (o->up) b->stream_free(b, o->up);
    free(o->stale);
    *o = (Offload){0};
}

// ---- gradients ----

void offload_before_gradient(Offload *o) {
    if (o->leaving) o->backend->event_wait(o->backend, o->gone, NULL);
    o->leaving = false;
}

void offload_mark(Offload *o) {
    o->backend->event_record(o->backend, o->complete, NULL);
    o->backend->event_wait(o->backend, o->complete, o->down);
}

void offload_gradient(Offload *o, Slot *slot) {
    Backend *b = o->backend;
    if (slot->on_host) host_updates_wait(o->updates, slot); // it still reads the last step's gradient there
    b->copy(b, slot->host_gradient, slot->gradient, (size_t)slot->gradient_elements * sizeof(float), o->down);
    b->event_record(b, o->gone, o->down);
    o->leaving = true;
}

void offload_gradient_back(Offload *o, const Slot *slot) {
    Backend *b = o->backend;
    if (o->leaving) {
        b->event_wait(b, o->gone, o->up); // the last one that left: all have, and the buffer is free
        o->leaving = false;
    } else {
        b->event_record(b, o->complete, NULL);
        b->event_wait(b, o->complete, o->up); // the update has read the gradient that came back last
    }
    b->copy(b, slot->gradient, slot->host_gradient, (size_t)slot->gradient_elements * sizeof(float), o->up);
    b->event_record(b, o->back, o->up);
    b->event_wait(b, o->back, NULL);
}

void offload_end_step(Offload *o, double learning_rate, const StepNumbers *numbers) {
    Backend *b = o->backend;
    if (!o->updates) return;
    b->copy(b, o->numbers, numbers, sizeof *numbers, o->down);
    b->event_record(b, o->arrived, o->down);
    o->learning_rate = learning_rate;
    o->touched = o->rows ? batch_rows_current(o->rows) : NULL;
    o->pending = true;
}

// ---- updates ----

static HostUpdate update_of(const Offload *o, Slot *slot) {
    return (HostUpdate){.slot = slot,
                        .step =
                            slot_step(slot, o->settings, o->learning_rate, &o->numbers->clip_scale, &o->numbers->skip)};
}

// E by rows: those of the next batch first, waited for; the others when the rest has been queued.
static void add_embedding(Offload *o, Slot *slot, const RowSet *next, HostUpdate *rest) {
    const int32_t *places = o->touched->places;
    *rest = update_of(o, slot);
    rest->rows = (SlotRows){places, NULL, o->rows->vocabulary, o->rows->columns};
    if (!next) return;
    HostUpdate first = *rest;
    first.rows = (SlotRows){places, next->rows, next->count, o->rows->columns};
    rest->rows.rows = o->rows->others;
    rest->rows.count = batch_rows_others(o->rows);
    host_updates_add(o->updates, &first);
    host_updates_wait(o->updates, slot);
}

static void add_block(Offload *o, int block) {
    Slot *slot = o->active->of_block[block];
    if (!slot || !slot->on_host) return;
    HostUpdate update = update_of(o, slot);
    host_updates_add(o->updates, &update);
    if (store_is_resident(o->store, block))
        o->stale[block] = true;
    else
        store_home_changed(o->store, block);
}

void offload_begin_step(Offload *o, const RowSet *next) {
    if (!o->pending) return;
    Slot *embedding = o->active->of_block[0];
    HostUpdate rest;
    o->pending = false;
    o->backend->event_synchronize(o->backend, o->arrived);
    o->leaving = false;
    if (embedding->on_host) add_embedding(o, embedding, next, &rest);
    for (int block = 1; block < o->active->blocks; block++) add_block(o, block);
    if (embedding->on_host) host_updates_add(o->updates, &rest);
}

void offload_settle(Offload *o) {
    if (!o->updates) return;
    offload_begin_step(o, NULL);
    host_updates_wait(o->updates, NULL);
    for (int block = 0; block < o->active->blocks; block++)
        if (o->stale[block]) prepare(o, block);
}
