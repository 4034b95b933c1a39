// cards.cu - the cards of this machine, whether they can be used, and how fast the host reaches them; see cards.h.
#include "kernels/cuda/cards.h"
#include "kernels/cuda/cuda.cuh"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINK_BYTES   ((size_t)64 << 20)
#define LINK_REPEATS 5

// ---- the build -----------------------------------------------------------------------------------------------------

int cuda_build_version(void) {
    return CUDART_VERSION;
}

#define AS_TEXT(words) #words
#define TEXT_OF(macro) AS_TEXT(macro)

const char *cuda_build_architectures(void) {
#ifdef CUDA_ARCHITECTURES
    return TEXT_OF(CUDA_ARCHITECTURES);
#else
    return "";
#endif
}

// Machine code runs on its own major version from its minor version on, PTX on everything from its version on.
bool architectures_cover(const char *architectures, int major, int minor) {
    int version, length;
    if (!*architectures) return true;
    for (const char *at = architectures; *at; at += length) {
        bool ptx = !strncmp(at, "compute_", 8);
        if (sscanf(at, ptx ? "compute_%d%n" : "sm_%d%n", &version, &length) != 1) return false;
        if (ptx ? version <= 10 * major + minor : version / 10 == major && version % 10 <= minor) return true;
        length += (int)strspn(at + length, "+");
    }
    return false;
}

// ---- the cards ------------------------------------------------------------------------------------------------------

static bool read_card(int number, Card *card) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, number) != cudaSuccess) return false;
    snprintf(card->name, sizeof card->name, "%.*s", (int)sizeof card->name - 1, properties.name);
    card->major = properties.major;
    card->minor = properties.minor;
    card->total_bytes = properties.totalGlobalMem;
    return true;
}

// Free memory can only be asked of a card with a context; making one takes some hundred MiB of it meanwhile.
static uint64_t free_bytes_of(int number) {
    size_t available = 0, total = 0;
    if (cudaSetDevice(number) != cudaSuccess || cudaMemGetInfo(&available, &total) != cudaSuccess) return 0;
    return available;
}

int cuda_card_count(void) {
    int count = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    cudaGetLastError(); // told by the count
    return status == cudaSuccess ? count : 0;
}

void cuda_list_cards(CardList *list) {
    *list = CardList{};
    int count = cuda_card_count();
    if (cudaDriverGetVersion(&list->driver) != cudaSuccess) list->driver = 0;
    for (int i = 0; i < count && i < CARDS_MAX; i++) {
        if (!read_card(i, &list->cards[i])) break;
        list->cards[i].free_bytes = free_bytes_of(i);
        list->count++;
    }
    cudaGetLastError(); // what failed is told by zeros
}

// ---- whether one can be used ---------------------------------------------------------------------------------------

static bool no_driver(Error *error) {
    error_set(error, "CUDA finds no NVIDIA driver");
    return error_hint(error, "install it (Ubuntu: sudo ubuntu-drivers install, then restart; WSL2: NVIDIA's driver "
                             "for Windows), or use --device cpu");
}

// The driver's own version is in a file of its module, between "Module" and the date.
static void driver_release(char release[32]) {
    FILE *file = fopen("/proc/driver/nvidia/version", "r");
    char line[256];
    const char *module = file && fgets(line, sizeof line, file) ? strstr(line, "Module") : NULL;
    if (!module || sscanf(module, "Module%*[^0-9]%31[0-9.]", release) != 1) *release = 0;
    if (file) fclose(file);
}

static bool old_driver(int driver, Error *error) {
    char release[32];
    driver_release(release);
    int build = cuda_build_version() / 1000;
    error_set(error, "the NVIDIA driver %s%sis too old: it supports CUDA %d.%d, this lisa was built with CUDA %d.%d",
              release, *release ? " " : "", driver / 1000, driver % 1000 / 10, build, cuda_build_version() % 1000 / 10);
    return error_hint(error,
                      "update the driver (CUDA 11 needs 450, 12 needs 525, 13 needs 580), or build lisa with the CUDA "
                      "%d toolkit, or use --device cpu",
                      driver / 1000);
}

