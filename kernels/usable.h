// usable.h - how much of the free memory a run may plan with.
#pragma once
#include "kernels/kernels.h"

// Bytes of this kind that arenas can have: what is free, less what the backend, files and the system will take beside
// them.
uint64_t usable_memory(Backend *backend, MemoryKind kind);
// The same of host memory of which so much is free.
uint64_t usable_share(uint64_t free_bytes);
