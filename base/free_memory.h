// free_memory.h - how much memory this process can still take.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Bytes that the machine has free and the process's control group (a container) allows; UINT64_MAX where that cannot be
// known.
uint64_t free_memory(void);

#ifdef __cplusplus
}
#endif
