// card.h - inside the emulator: the state of the card that every call of the runtime looks at.
#pragma once
#include "cuda_runtime_api.h"
#include <mutex>

namespace emulator {

// Held during each call of the runtime or the control functions: several host threads may issue work.
struct Lock {
    std::lock_guard<std::recursive_mutex> guard;
    Lock();
};

// An error of running work stays: nothing runs from then on and every call returns it. Others are returned once.
cudaError_t sticky_error();
void set_sticky_error(cudaError_t error);
void set_last_error(cudaError_t error);
cudaError_t result(cudaError_t status); // of a call: notes it; the sticky error when there is one

cudaError_t failure_of_launch(); // what emulator_fail_launch planned for the launch that is being issued
size_t card_memory();            // bytes of device memory

} // namespace emulator
