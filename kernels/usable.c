// usable.c - see usable.h.
#include "kernels/usable.h"

#define HOST_SHARE   0.9                   // of the free memory; the rest is for files, tokens and the system
#define CARD_RESERVE ((uint64_t)256 << 20) // of a card's free memory, for the code of kernels, loaded at first use

uint64_t usable_share(uint64_t free_bytes) {
    return (uint64_t)((double)free_bytes * HOST_SHARE);
}

uint64_t usable_memory(Backend *backend, MemoryKind kind) {
    uint64_t bytes = backend->memory_available(backend, kind);
    if (backend->unified || kind != MEMORY_DEVICE) return usable_share(bytes);
    return bytes > CARD_RESERVE ? bytes - CARD_RESERVE : 0;
}
