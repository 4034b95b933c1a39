// launch.cc - a launch: is its shape legal, and its blocks in the order in force.
#include "block.h"
#include "card.h"
#include "report.h"
#include "shared.h"
#include "streams.h"
#include <unordered_map>

namespace emulator {

EmulatorThreadOrder thread_order;
uint64_t thread_seed;
static std::unordered_map<const void *, size_t> shared_limits; // by kernel, where cudaFuncSetAttribute gave one

static size_t shared_limit(const void *function) {
    auto found = shared_limits.find(function);
    return found == shared_limits.end() ? DEFAULT_SHARED_LIMIT : found->second;
}

static bool legal(const LaunchShape &shape) {
    const dim3 &grid = shape.grid, &size = shape.block;
    uint64_t threads = static_cast<uint64_t>(size.x) * size.y * size.z;
    bool ok =
        threads > 0 && threads <= THREAD_LIMIT && size.x <= THREAD_LIMIT && size.y <= THREAD_LIMIT && size.z <= 64;
    ok = ok && grid.x > 0 && grid.x <= INT32_MAX && grid.y > 0 && grid.y <= 65535 && grid.z > 0 && grid.z <= 65535;
    return ok && shape.dynamic_shared <= shared_limit(shape.function);
}

// The number of the block that comes at `turn`: every number once.
static uint64_t block_at(uint64_t turn, uint64_t blocks) {
    const uint64_t prime = 4294967291u; // larger than any grid that runs here, so it divides none
    if (thread_order == THREADS_REVERSE) return blocks - 1 - turn;
    if (thread_order == THREADS_RANDOM) return (turn * prime + thread_seed % blocks) % blocks;
    return turn;
}

void run_grid(const LaunchShape &shape, const KernelCall &call) {
    uint64_t plane = static_cast<uint64_t>(shape.grid.x) * shape.grid.y, blocks = plane * shape.grid.z;
    block.launch = &shape;
    block.call = &call;
    for (uint64_t turn = 0; turn < blocks && sticky_error() == cudaSuccess; turn++) {
        uint64_t number = block_at(turn, blocks);
        block_run({static_cast<unsigned>(number % shape.grid.x), static_cast<unsigned>(number % plane / shape.grid.x),
                   static_cast<unsigned>(number / plane)});
        if (abandoned_with() != cudaSuccess) set_sticky_error(abandoned_with());
    }
    block.launch = nullptr;
}

void launch(const LaunchShape &shape, cudaStream_t stream, std::unique_ptr<KernelCall> call) {
    Lock lock;
    if (!legal(shape)) {
        report("launch", "%s: grid (%u,%u,%u), block (%u,%u,%u), %zu bytes of dynamic shared memory of %zu", shape.name,
               shape.grid.x, shape.grid.y, shape.grid.z, shape.block.x, shape.block.y, shape.block.z,
               shape.dynamic_shared, shared_limit(shape.function));
        set_last_error(cudaErrorInvalidConfiguration);
        return;
    }
    std::shared_ptr<KernelCall> kept = std::move(call);
    Work work;
    work.name = shape.name;
    work.failure = failure_of_launch();
    work.finish = [shape, kept] { run_grid(shape, *kept); };
    issue(stream, std::move(work));
}

} // namespace emulator

using namespace emulator;

void emulator_thread_order(EmulatorThreadOrder wanted, uint64_t seed) {
    Lock lock;
    thread_order = wanted;
    thread_seed = seed;
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value) {
    Lock lock;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        static_cast<size_t>(value) > SHARED_LIMIT)
        return result(cudaErrorInvalidValue);
    shared_limits[function] = static_cast<size_t>(value);
    return result(cudaSuccess);
}
