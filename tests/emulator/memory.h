// memory.h - inside the emulator: device and pinned memory.
//
// Each kind has one long range of addresses. Addresses are not given out twice while anything of the kind is allocated,
// so that a use after the release is seen. Device memory cannot be touched by the host: its pages are closed except
// while queued work runs.
#pragma once
#include <map>
#include <stddef.h>
#include <string>

namespace emulator {

struct MemoryRange {
    char *base = nullptr;            // RANGE_BYTES of address space, null before the first allocation
    size_t used = 0;                 // bytes given out, gaps included
    std::map<char *, size_t> blocks; // what is allocated: first byte, bytes
    size_t allocated = 0;            // sum of them
    size_t peak = 0;

    bool contains(const void *memory) const; // in the range, allocated or not
    // Wholly in one allocation.
    bool holds(const void *memory, size_t bytes) const;
    std::string place_text(const void *memory) const; // "byte 12 of 256 allocated", for messages
    char *allocate(size_t bytes);                     // null when the addresses are used up
    bool release(void *memory);                       // false when it is not an allocation
    bool has_key() const;                             // it is closed by a protection key, whatever its pages say
};

constexpr size_t RANGE_BYTES = 16ull << 30;
extern MemoryRange device_memory, pinned_memory;

// While one exists the pages of device memory are open.
struct OpenDevice {
    OpenDevice();
    ~OpenDevice();
    OpenDevice(const OpenDevice &) = delete;
    OpenDevice &operator=(const OpenDevice &) = delete;
};

} // namespace emulator
