// fibers.h - a stack of its own for every CUDA thread that is under way, and switching between them.
#pragma once
#if !defined __x86_64__ || defined EMULATOR_UCONTEXT
#define EMULATOR_USES_UCONTEXT 1
#include <ucontext.h>
#endif

namespace emulator {

enum { STACK_BYTES = 128 << 10, STACK_GUARD = 4096 }; // the guard lies below each stack and cannot be touched

struct Fiber {
#ifdef EMULATOR_USES_UCONTEXT
    ucontext_t context;
#else
    void *stack_pointer; // where the registers of a stopped fiber lie
#endif
    char *stack; // lowest address
};

// count stacks, each above its guard; never freed. One contiguous run of count * (STACK_BYTES + STACK_GUARD) bytes.
char *fiber_stacks(Fiber *fibers, int count);

// The next switch to the fiber calls entry, which never returns.
void fiber_prepare(Fiber &fiber, void (*entry)());

// Stops the running code, keeps it in `from`, goes on with `to`.
void fiber_switch(Fiber &from, Fiber &to);

} // namespace emulator
