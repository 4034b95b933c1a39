// inputs.c - see inputs.h.
#include "train/inputs.h"
#include "model/uses.h"
#include <stdlib.h>

// ---- memory ----

static int64_t buffer_count(const Inputs *in) {
    return in->sweep + (in->place == INPUTS_ON_HOST ? 2 : in->place == INPUTS_DROPPED ? 1 : 0);
}

bool inputs_create(Inputs *in, Backend *backend, InputsPlace place, int layers, int64_t sweep, int64_t tokens,
                   int64_t hidden, Arena *device, Arena *pinned, Error *error) {
    int64_t elements, kept = place == INPUTS_DROPPED ? 0 : sweep * layers;
    *in = (Inputs){.backend = backend, .place = place, .layers = layers, .sweep = sweep};
    if (__builtin_mul_overflow(tokens, hidden, &elements)) elements = -1; // the arena reports it
    in->row_bytes = (size_t)hidden * backend->activation_size;
    in->bytes = calloc((size_t)sweep, sizeof *in->bytes);
    in->kept = calloc((size_t)kept + 1, sizeof *in->kept);
    in->buffers = calloc((size_t)sweep + 2, sizeof *in->buffers);
    in->current = calloc((size_t)sweep, sizeof *in->current);
    if (!in->kept || !in->buffers || !in->bytes || !in->current) {
        inputs_free(in);
        return error_memory(error, "the tables of activations", ((size_t)kept + (size_t)sweep) * sizeof *in->buffers);
    }
    device->use = pinned->use = USE_KEPT;
    for (int64_t i = 0; i < kept; i++)
        in->kept[i] = arena_take(place == INPUTS_ON_HOST ? pinned : device, elements, backend->activation_size);
    for (int64_t i = 0; i < buffer_count(in); i++)
        in->buffers[i].memory = arena_take(device, elements, backend->activation_size);
    return true;
}

bool inputs_open(Inputs *in, Error *error) {
    Backend *b = in->backend;
    if (in->place != INPUTS_ON_HOST) return true;
    in->out = b->stream_create(b, error);
    in->back = in->out ? b->stream_create(b, error) : NULL;
    in->all_out = in->back ? b->event_create(b, error) : NULL;
    in->all_made = in->all_out ? b->event_create(b, error) : NULL;
    bool ok = in->all_made != NULL;
    for (int64_t i = 0; ok && i < buffer_count(in); i++) {
        in->buffers[i].read = b->event_create(b, error);
        in->buffers[i].moved = in->buffers[i].read ? b->event_create(b, error) : NULL;
        ok = in->buffers[i].moved != NULL;
    }
    return ok;
}

void inputs_free(Inputs *in) {
    Backend *b = in->backend;
    if (in->out) b->synchronize(b, in->out);
    if (in->back) b->synchronize(b, in->back);
    for (int64_t i = 0; in->buffers && i < buffer_count(in); i++) {
        if (in->buffers[i].read) b->event_free(b, in->buffers[i].read);
        if (in->buffers[i].moved) b->event_free(b, in->buffers[i].moved);
    }
    if (in->all_out) b->event_free(b, in->all_out);
    if (in->all_made) b->event_free(b, in->all_made);
    if (in->out) b->stream_free(b, in->out);
    if (in->back) b->stream_free(b, in->back);
    free(in->kept);
    free(in->buffers);
    free(in->bytes);
    free(in->current);
    *in = (Inputs){0};
}

// ---- forward ----

// The compute stream waits until what is being copied from or to the buffer is done.
static void await(Inputs *in, InputBuffer *buffer) {
    if (buffer->moving) in->backend->event_wait(in->backend, buffer->moved, NULL);
    buffer->moving = false;
}

void inputs_begin(Inputs *in, int64_t count, bool training) {
    in->count = count;
    in->training = training;
    for (int64_t m = 0; m < in->sweep; m++) in->current[m] = (int)m;
    in->spare[0] = (int)in->sweep;
    in->spare[1] = in->place == INPUTS_ON_HOST ? (int)in->sweep + 1 : (int)in->sweep;
}

