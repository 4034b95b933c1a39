// shared.h - inside the emulator: the shared memory of the running block.
#pragma once
#include <stddef.h>

namespace emulator {

constexpr size_t STATIC_SHARED_LIMIT = 48 << 10;  // bytes of SHARED variables, as on a card
constexpr size_t DEFAULT_SHARED_LIMIT = 48 << 10; // dynamic bytes unless cudaFuncSetAttribute asked for more
constexpr size_t SHARED_LIMIT = 99 << 10;         // both together: compute capability 8.6 and 8.9
constexpr size_t SHARED_BYTES = 256 << 10;        // of address space

struct SharedMemory {
    char *memory;        // SHARED_BYTES: first the variables with gaps between them, then, aligned, the dynamic part
    char *dynamic;       // inside memory
    size_t dynamic_size; // bytes, of the launch
};
extern SharedMemory shared_memory;

void shared_new_block();                            // forgets the variables, spoils the contents
bool in_shared(const void *memory);                 // in the address space
bool inside_shared(const void *from, size_t bytes); // wholly in one variable, or in the dynamic part of the launch

} // namespace emulator
