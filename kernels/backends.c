// backends.c - see backends.h.
#include "kernels/backends.h"
#include "base/log.h"
#include "kernels/cuda/cards.h"
#include "kernels/nvidia.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The number in "cuda" (0) or "cuda:<number>"; -1 for anything else.
static int card_number(const char *device) {
    char *end;
    if (!strcmp(device, "cuda")) return 0;
    if (strncmp(device, "cuda:", 5) != 0 || device[5] < '0' || device[5] > '9') return -1;
    unsigned long number = strtoul(device + 5, &end, 10);
    return *end || number > 1000 ? -1 : (int)number;
}

// auto, where there is a card: it has to work, or the person says that the CPU is meant.
static Backend *open_first_card(const char *seen, int threads, Error *error) {
    Backend *b = backend_cuda_create(0, threads, error);
    if (!b) error_context(error, "the NVIDIA card of this machine (%s) cannot be used", seen);
    return b;
}

Backend *backend_open(const char *device, int threads, Error *error) {
    if (!strcmp(device, "cpu")) return backend_cpu_create(threads, false, error);
    if (!strcmp(device, "auto")) {
        const char *seen = nvidia_card_seen("");
        if (!seen && cuda_card_count() > 0) seen = "CUDA lists it";
        if (seen) return open_first_card(seen, threads, error);
        log_note("no NVIDIA card here: computing on the CPU");
        return backend_cpu_create(threads, false, error);
    }
    int card = card_number(device);
    if (card >= 0) return backend_cuda_create(card, threads, error);
    error_usage(error, "device: \"%s\" is not auto, cpu, cuda or cuda:<number>", device);
    error_hint(error, "cards are counted from 0; lisa info lists them");
    return NULL;
}

const char *backends_built(char text[160]) {
    int version = cuda_build_version();
    const char *architectures = cuda_build_architectures();
    if (version == 0) return strcpy(text, "cpu");
    snprintf(text, 160, "cpu, cuda (CUDA %d.%d%s%s)", version / 1000, version % 1000 / 10, *architectures ? ": " : "",
             architectures);
    return text;
}
