// card.cc - what the emulated card is, and its errors.
#include "card.h"
#include "emulator.h"
#include "memory.h"
#include "report.h"
#include "shared.h"
#include <stdio.h>
#include <string.h>

namespace emulator {

struct Card {
    int count = 1;
    int major = 8, minor = 9;
    int driver = CUDART_VERSION;
    size_t memory = 8ull << 30; // bytes
};
static Card card;
static cudaError_t last_error, sticky;
static long failing_launch; // launches until the one that fails, 0: none
static cudaError_t launch_failure;

static std::recursive_mutex &mutex() {
    static std::recursive_mutex one;
    return one;
}

Lock::Lock() : guard(mutex()) {
}

cudaError_t sticky_error() {
    return sticky;
}

void set_sticky_error(cudaError_t error) {
    if (sticky == cudaSuccess) sticky = error;
}

void set_last_error(cudaError_t error) {
    last_error = error;
}

cudaError_t result(cudaError_t status) {
    if (sticky != cudaSuccess) return sticky;
    if (status != cudaSuccess) last_error = status;
    return status;
}

cudaError_t failure_of_launch() {
    if (failing_launch == 0 || --failing_launch > 0) return cudaSuccess;
    return launch_failure;
}

size_t card_memory() {
    return card.memory;
}

// What every call says when there is no card to talk to.
static cudaError_t missing() {
    if (card.driver < CUDART_VERSION) return cudaErrorInsufficientDriver;
    return card.count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

} // namespace emulator

using namespace emulator;

// ---- control -------------------------------------------------------------------------------------------------------

void emulator_card(int cards, int major, int minor, int driver) {
    Lock lock;
    card.count = cards;
    card.major = major;
    card.minor = minor;
    card.driver = driver;
}

void emulator_memory_limit(size_t bytes) {
    Lock lock;
    card.memory = bytes;
}

void emulator_fail_launch(long n, int cuda_error) {
    Lock lock;
    failing_launch = n;
    launch_failure = static_cast<cudaError_t>(cuda_error);
}

void emulator_clear_errors(void) {
    Lock lock;
    forget_reports();
    sticky = last_error = cudaSuccess;
    failing_launch = 0;
}

bool emulator_present(void) {
    return true;
}

// ---- runtime -------------------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int *count) {
    Lock lock;
    *count = missing() == cudaSuccess ? card.count : 0;
    return result(missing());
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device) {
    Lock lock;
    if (missing() != cudaSuccess) return result(missing());
    if (device < 0 || device >= card.count) return result(cudaErrorInvalidDevice);
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "Emulated card %d", device);
    properties->totalGlobalMem = card.memory;
    properties->sharedMemPerBlock = DEFAULT_SHARED_LIMIT;
    properties->sharedMemPerBlockOptin = SHARED_LIMIT;
    properties->sharedMemPerMultiprocessor = 100 << 10;
    properties->regsPerBlock = 65536;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->major = card.major;
    properties->minor = card.minor;
    properties->multiProcessorCount = 4; // few, so that kernels that fill a card stay small
    properties->pciBusID = device + 1;
    return result(cudaSuccess);
}

cudaError_t cudaSetDevice(int device) {
    Lock lock;
    if (missing() != cudaSuccess) return result(missing());
    return result(device >= 0 && device < card.count ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaGetDevice(int *device) {
    Lock lock;
    *device = 0;
    return result(missing());
}

cudaError_t cudaSetDeviceFlags(unsigned) {
    Lock lock;
    return result(missing());
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = card.driver;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    Lock lock;
    if (missing() != cudaSuccess) return result(missing());
    *total = card.memory;
    *available = device_memory.allocated < card.memory ? card.memory - device_memory.allocated : 0;
    return result(cudaSuccess);
}

cudaError_t cudaGetLastError(void) {
    Lock lock;
    cudaError_t error = result(last_error);
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) {
    Lock lock;
    return result(last_error);
}

struct ErrorText {
    cudaError_t error;
    const char *name, *text; // NVIDIA's words
};
static const ErrorText error_texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
};

static const ErrorText &text_of(cudaError_t error) {
    static const ErrorText unknown = {cudaSuccess, "unrecognized error code", "unrecognized error code"};
    for (const ErrorText &entry : error_texts)
        if (entry.error == error) return entry;
    return unknown;
}

const char *cudaGetErrorName(cudaError_t error) {
    return text_of(error).name;
}

const char *cudaGetErrorString(cudaError_t error) {
    return text_of(error).text;
}
