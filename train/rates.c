// rates.c - see rates.h.
#include "train/rates.h"
#include "base/clock.h"
#include "kernels/arena.h"
#include <string.h>

// ---- assumed ----

#define GIB  ((uint64_t)1 << 30)
#define GEMM 0.80 // of the nominal FLOP/s are reached, unless they have been measured
#define COPY 0.85 // of the nominal memory rate
#define DISK 6e9  // bytes/s of an NVMe drive
#define HOST 40e9 // bytes/s of two channels of memory

// Dense bf16 with fp32 sums: GeForce cards do 4 FLOP per core and clock.
static const struct {
    uint64_t below; // bytes of memory
    Rates rates;
} CARDS[] = {
    {10 * GIB, {"RTX 4060 laptop", GEMM * 4 * 3072 * 2.370e9, COPY * 256e9, 12.5e9, 12.5e9, DISK, HOST}},
    {14 * GIB, {"RTX 4080 laptop", GEMM * 4 * 7424 * 2.280e9, COPY * 432e9, 12.5e9, 12.5e9, DISK, HOST}},
    {20 * GIB, {"RTX 4090 laptop", GEMM * 4 * 9728 * 2.040e9, COPY * 576e9, 25e9, 25e9, DISK, HOST}},
    {28 * GIB, {"RTX 4090", GEMM * 4 * 16384 * 2.520e9, COPY * 1008e9, 25e9, 25e9, DISK, HOST}},
    {56 * GIB, {"RTX 5090", GEMM * 4 * 21760 * 2.407e9, COPY * 1792e9, 50e9, 50e9, DISK, HOST}},
    {UINT64_MAX, {"H200", 790e12, COPY * 4800e9, 52e9, 52e9, DISK, HOST}},
};

Rates rates_assumed(uint64_t vram_bytes) {
    size_t i = 0;
    while (i + 1 < sizeof CARDS / sizeof *CARDS && vram_bytes >= CARDS[i].below) i++;
    return CARDS[i].rates;
}

// ---- measured ----

#define REPEATS       3
#define GEMM_SECONDS  0.2  // for all runs of the largest product
#define GEMM_TOKENS   2048 // more make no product faster
#define COPY_FIRST    ((size_t)1 << 20)
#define COPY_MOST     ((size_t)256 << 20) // more than any cache
#define COPY_SECONDS  0.005               // no larger copy is tried that would take longer
#define LINK_BYTES    ((size_t)64 << 20)
#define ADAMW_WEIGHTS ((int64_t)4 << 20) // 64 MiB, more than most caches
#define ADAMW_BYTES   28                 // read and written per weight

#define SHORTEST 1e-9 // seconds; a clock may see nothing of a small piece of work

// Whether the operands of a product, at most 4 bytes an element, take no more than half of the free memory.
static bool product_fits(int64_t m, int64_t n, int64_t k, uint64_t available) {
    return (uint64_t)(m * k + n * k + m * n) <= available / 8;
}

// As much of gate and up as is quick: first a small product, then one that by its rate takes the time there is.
static bool measure_flops(Rates *rates, Backend *b, const ModelConfig *config, Error *error) {
    int64_t k = config->hidden, most = 2 * config->intermediate, n = most < 1024 ? most : 1024, m = 64;
    uint64_t available = b->memory_available(b, MEMORY_DEVICE);
    for (int round = 0; round < 2; round++) {
        double seconds = 0, flops = 2.0 * (double)m * (double)n * (double)k;
        if (!b->gemm_seconds(b, GEMM_FORWARD, m, n, k, REPEATS, &seconds, error)) return false;
        if (seconds < SHORTEST) seconds = SHORTEST;
        if (flops / seconds > rates->flops) rates->flops = flops / seconds;
        double factor = GEMM_SECONDS / (REPEATS + 1) / seconds; // may the next one be larger
        for (; factor >= 2 && m < GEMM_TOKENS && product_fits(2 * m, n, k, available); factor /= 2) m *= 2;
        for (; factor >= 2 && n < most && product_fits(m, 2 * n, k, available); factor /= 2)
            n = 2 * n < most ? 2 * n : most;
    }
    return true;
}

// The shortest of some copies, after one to warm up, by events on the compute stream.
static bool time_copy(Backend *b, void *to, const void *from, size_t bytes, double *seconds, Error *error) {
    Event *start = b->event_create(b, error), *stop = start ? b->event_create(b, error) : NULL;
    for (int i = -1; stop && i < REPEATS; i++) {
        b->event_record(b, start, NULL);
        b->copy(b, to, from, bytes, NULL);
        b->event_record(b, stop, NULL);
        double once = b->event_seconds(b, start, stop);
        if (once < SHORTEST) once = SHORTEST;
        if (i <= 0 || once < *seconds) *seconds = once;
    }
    bool good = stop && b->check(b, error);
    if (start) b->event_free(b, start);
    if (stop) b->event_free(b, stop);
    return good;
}

