// shared.cc - SHARED variables, dynamic shared memory, and cp.async, whose data arrive only when they are waited for.
#include "shared.h"
#include "block.h"
#include "checker.h"
#include "report.h"
#include <sys/mman.h>

namespace emulator {

SharedMemory shared_memory;

// A variable is known by the address of a static beside its declaration: a section attribute would be shorter, but gcc
// ignores it on statics of templates.
struct SharedVariable {
    const void *key;
    char *memory;
    size_t bytes;
};
enum { VARIABLE_LIMIT = 32, GAP = 64, DYNAMIC_OFFSET = 64 << 10 };
static SharedVariable variables[VARIABLE_LIMIT]; // of the running block
static int variable_count;
static size_t variable_bytes, variable_end; // without and with gaps

static void reserve() {
    void *memory = mmap(nullptr, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("emulator: shared memory");
        exit(1);
    }
    shared_memory.memory = static_cast<char *>(memory);
    shared_memory.dynamic = shared_memory.memory + DYNAMIC_OFFSET;
}

void shared_new_block() {
    if (!shared_memory.memory) reserve();
    variable_count = 0;
    variable_bytes = variable_end = 0;
    shared_memory.dynamic_size = block.launch->dynamic_shared;
    memset(shared_memory.dynamic, 0xff, shared_memory.dynamic_size);
}

void *shared_variable(const void *key, size_t bytes, Place place) {
    for (int i = 0; i < variable_count; i++)
        if (variables[i].key == key) return variables[i].memory;
    if (variable_count == VARIABLE_LIMIT || variable_bytes + bytes > STATIC_SHARED_LIMIT ||
        variable_bytes + bytes + shared_memory.dynamic_size > SHARED_LIMIT) {
        report("shared-limit", "%zu bytes of SHARED variables and %zu dynamic ones are too many, at %s",
               variable_bytes + bytes, shared_memory.dynamic_size, place_text(place).c_str());
        abandon_launch(cudaErrorInvalidConfiguration);
    }
    char *memory = shared_memory.memory + variable_end;
    variables[variable_count++] = {key, memory, bytes};
    variable_bytes += bytes;
    variable_end = (variable_end + bytes + GAP + 15) / 16 * 16;
    memset(memory, 0xff, bytes);
    return memory;
}

void *dynamic_shared() {
    return shared_memory.dynamic;
}

bool in_shared(const void *memory) {
    return static_cast<size_t>(static_cast<const char *>(memory) - shared_memory.memory) < SHARED_BYTES;
}

bool inside_shared(const void *from, size_t bytes) {
    const char *first = static_cast<const char *>(from);
    for (int i = 0; i < variable_count; i++)
        if (first >= variables[i].memory && first + bytes <= variables[i].memory + variables[i].bytes) return true;
    return first >= shared_memory.dynamic && first + bytes <= shared_memory.dynamic + shared_memory.dynamic_size;
}

// ---- cp.async ------------------------------------------------------------------------------------------------------

enum { COPY_BYTES = 16 };

static bool aligned(const void *memory) {
    return reinterpret_cast<uintptr_t>(memory) % COPY_BYTES == 0;
}

void copy_async_16(void *shared, const void *global, int bytes, Place place) {
    if (!inside_shared(shared, COPY_BYTES)) {
        report("cp.async", "the destination is not shared memory, at %s", place_text(place).c_str());
        abandon_launch(cudaErrorIllegalAddress);
    }
    if (!aligned(shared) || (bytes > 0 && !aligned(global))) {
        report("unaligned", "cp.async with an address that is no multiple of 16, at %s", place_text(place).c_str());
        abandon_launch(cudaErrorMisalignedAddress);
    }
    if (bytes < 0 || bytes > COPY_BYTES) {
        report("cp.async", "%d bytes, at %s", bytes, place_text(place).c_str());
        return;
    }
    if (bytes > 0) check_access(global, static_cast<size_t>(bytes), ACCESS_READ, nullptr, place);
    check_access(shared, COPY_BYTES, ACCESS_SPOIL, nullptr, place);
    memset(shared, 0xff, COPY_BYTES);
    running->copies.push_back({shared, global, bytes, running->groups});
}

void copy_async_commit() {
    running->groups++;
}

void copy_async_wait(int pending_groups, Place place) {
    std::vector<AsyncCopy> &copies = running->copies;
    size_t kept = 0;
    for (size_t i = 0; i < copies.size(); i++) {
        AsyncCopy copy = copies[i];
        if (copy.group >= running->groups - pending_groups) {
            copies[kept++] = copy;
            continue;
        }
        check_access(copy.to, COPY_BYTES, ACCESS_WRITE, nullptr, place);
        memset(copy.to, 0, COPY_BYTES);
        if (copy.bytes > 0) memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
    }
    copies.resize(kept);
}

} // namespace emulator
