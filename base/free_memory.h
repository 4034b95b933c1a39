// free_memory.h - how much memory there is, and how much of it this process can still take.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Bytes that the machine has, whoever uses them; UINT64_MAX where that cannot be known.
uint64_t total_memory(void);

// Bytes that the machine has free and every control group above the process allows (cgroup v1 and v2: a container,
// systemd-run -p MemoryMax=, a desktop session); UINT64_MAX where that cannot be known. Page cache that can be given
// back counts as free.
uint64_t free_memory(void);

// Bytes of it that can be pinned for a card. Under WSL2 Windows lends a card at most half of all memory, what is
// already pinned included. RLIMIT_MEMLOCK (ulimit -l) is of no account: the driver, not mlock, pins what cudaHostAlloc
// returns.
uint64_t lockable_memory(void);

// Whether the kernel is that of the Windows Subsystem for Linux.
bool running_under_wsl(void);

// The same of a machine whose /proc and /sys lie under root instead, for tests; root "" is this one.
uint64_t total_memory_under(const char *root);
uint64_t free_memory_under(const char *root);
uint64_t lockable_memory_under(const char *root);
bool running_under_wsl_under(const char *root);

#ifdef __cplusplus
}
#endif
