// block.cc - the scheduler of one block's threads, its barrier, and what to say when nothing can go on.
#include "block.h"
#include "checker.h"
#include "report.h"
#include "shared.h"

namespace emulator {

Block block;
Thread *running;

static cudaError_t abandoned;

uint3 thread_index() {
    return running->index;
}
uint3 block_index() {
    return block.index;
}
dim3 grid_size() {
    return block.launch->grid;
}
dim3 block_size() {
    return block.launch->block;
}
int lane_index() {
    return running->id % WARP_SIZE;
}

std::string running_thread_text() {
    if (!block.launch) return "";
    char text[300];
    int used = snprintf(text, sizeof text, "kernel %.160s block (%u,%u,%u)", block.launch->name, block.index.x,
                        block.index.y, block.index.z);
    if (running)
        snprintf(text + used, sizeof text - static_cast<size_t>(used), " thread (%u,%u,%u)", running->index.x,
                 running->index.y, running->index.z);
    return text;
}

uint32_t next_random(uint64_t &state) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return static_cast<uint32_t>(state * 0x2545f4914f6cdd1dull >> 32);
}

// ---- which thread runs next ----------------------------------------------------------------------------------------

void warp_ready(int warp, uint32_t lanes) {
    if (lanes == 0) return;
    block.ready[warp] |= lanes;
    block.ready_warps |= 1u << warp;
}

void thread_ready(int id) {
    warp_ready(id / WARP_SIZE, 1u << id % WARP_SIZE);
}

static int highest(uint32_t bits) {
    return 31 - __builtin_clz(bits);
}

static int random_bit(uint32_t bits) {
    int place = static_cast<int>(next_random(block.random) % WARP_SIZE);
    uint32_t turned = bits >> place | static_cast<uint32_t>(static_cast<uint64_t>(bits) << (32 - place));
    return (place + __builtin_ctz(turned)) % WARP_SIZE;
}

// One of the set bits, by the order in force. current >= 0: that one if it is set, else the next one after it.
static inline int choose(uint32_t bits, int current) {
    if (thread_order == THREADS_RANDOM) return random_bit(bits);
    bool forward = thread_order == THREADS_FORWARD;
    if (current < 0) return forward ? __builtin_ctz(bits) : highest(bits);
    if (bits >> current & 1) return current;
    uint32_t below = (1u << current) - 1, after = forward ? bits & ~below : bits & below;
    if (after == 0) after = bits;
    return forward ? __builtin_ctz(after) : highest(after);
}

// Takes a thread that can run; -1 when there is none.
static int take_ready() {
    if (block.ready_warps == 0) return -1;
    int warp = block.warp = choose(block.ready_warps, block.warp);
    int lane = choose(block.ready[warp], -1);
    block.ready[warp] &= ~(1u << lane);
    if (block.ready[warp] == 0) block.ready_warps &= ~(1u << warp);
    return warp * WARP_SIZE + lane;
}

// ---- the block barrier ---------------------------------------------------------------------------------------------

static void release_barrier() {
    for (int i = 0; i < block.size; i++) {
        if (block.threads[i].done) continue;
        block.threads[i].visit = nullptr;
        thread_ready(i);
    }
    block.at_barrier = 0;
    block.warp = -1;
    checker_barrier();
}

static bool same_place(Place a, Place b) {
    return a.line == b.line && strcmp(a.file, b.file) == 0;
}

void block_barrier(Place place) {
    Visit visit = {};
    visit.kind = Meeting::BLOCK_BARRIER;
    visit.place = place;
    running->visit = &visit;
    if (++block.at_barrier == block.size) {
        for (int i = 0; i < block.size; i++) {
            Place other = block.threads[i].visit->place;
            if (same_place(other, place)) continue;
            report("divergent-barrier", "waits at %s, thread %d at %s", place_text(place).c_str(), i,
                   place_text(other).c_str());
            break;
        }
        release_barrier();
    }
    thread_wait();
}

// ---- nothing can run -----------------------------------------------------------------------------------------------

static void list_waiting() {
    const Visit *last = nullptr;
    int first = 0;
    for (int i = 0; i <= block.size; i++) {
        const Visit *visit = i < block.size && !block.threads[i].done ? block.threads[i].visit : nullptr;
        bool same = visit && last && same_place(visit->place, last->place) && visit->mask == last->mask;
        if (i < block.size && same) continue;
        if (last)
            report_more("threads %d to %d wait at %s, mask %08x", first, i - 1, place_text(last->place).c_str(),
                        last->mask);
        last = visit;
        first = i;
    }
}

