// hooks.cc - what code compiled with -fsanitize=thread calls before every load and store, in place of the sanitizer's
// library: the checker. The names and meanings are those of the compilers' ThreadSanitizer interface.
#include "block.h"
#include "checker.h"
#include "report.h"

using namespace emulator;

// bytes > 1 with `aligned`: the compiler relies on the address being a multiple of it
static inline void hook(const void *memory, size_t bytes, Access access, bool aligned, const void *code) {
    if (!running) return;
    if (aligned && reinterpret_cast<uintptr_t>(memory) % bytes != 0) {
        report("unaligned", "access of %zu bytes at %p, at %s", bytes, memory, code_place_text(code).c_str());
        abandon_launch(cudaErrorMisalignedAddress);
    }
    check_access(memory, bytes, access, code, {nullptr, 0});
}

namespace emulator {
void atomic_access(const void *memory, size_t bytes, Place place) {
    check_access(memory, bytes, ACCESS_ATOMIC, nullptr, place);
}
} // namespace emulator

#define HOOKS(bytes)                                                                                                   \
    void __tsan_read##bytes(void *memory);                                                                             \
    void __tsan_write##bytes(void *memory);                                                                            \
    void __tsan_unaligned_read##bytes(void *memory);                                                                   \
    void __tsan_unaligned_write##bytes(void *memory);                                                                  \
    void __tsan_read##bytes(void *memory) {                                                                            \
        hook(memory, bytes, ACCESS_READ, true, __builtin_return_address(0));                                           \
    }                                                                                                                  \
    void __tsan_write##bytes(void *memory) {                                                                           \
        hook(memory, bytes, ACCESS_WRITE, true, __builtin_return_address(0));                                          \
    }                                                                                                                  \
    void __tsan_unaligned_read##bytes(void *memory) {                                                                  \
        hook(memory, bytes, ACCESS_READ, false, __builtin_return_address(0));                                          \
    }                                                                                                                  \
    void __tsan_unaligned_write##bytes(void *memory) {                                                                 \
        hook(memory, bytes, ACCESS_WRITE, false, __builtin_return_address(0));                                         \
    }

extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_read_range(void *memory, size_t bytes);
void __tsan_read_range(void *memory, size_t bytes) {
    hook(memory, bytes, ACCESS_READ, false, __builtin_return_address(0));
}
void __tsan_write_range(void *memory, size_t bytes);
void __tsan_write_range(void *memory, size_t bytes) {
    hook(memory, bytes, ACCESS_WRITE, false, __builtin_return_address(0));
}
// Called by a constructor of every object with hooks, so its presence tells that the build is the checked one.
void __tsan_init(void);
void __tsan_init(void) {
    checker_switch_on();
}
void __tsan_func_entry(void *);
void __tsan_func_entry(void *) {
}
void __tsan_func_exit(void);
void __tsan_func_exit(void) {
}
void __tsan_vptr_read(void *);
void __tsan_vptr_read(void *) {
}
void __tsan_vptr_update(void *, void *);
void __tsan_vptr_update(void *, void *) {
}
}
