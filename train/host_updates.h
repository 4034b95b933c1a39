// host_updates.h - AdamW by the processor's cores, behind what the device does: a list of updates that one thread works
// through in order, on a CPU backend of its own. It touches host memory alone and never the device.
#pragma once
#include "train/slot.h"

// One update of a block's state, or of some rows of E's.
typedef struct HostUpdate {
    Slot *slot;
    AdamWStep step;
    SlotRows rows;
} HostUpdate;

typedef struct HostUpdates HostUpdates;

// threads: of the CPU backend, 0: one per processor; room: updates that can be queued at a time. NULL with a message;
// end with host_updates_free, which finishes what is queued.
HostUpdates *host_updates_create(int threads, int room, Error *error);
void host_updates_free(HostUpdates *updates); // NULL is allowed
// The backend that the slots on the host belong to.
Backend *host_updates_backend(const HostUpdates *updates);

// Queues an update: weights are slot->weights, the gradient slot->host_gradient. What it points to must stay until it
// is done. There are never more than `room` since the last time that all were waited for.
void host_updates_add(HostUpdates *updates, const HostUpdate *update);
// Waits until every queued update of this slot is done; of all slots with NULL.
void host_updates_wait(HostUpdates *updates, const Slot *slot);
