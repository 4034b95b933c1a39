// host_memory.h - large pieces of ordinary memory, on huge pages where the system gives them.
#pragma once
#include "base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

// Memory of undefined contents, aligned to 256 bytes at least. NULL with a message that says `what` needs how much; the
// caller's, free with free().
void *host_memory_allocate(size_t bytes, const char *what, Error *error);

#ifdef __cplusplus
}
#endif
