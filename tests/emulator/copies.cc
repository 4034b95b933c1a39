// copies.cc - allocation, copies and fills of the runtime.
#include "block.h"
#include "card.h"
#include "checker.h"
#include "emulator.h"
#include "library.h"
#include "memory.h"
#include "report.h"
#include "streams.h"
#include <sys/mman.h>

namespace emulator {

static long allocations;
static size_t pinned_limit = SIZE_MAX;

enum class Home { DEVICE, PINNED, PAGEABLE };

static Home home_of(const void *memory) {
    if (device_memory.contains(memory)) return Home::DEVICE;
    return pinned_memory.contains(memory) ? Home::PINNED : Home::PAGEABLE;
}

static bool kind_fits(enum cudaMemcpyKind kind, Home to, Home from) {
    bool to_device = to == Home::DEVICE, from_device = from == Home::DEVICE;
    switch (kind) {
    case cudaMemcpyHostToHost:
        return !to_device && !from_device;
    case cudaMemcpyHostToDevice:
        return to_device && !from_device;
    case cudaMemcpyDeviceToHost:
        return !to_device && from_device;
    case cudaMemcpyDeviceToDevice:
        return to_device && from_device;
    case cudaMemcpyDefault:
        return true;
    }
    return false;
}

// Memory that the emulator gave out must hold all of it.
static bool in_bounds(const void *memory, size_t bytes, const char *what) {
    Home home = home_of(memory);
    bool ok = home == Home::DEVICE   ? device_memory.holds(memory, bytes)
              : home == Home::PINNED ? pinned_memory.holds(memory, bytes)
                                     : memory != nullptr;
    if (!ok) report("out-of-bounds", "%s of %zu bytes at %p, not in one allocation", what, bytes, memory);
    return ok;
}

static const char *copy_name(Home to, Home from) {
    if (to == Home::DEVICE) return from == Home::DEVICE ? "a copy within the device" : "a copy to the device";
    return from == Home::DEVICE ? "a copy from the device" : "a copy between host buffers";
}

static void move(void *to, const void *from, size_t bytes) {
    bool to_device = home_of(to) == Home::DEVICE, from_device = home_of(from) == Home::DEVICE;
    if (to_device && from_device)
        check_device_copy(to, from, bytes);
    else if (to_device)
        check_range(to, bytes, ACCESS_WRITE);
    else
        check_range(from, bytes, ACCESS_READ);
    memmove(to, from, bytes);
}

static void spoil(void *memory, size_t bytes) {
    check_range(memory, bytes, ACCESS_SPOIL);
    memset(memory, 0xff, bytes);
}

static cudaError_t copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    if (bytes == 0) return result(cudaSuccess);
    Home target = home_of(to), source = home_of(from);
    if (!kind_fits(kind, target, source)) {
        report("copy-kind", "the kind %d does not fit %s", static_cast<int>(kind), copy_name(target, source));
        return result(cudaErrorInvalidValue);
    }
    if (!in_bounds(to, bytes, "write") || !in_bounds(from, bytes, "read")) return result(cudaErrorInvalidValue);
    Work work;
    work.name = copy_name(target, source);
    work.begin = [=] { spoil(to, bytes); };
    if (source == Home::PAGEABLE) { // the driver takes it into a buffer of its own before it returns
        auto staged = std::make_shared<std::vector<char>>(static_cast<const char *>(from),
                                                          static_cast<const char *>(from) + bytes);
        work.finish = [=] { move(to, staged->data(), bytes); };
    } else {
        work.finish = [=] { move(to, from, bytes); };
    }
    cudaError_t status = issue(stream, std::move(work));
    if (status == cudaSuccess && target == Home::PAGEABLE) status = wait_for_stream(stream);
    return status;
}

static cudaError_t fill(void *memory, int value, size_t bytes, cudaStream_t stream) {
    if (bytes == 0) return result(cudaSuccess);
    if (!in_bounds(memory, bytes, "fill")) return result(cudaErrorInvalidValue);
    Work work;
    work.name = "a fill of memory";
    work.finish = [=] {
        check_range(memory, bytes, ACCESS_WRITE);
        memset(memory, value, bytes);
    };
    return issue(stream, std::move(work));
}

} // namespace emulator

using namespace emulator;

void emulator_pinned_limit(size_t bytes) {
    Lock lock;
    pinned_limit = bytes;
}

long emulator_allocations(void) {
    return allocations;
}

bool emulator_checked(void) {
    return checker_on();
}

cudaError_t cudaMalloc(void **memory, size_t bytes) {
    Lock lock;
    allocations++;
    *memory = nullptr;
    if (bytes == 0) return result(cudaSuccess);
    bool room = device_memory.allocated <= card_memory() && bytes <= card_memory() - device_memory.allocated;
    if (room) *memory = device_memory.allocate(bytes);
    if (!*memory) return result(cudaErrorMemoryAllocation);
    checker_allocated(*memory, bytes);
    return result(cudaSuccess);
}

cudaError_t emulator::library_reserve(void **memory, size_t bytes) {
    cudaError_t status = cudaMalloc(memory, bytes);
    if (status == cudaSuccess) madvise(*memory, bytes, MADV_DONTNEED);
    return status;
}

// Waits for all work, as a card does.
cudaError_t cudaFree(void *memory) {
    Lock lock;
    if (!memory) return result(cudaSuccess);
    wait_for_all();
    auto found = device_memory.blocks.find(static_cast<char *>(memory));
    size_t bytes = found == device_memory.blocks.end() ? 0 : found->second;
    if (!device_memory.release(memory)) {
        report("free", "%p is not device memory, or no longer", memory);
        return result(cudaErrorInvalidValue);
    }
    checker_released(memory, bytes);
    return result(cudaSuccess);
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned) {
    Lock lock;
    allocations++;
    bool room = pinned_memory.allocated <= pinned_limit && bytes <= pinned_limit - pinned_memory.allocated;
    *memory = bytes > 0 && room ? pinned_memory.allocate(bytes) : nullptr;
    return result(bytes > 0 && !*memory ? cudaErrorMemoryAllocation : cudaSuccess);
}

cudaError_t cudaMallocHost(void **memory, size_t bytes) {
    return cudaHostAlloc(memory, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *memory) {
    Lock lock;
    if (!memory) return result(cudaSuccess);
    wait_for_all();
    if (pinned_memory.release(memory)) return result(cudaSuccess);
    report("free", "%p is not pinned memory, or no longer", memory);
    return result(cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    Lock lock;
    return copy(to, from, bytes, kind, stream);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    Lock lock;
    cudaError_t status = copy(to, from, bytes, kind, nullptr);
    return status == cudaSuccess ? wait_for_stream(nullptr) : status;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream) {
    Lock lock;
    return fill(memory, value, bytes, stream);
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes) {
    Lock lock;
    return fill(memory, value, bytes, nullptr);
}
