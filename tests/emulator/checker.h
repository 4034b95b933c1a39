// checker.h - inside the emulator: watching every access to device and shared memory.
//
// Kernels of the checked build are compiled with -fsanitize=thread, which calls a function before every load and
// store; hooks.cc has these functions in place of the sanitizer's own library. For every two bytes of memory there is a
// Cell that tells who wrote and read them last. Time is counted in phases: a number that grows with every launch, copy,
// block and block barrier, so that comparing two numbers tells what lies between two accesses.
#pragma once
#include "cuda_device.h"
#include <vector>

namespace emulator {

enum Access {
    ACCESS_READ,
    ACCESS_WRITE,
    ACCESS_ATOMIC, // a read and a write that other atomic ones do not disturb
    ACCESS_SPOIL   // a write of nothing: the memory counts as never written
};

// Whether the kernels of this program call the hooks; otherwise all of the following do nothing.
bool checker_on();
void checker_switch_on();

void checker_allocated(const void *device, size_t bytes);
void checker_released(const void *device, size_t bytes);

// An access by the running thread of a kernel. code: the return address, or null and the place.
void check_access(const void *memory, size_t bytes, Access access, const void *code, Place place);
// An access by a copy or a library's work to device memory; other memory is ignored.
void check_range(const void *memory, size_t bytes, Access access);
// Device memory of which only a part need have been written is copied within the device.
void check_device_copy(void *to, const void *from, size_t bytes);

// A stretch of work of one stream; phases first to last.
struct WorkSpan {
    int stream;
    uint64_t sequence; // number of the work in its stream
    uint32_t first, last;
    const char *name;
};

// Work begins. unordered: earlier work of other streams that it was not made to wait for; touching what that wrote, or
// writing what that read, is a fault whatever order they ran in. Returns the first phase; checker_phase is the last.
uint32_t checker_begin_work(std::vector<WorkSpan> unordered);
uint32_t checker_phase();
void checker_new_block();
void checker_barrier();

} // namespace emulator
