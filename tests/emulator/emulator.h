// emulator.h - what a test can ask of the emulated card: in which order things happen, what fails, what went wrong.
//
// Programs that run on a real card are linked with on_card.cc instead: the same functions, of which those that order
// or break something do nothing, and nothing went wrong.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Whether kernels are emulated (else a real card runs them), and whether their memory accesses are checked.
bool emulator_present(void);
bool emulator_checked(void);

// In which order the threads of a block run, and the blocks of a grid. seed: of the random order.
typedef enum { THREADS_FORWARD, THREADS_REVERSE, THREADS_RANDOM } EmulatorThreadOrder;
void emulator_thread_order(EmulatorThreadOrder order, uint64_t seed);

// When queued work is done: at once where it may be, as late as the host allows, or at random legal moments with the
// streams interleaved.
typedef enum { QUEUES_EARLY, QUEUES_LATE, QUEUES_RANDOM } EmulatorQueueOrder;
void emulator_queue_order(EmulatorQueueOrder order, uint64_t seed);

// Faults reported so far (races, accesses out of bounds, ...), each printed to stderr unless quiet.
long emulator_errors(void);
const char *emulator_first_error(void); // "" when there is none
void emulator_clear_errors(void);
void emulator_quiet(bool quiet);
// The process ends at the next fault, with exit code 1, and says nothing.
void emulator_end_at_fault(void);

// Device memory of the card (allocations beyond it fail), the most that was allocated at a time, and how many
// allocations of device and pinned memory there were so far.
void emulator_memory_limit(size_t bytes);
void emulator_pinned_limit(size_t bytes); // of pinned host memory
size_t emulator_device_peak(void);
long emulator_allocations(void);

// Waits of a stream for an event so far; the n-th from now (1: the next) is left out.
long emulator_event_waits(void);
void emulator_skip_event_wait(long n);

// The n-th launch from now (1: the next) fails with this CUDA error, noticed later as on a card.
void emulator_fail_launch(long n, int cuda_error);

// What the card is: number of cards, compute capability, driver version as CUDA counts (12040 is 12.4).
void emulator_card(int cards, int major, int minor, int driver);

// 8-row phases of ldmatrix so far, and how many of them had to be repeated for a bank conflict.
void emulator_ldmatrix(long *phases, long *conflicts);

#ifdef __cplusplus
}
#endif
