// fibers.cc - stacks and the switch between them; see fibers.h.
#include "fibers.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

namespace emulator {

char *fiber_stacks(Fiber *fibers, int count) {
    size_t each = STACK_BYTES + STACK_GUARD;
    void *memory = mmap(nullptr, each * static_cast<size_t>(count), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("emulator: no memory for the stacks of a block");
        exit(1);
    }
    char *stacks = static_cast<char *>(memory);
    for (int i = 0; i < count; i++) {
        char *guard = stacks + each * static_cast<size_t>(i);
        mprotect(guard, STACK_GUARD, PROT_NONE);
        fibers[i].stack = guard + STACK_GUARD;
    }
    return stacks;
}

#ifdef EMULATOR_USES_UCONTEXT

// Portable, but two system calls a switch.
void fiber_prepare(Fiber &fiber, void (*entry)()) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, entry, 0);
}

void fiber_switch(Fiber &from, Fiber &to) {
    swapcontext(&from.context, &to.context);
}

#else

// The registers that a function must keep (System V x86-64 ABI) go to the stack, the stack pointer to *stopped; then
// the same backwards from the other stack.
extern "C" void emulator_switch_stacks(void **stopped, void *resumed);
asm(R"(
    .text
    .type emulator_switch_stacks, @function
emulator_switch_stacks:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret
    .size emulator_switch_stacks, . - emulator_switch_stacks
)");

enum { SAVED_REGISTERS = 6 };

void fiber_prepare(Fiber &fiber, void (*entry)()) {
    // From the top: an empty return address, which leaves the stack as a call would, the entry, the registers.
    void **top = reinterpret_cast<void **>(fiber.stack + STACK_BYTES) - (SAVED_REGISTERS + 2);
    memset(top, 0, (SAVED_REGISTERS + 2) * sizeof(void *));
    top[SAVED_REGISTERS] = reinterpret_cast<void *>(entry);
    fiber.stack_pointer = top;
}

void fiber_switch(Fiber &from, Fiber &to) {
    emulator_switch_stacks(&from.stack_pointer, to.stack_pointer);
}

#endif

} // namespace emulator