static bool no_card(int driver, Error *error) {
    error_set(error, "no GPU: the NVIDIA driver (CUDA %d.%d) shows no card to this program", driver / 1000,
              driver % 1000 / 10);
    return error_hint(error, "a container needs docker run --gpus all; CUDA_VISIBLE_DEVICES must name the card; "
                             "nvidia-smi shows what the driver sees; --device cpu does without");
}

static bool check_kind(int number, Error *error) {
    Card card;
    if (!read_card(number, &card)) return error_set(error, "card %d does not answer", number);
    if (card.major < 8) {
        error_set(error, "card %d (%s, compute capability %d.%d) is too old: bf16 needs 8.0 or newer", number,
                  card.name, card.major, card.minor);
        return error_hint(error, "cards from the RTX 30 series and the A100 on can be used; use --device cpu");
    }
    if (architectures_cover(cuda_build_architectures(), card.major, card.minor)) return true;
    error_set(error, "this lisa was built for %s, card %d (%s) is sm_%d%d", cuda_build_architectures(), number,
              card.name, card.major, card.minor);
    return error_hint(error, "build it for this card: make clean, then make CUDA_ARCH=%d%d; or use --device cpu",
                      card.major, card.minor);
}

bool cuda_check_card(int card, Error *error) {
    int driver = 0, count = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    cudaGetLastError(); // told below
    if (driver == 0) return no_driver(error);
    if (status == cudaErrorInsufficientDriver) return old_driver(driver, error);
    if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) return no_card(driver, error);
    if (status != cudaSuccess) {
        error_set(error, "CUDA does not start: %s (%s)", cudaGetErrorString(status), cudaGetErrorName(status));
        return error_hint(error, "nvidia-smi says whether the driver works; --device cpu does without");
    }
    if (card < count) return check_kind(card, error);
    error_usage(error, "device: there is no card cuda:%d, this machine has %d", card, count);
    return error_hint(error, "lisa info lists the cards; they are counted from 0");
}

// ---- the link to the host -------------------------------------------------------------------------------------------

static cudaError_t time_copy(void *to, const void *from, cudaStream_t stream, cudaEvent_t start, cudaEvent_t stop,
                             double *rate) {
    *rate = 0;
    for (int i = 0; i < LINK_REPEATS; i++) {
        float milliseconds = 0;
        cudaError_t status = cudaEventRecord(start, stream);
        if (!status) status = cudaMemcpyAsync(to, from, LINK_BYTES, cudaMemcpyDefault, stream);
        if (!status) status = cudaEventRecord(stop, stream);
        if (!status) status = cudaEventSynchronize(stop);
        if (!status) status = cudaEventElapsedTime(&milliseconds, start, stop);
        if (status) return status;
        double now = milliseconds > 0 ? (double)LINK_BYTES / (1e-3 * (double)milliseconds) : 0;
        if (now > *rate) *rate = now;
    }
    return cudaSuccess;
}

bool cuda_measure_link(int card, double *to_card, double *to_host, Error *error) {
    void *device = NULL, *host = NULL;
    cudaStream_t stream = NULL;
    cudaEvent_t start = NULL, stop = NULL;
    cudaError_t status = cudaSetDevice(card);
    if (!status) status = cudaMalloc(&device, LINK_BYTES);
    if (!status) status = cudaHostAlloc(&host, LINK_BYTES, cudaHostAllocPortable);
    if (!status) status = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (!status) status = cudaEventCreate(&start);
    if (!status) status = cudaEventCreate(&stop);
    if (!status) {
        memset(host, 0, LINK_BYTES);
        status = time_copy(device, host, stream, start, stop, to_card);
    }
    if (!status) status = time_copy(host, device, stream, start, stop, to_host);
    if (start) cudaEventDestroy(start);
    if (stop) cudaEventDestroy(stop);
    if (stream) cudaStreamDestroy(stream);
    if (host) cudaFreeHost(host);
    if (device) cudaFree(device);
    if (!status) return true;
    cudaGetLastError(); // told here
    return error_set(error, "the link to card %d could not be measured: %s (%s)", card, cudaGetErrorString(status),
                     cudaGetErrorName(status));
}