// Copies between memory of two kinds, there and back.
static bool time_copies(Backend *b, MemoryKind kind, size_t bytes, double *there, double *back, Error *error) {
    void *here = NULL, *device = NULL;
    bool good = b->allocate(b, kind, bytes, &here, error) && b->allocate(b, MEMORY_DEVICE, bytes, &device, error);
    if (good && kind == MEMORY_PINNED) memset(here, 0, bytes); // so that its pages are there
    if (good && kind == MEMORY_DEVICE) b->zero(b, here, bytes, NULL);
    good = good && time_copy(b, device, here, bytes, there, error) && time_copy(b, here, device, bytes, back, error);
    b->release(b, kind, here);
    b->release(b, MEMORY_DEVICE, device);
    return good;
}

static bool measure_memory(Rates *rates, Backend *b, Error *error) {
    double seconds = 0, back;
    uint64_t available = b->memory_available(b, MEMORY_DEVICE);
    for (size_t bytes = COPY_FIRST; bytes <= COPY_MOST && 4 * seconds < COPY_SECONDS; bytes *= 4) {
        if (bytes > COPY_FIRST && 2 * bytes > available / 2) break;
        if (!time_copies(b, MEMORY_DEVICE, bytes, &seconds, &back, error)) return false;
        rates->memory = 2 * (double)bytes / seconds;
    }
    return true;
}

static bool measure_link(Rates *rates, Backend *b, Error *error) {
    double up, down;
    rates->to_device = rates->to_host = rates->memory;
    if (b->unified) return true;
    size_t bytes = LINK_BYTES;
    while (bytes > COPY_FIRST && bytes > b->memory_available(b, MEMORY_DEVICE) / 2) bytes /= 2;
    if (!time_copies(b, MEMORY_PINNED, bytes, &up, &down, error)) return false;
    rates->to_device = (double)bytes / up;
    rates->to_host = (double)bytes / down;
    return true;
}

typedef struct AdamW {
    bf16 *weight;
    int16_t *low_bits;
    float *gradient, *m, *v, *clip_scale;
    int32_t *skip;
} AdamW;

static AdamW take_adamw(Arena *arena) {
    return (AdamW){
        .weight = arena_take(arena, ADAMW_WEIGHTS, sizeof(bf16)),
        .low_bits = arena_take(arena, ADAMW_WEIGHTS, sizeof(int16_t)),
        .gradient = arena_take(arena, ADAMW_WEIGHTS, sizeof(float)),
        .m = arena_take(arena, ADAMW_WEIGHTS, sizeof(float)),
        .v = arena_take(arena, ADAMW_WEIGHTS, sizeof(float)),
        .clip_scale = arena_take(arena, 1, sizeof(float)),
        .skip = arena_take(arena, 1, sizeof(int32_t)),
    };
}

static bool time_adamw(Rates *rates, Backend *cpu, Error *error) {
    Arena arena;
    arena_measure(&arena, MEMORY_DEVICE);
    take_adamw(&arena);
    if (!arena_create(&arena, cpu, MEMORY_DEVICE, arena.peak, "measuring AdamW", error)) return false;
    AdamW a = take_adamw(&arena);
    memset(arena.memory, 0, arena.used);
    AdamWStep step = {.learning_rate = 1e-5, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .bias_correction1 = 0.1};
    step.bias_correction2 = 0.001, step.clip_scale = a.clip_scale, step.skip = a.skip;
    double best = 0;
    for (int i = -1; i < REPEATS; i++) {
        double start = clock_seconds();
        cpu->adamw(cpu, a.weight, a.low_bits, a.gradient, a.m, a.v, ADAMW_WEIGHTS, &step, NULL);
        double seconds = clock_seconds() - start;
        if (i <= 0 || seconds < best) best = seconds;
    }
    rates->host = (double)ADAMW_BYTES * (double)ADAMW_WEIGHTS / (best < SHORTEST ? SHORTEST : best);
    arena_free(&arena);
    return true;
}

static bool measure_host(Rates *rates, Backend *b, Error *error) {
    if (b->unified) return time_adamw(rates, b, error);
    Backend *cpu = backend_cpu_create(thread_pool_size(b->threads), false, error);
    bool good = cpu && time_adamw(rates, cpu, error);
    if (cpu) cpu->destroy(cpu);
    return good;
}

bool rates_measure(Rates *rates, Backend *backend, const ModelConfig *config, Error *error) {
    *rates = (Rates){.name = "measured", .disk = DISK};
    return measure_flops(rates, backend, config, error) && measure_memory(rates, backend, error) &&
           measure_link(rates, backend, error) && measure_host(rates, backend, error);
}