static Activation **kept_of(const Inputs *in, int l, int64_t m) {
    return &in->kept[m * in->layers + l];
}

Activation *inputs_embedded(Inputs *in, int64_t m, int64_t tokens) {
    in->bytes[m] = (size_t)tokens * in->row_bytes;
    if (in->place == INPUTS_ON_DEVICE) return *kept_of(in, 0, m);
    InputBuffer *buffer = &in->buffers[in->current[m]];
    await(in, buffer);
    return buffer->memory;
}

void inputs_forward(Inputs *in, int l, int64_t m, Activation **from, Activation **to) {
    if (in->place == INPUTS_ON_DEVICE) {
        *from = *kept_of(in, l, m);
        *to = l + 1 < in->layers ? *kept_of(in, l + 1, m) : in->buffers[m].memory;
        return;
    }
    InputBuffer *source = &in->buffers[in->current[m]], *target = &in->buffers[in->spare[0]];
    *from = source->memory;
    *to = target->memory;
    await(in, target);
    if (in->place != INPUTS_ON_HOST || !in->training) return;
    Backend *b = in->backend; // the input is complete already, so it leaves while the layer computes
    if (m == 0) {             // and so are those of all micro-batches
        b->event_record(b, in->all_made, NULL);
        b->event_wait(b, in->all_made, in->out);
    }
    b->copy(b, *kept_of(in, l, m), source->memory, in->bytes[m], in->out);
    b->event_record(b, source->moved, in->out);
    source->moving = true;
}

void inputs_forward_done(Inputs *in, int l, int64_t m) {
    (void)l;
    if (in->place == INPUTS_ON_DEVICE) return;
    int freed = in->current[m];
    in->current[m] = in->spare[0];
    in->spare[0] = in->place == INPUTS_ON_HOST ? in->spare[1] : freed;
    in->spare[1] = freed;
}

Activation *inputs_last(const Inputs *in, int64_t m) {
    return in->buffers[in->current[m]].memory;
}

// ---- backward ----

// Queues the copy of the next input that the layers will want going back, into the buffer that is free for it.
static void fetch(Inputs *in) {
    Backend *b = in->backend;
    int64_t k = in->fetched++, m = k % in->count;
    int l = in->layers - 1 - (int)(k / in->count);
    if (l < 0) return;
    InputBuffer *buffer = &in->buffers[in->spare[k % 2]];
    if (k >= 2) b->event_wait(b, buffer->read, in->back);
    b->copy(b, buffer->memory, *kept_of(in, l, m), in->bytes[m], in->back);
    b->event_record(b, buffer->moved, in->back);
    buffer->moving = true;
}

void inputs_turn(Inputs *in) {
    Backend *b = in->backend;
    if (in->place != INPUTS_ON_HOST) return;
    b->event_record(b, in->all_out, in->out);
    b->event_wait(b, in->all_out, in->back);
    b->event_record(b, in->all_made, NULL); // the forward pass has read what is in the two buffers
    b->event_wait(b, in->all_made, in->back);
    in->fetched = 0;
    fetch(in);
    fetch(in);
}

Activation *inputs_backward(Inputs *in, int l, int64_t m) {
    if (in->place == INPUTS_ON_DEVICE) return *kept_of(in, l, m);
    int64_t k = (in->layers - 1 - l) * in->count + m;
    InputBuffer *buffer = &in->buffers[in->spare[k % 2]];
    await(in, buffer);
    return buffer->memory;
}

void inputs_backward_done(Inputs *in, int l, int64_t m) {
    if (in->place != INPUTS_ON_HOST) return;
    int64_t k = (in->layers - 1 - l) * in->count + m;
    in->backend->event_record(in->backend, in->buffers[in->spare[k % 2]].read, NULL);
    fetch(in);
}
