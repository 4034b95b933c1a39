// host_memory.c - see host_memory.h.
#include "base/host_memory.h"
#include <stdlib.h>
#include <sys/mman.h>

#define ALIGNMENT 256
#define HUGE_PAGE ((size_t)2 << 20)

void *host_memory_allocate(size_t bytes, const char *what, Error *error) {
    // Large memory starts on a huge page: fewer TLB misses in the matrix products and the optimizer.
    bool large = bytes >= 2 * HUGE_PAGE;
    void *memory;
    if (posix_memalign(&memory, large ? HUGE_PAGE : ALIGNMENT, bytes ? bytes : 1)) {
        error_memory(error, what, bytes);
        return NULL;
    }
    if (large) madvise(memory, bytes, MADV_HUGEPAGE); // a wish; refused is fine
    return memory;
}