// Says who waits where. True when the block can go on: all that are left wait at the barrier.
static bool resolve_standstill() {
    Thread *thread = running;
    running = nullptr;
    int ended = block.size - block.alive;
    bool at_barrier = block.at_barrier == block.alive;
    if (at_barrier)
        report("divergent-barrier", "%d threads have ended, %d wait at __syncthreads", ended, block.alive);
    else
        report("deadlock", "%d threads have ended, %d wait at __syncthreads, %d in warp functions", ended,
               block.at_barrier, block.alive - block.at_barrier);
    list_waiting();
    running = thread;
    if (at_barrier) release_barrier();
    return at_barrier;
}

// ---- switching -----------------------------------------------------------------------------------------------------

// Back to the code that runs blocks: all threads have ended, or the block is given up.
static void leave_block(Fiber *from, bool stuck) {
    block.stuck = stuck;
    running = nullptr;
    fiber_switch(*from, block.outside);
}

// Goes on with another thread. Returns when the caller's thread runs again or, when it has ended, when a fresh thread
// is to be started on its fiber.
static void switch_thread(bool ended) {
    Thread *thread = running;
    Fiber *fiber = block.fiber;
    int id = take_ready();
    if (id < 0 && block.alive > 0 && resolve_standstill()) id = take_ready();
    if (id < 0) {
        if (ended) block.idle[block.idle_count++] = fiber;
        leave_block(fiber, block.alive > 0);
        return;
    }
    Thread *next = running = &block.threads[id];
    if (next == thread) return;
    if (!next->started) {
        next->started = true;
        next->fiber = ended ? fiber : block.idle[--block.idle_count];
        if (ended) return;
    } else if (ended) {
        block.idle[block.idle_count++] = fiber;
    }
    block.fiber = next->fiber;
    fiber_switch(*fiber, *next->fiber);
}

void thread_wait() {
    switch_thread(false);
}

static void fiber_entry() {
    for (;;) {
        block.call->run_thread();
        running->done = true;
        block.alive--;
        switch_thread(true);
    }
}

void abandon_launch(cudaError_t error) {
    abandoned = error;
    leave_block(block.fiber, true);
    __builtin_unreachable(); // the fiber is never resumed
}

cudaError_t abandoned_with() {
    return abandoned;
}

// ---- running a block -----------------------------------------------------------------------------------------------

static void prepare_fibers() {
    if (!block.stacks) block.stacks = fiber_stacks(block.fibers, THREAD_LIMIT);
    block.idle_count = 0;
    for (int i = THREAD_LIMIT; i-- > 0;) {
        fiber_prepare(block.fibers[i], fiber_entry);
        block.idle[block.idle_count++] = &block.fibers[i];
    }
    block.stuck = false;
}

static void prepare_threads() {
    dim3 size = block.launch->block;
    block.size = block.alive = static_cast<int>(size.x * size.y * size.z);
    block.at_barrier = 0;
    block.warp = -1;
    block.ready_warps = 0;
    memset(block.ready, 0, sizeof block.ready);
    memset(block.arrived, 0, sizeof block.arrived);
    for (int i = 0; i < block.size; i++) {
        Thread &thread = block.threads[i];
        unsigned id = static_cast<unsigned>(i);
        thread.index = {id % size.x, id / size.x % size.y, id / size.x / size.y};
        thread.id = i;
        thread.fiber = nullptr;
        thread.visit = nullptr;
        thread.started = thread.done = false;
        thread.copies.clear();
        thread.groups = 0;
        thread_ready(i);
    }
}

void block_run(uint3 index) {
    if (!block.stacks || block.stuck) prepare_fibers();
    block.index = index;
    block.random = (thread_seed + index.x + 1 + (static_cast<uint64_t>(index.y) << 32)) * 0x9e3779b97f4a7c15ull | 1;
    abandoned = cudaSuccess;
    prepare_threads();
    shared_new_block();
    checker_new_block();
    running = &block.threads[take_ready()];
    running->started = true;
    block.fiber = running->fiber = block.idle[--block.idle_count];
    fiber_switch(block.outside, *block.fiber);
}

} // namespace emulator
