// memory.cc - see memory.h; and the signal handler that names the fault when somebody touches closed memory.
#include "memory.h"
#include "block.h"
#include "emulator.h"
#include "report.h"
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

namespace emulator {

MemoryRange device_memory, pinned_memory;
static int open_count;
static int key = -1; // the protection key of device memory; -1: the processor or the kernel has none

enum { PAGE = 4096 };

static size_t whole_pages(size_t bytes) {
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

bool MemoryRange::contains(const void *memory) const {
    return base && static_cast<size_t>(static_cast<const char *>(memory) - base) < RANGE_BYTES;
}

bool MemoryRange::holds(const void *memory, size_t bytes) const {
    char *first = const_cast<char *>(static_cast<const char *>(memory));
    auto after = blocks.upper_bound(first);
    if (after == blocks.begin()) return false;
    const auto &[start, size] = *--after;
    size_t offset = static_cast<size_t>(first - start);
    return offset <= size && bytes <= size - offset;
}

bool MemoryRange::has_key() const {
    return this == &device_memory && key >= 0;
}

std::string MemoryRange::place_text(const void *memory) const {
    char *at = const_cast<char *>(static_cast<const char *>(memory)), text[80];
    auto after = blocks.upper_bound(at);
    if (!contains(memory) || after == blocks.begin()) {
        snprintf(text, sizeof text, "at %p", memory);
        return text;
    }
    const auto &[start, size] = *--after;
    snprintf(text, sizeof text, "byte %zu of %zu allocated", static_cast<size_t>(at - start), size);
    return text;
}

// With a protection key, opening and closing is one instruction. Without, it is a system call that takes time for every
// page.
static void take_key(char *memory) {
    key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    if (key < 0 || pkey_mprotect(memory, RANGE_BYTES, PROT_READ | PROT_WRITE, key) == 0) return;
    pkey_free(key);
    key = -1;
}

char *MemoryRange::allocate(size_t bytes) {
    if (!base) {
        void *memory = mmap(nullptr, RANGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) return nullptr;
        base = static_cast<char *>(memory);
        if (this == &device_memory) take_key(base);
    }
    if (blocks.empty() && used > RANGE_BYTES / 2) used = 0;
    size_t room = whole_pages(bytes);
    if (room < bytes || room > RANGE_BYTES - used || RANGE_BYTES - used - room < PAGE) return nullptr;
    char *memory = base + used;
    used += room + PAGE; // a page between neighbours is never opened for long, nor allocated
    if (!has_key()) mprotect(memory, room, PROT_READ | PROT_WRITE);
    OpenDevice open;
    memset(memory, 0xff, bytes);
    blocks[memory] = bytes;
    allocated += bytes;
    if (allocated > peak) peak = allocated;
    return memory;
}

bool MemoryRange::release(void *memory) {
    auto found = blocks.find(static_cast<char *>(memory));
    if (found == blocks.end()) return false;
    allocated -= found->second;
    madvise(memory, whole_pages(found->second), MADV_DONTNEED);
    if (!has_key()) mprotect(memory, whole_pages(found->second), PROT_NONE);
    blocks.erase(found);
    return true;
}

// ---- who may touch device memory -----------------------------------------------------------------------------------

static struct sigaction chained; // the handler that was there before ours

static void say(const std::string &text) {
    if (write(STDERR_FILENO, text.data(), text.size()) < 0) _exit(1);
}

static void on_fault(int number, siginfo_t *info, void *) {
    char address[32];
    snprintf(address, sizeof address, "%p", info->si_addr);
    if (device_memory.contains(info->si_addr) && !running)
        say(std::string("emulator: host-access: the host touches device memory at ") + address + "\n");
    else if (running)
        say("emulator: crash: " + running_thread_text() + ": touches " + address + "\n");
    sigaction(number, &chained, nullptr); // the access is repeated and meets what was there before
}

// A test framework may have put its own handler in place since; ours goes before it.
static void watch_faults() {
    struct sigaction ours = {}, previous;
    ours.sa_sigaction = on_fault;
    ours.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &ours, &previous);
    if (!(previous.sa_flags & SA_SIGINFO) || previous.sa_sigaction != on_fault) chained = previous;
}

static void open_device(bool open) {
    if (key >= 0)
        pkey_set(key, open ? 0 : PKEY_DISABLE_ACCESS);
    else if (device_memory.used > 0)
        mprotect(device_memory.base, device_memory.used, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

OpenDevice::OpenDevice() {
    if (open_count++ == 0) open_device(true);
}

OpenDevice::~OpenDevice() {
    if (--open_count > 0) return;
    open_device(false);
    watch_faults();
}

} // namespace emulator

size_t emulator_device_peak(void) {
    return emulator::device_memory.peak;
}
