// block.h - inside the emulator: the block of threads that is running, one block at a time.
//
// A thread starts on the fiber of the thread that ended just before; another fiber is taken only when a thread has to
// wait. A kernel without barriers is so a plain loop over its threads. Threads that can go on are bits of masks.
#pragma once
#include "cuda_emulator.h"
#include "emulator.h"
#include "fibers.h"
#include <vector>

namespace emulator {

enum { THREAD_LIMIT = 1024, WARP_SIZE = 32, WARP_LIMIT = THREAD_LIMIT / WARP_SIZE };
constexpr uint32_t FULL_WARP = 0xffffffffu;

enum class Meeting { BLOCK_BARRIER, WARP_BARRIER, SHUFFLE, BALLOT, LOAD_MATRIX, MULTIPLY };

// What a thread brings to a barrier or a collective, and where its result goes. Lies on the thread's stack.
struct Visit {
    Meeting kind;
    uint32_t mask; // lanes that meet; unused by the block barrier
    Place place;
    uint64_t value;       // shuffle, ballot: the lane's contribution; multiply: b0 and, in the upper half, b1
    uint64_t result;      // shuffle, ballot
    int source;           // shuffle: lane to read
    bool transposed;      // load matrix
    const void *operands; // load matrix: the row's address; multiply: a[4]
    void *registers;      // load matrix: uint32_t[4]; multiply: float d[4]
};

// A cp.async that has been issued. Its data arrive when its group is waited for.
struct AsyncCopy {
    void *to;         // 16 bytes of shared memory
    const void *from; // device memory
    int bytes;        // of them; the rest becomes zero
    int group;
};

struct Thread {
    uint3 index; // threadIdx
    int id;      // linear; its lane is id % 32
    Fiber *fiber;
    Visit *visit; // where it waits, or null
    bool started, done;
    std::vector<AsyncCopy> copies; // in the order of issue
    int groups;                    // committed so far
};

struct Block {
    Thread threads[THREAD_LIMIT];
    uint32_t ready[WARP_LIMIT], ready_warps; // threads that can run, and warps that have one
    uint32_t arrived[WARP_LIMIT];            // lanes that wait in a warp collective
    uint16_t warp_phase[WARP_LIMIT];         // warp barriers passed, for the checker
    int size, alive, at_barrier;             // threads in all, not ended, waiting at the block barrier
    int warp;                                // the warp that runs, -1 after a block barrier
    Fiber fibers[THREAD_LIMIT], *idle[THREAD_LIMIT];
    int idle_count;
    Fiber outside, *fiber; // the code that runs blocks; the fiber that runs now
    char *stacks;          // of all fibers, one run
    bool stuck;            // the last block was abandoned: its fibers are to be prepared anew
    uint3 index;           // blockIdx
    const KernelCall *call;
    const LaunchShape *launch;
    uint64_t random; // state of the generator of the random order
};

extern Block block;
extern Thread *running; // the thread that runs, null outside kernels

void block_run(uint3 index); // of block.launch and block.call

// The running thread waits until something makes it ready.
void thread_wait();
void thread_ready(int id);
void warp_ready(int warp, uint32_t lanes); // these of its threads

// Ends the running launch where it is, with a CUDA error that stays.
[[noreturn]] void abandon_launch(cudaError_t error);
cudaError_t abandoned_with(); // cudaSuccess: it was not

// A deterministic stream of random numbers (xorshift64*).
uint32_t next_random(uint64_t &state);

// In launch.cc: all blocks of a launch, in the order in force.
void run_grid(const LaunchShape &shape, const KernelCall &call);
extern EmulatorThreadOrder thread_order;
extern uint64_t thread_seed; // of the random order

} // namespace emulator
