// backend.c - the CPU backend: creation, the device part, and the table of operations.
//
// Every call runs to its end before it returns, so a stream is a name without content and an event is the time at which
// it was recorded.
#include "base/clock.h"
#include "base/free_memory.h"
#include "base/host_memory.h"
#include "kernels/cpu/cpu.h"
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HUGE_PAGE     ((size_t)2 << 20)
#define WORK_PER_TASK 16384 // elements; a few microseconds, so that handing out work costs little

// ---- loops -----------------------------------------------------------------------------------------------------

typedef struct RowLoop {
    CpuRowTask *task;
    void *context;
    int64_t rows, step;
} RowLoop;

static void run_rows(void *context, int64_t index, int worker) {
    const RowLoop *loop = context;
    int64_t first = index * loop->step;
    int64_t last = loop->rows - first < loop->step ? loop->rows : first + loop->step;
    loop->task(loop->context, first, last, worker);
}

void cpu_for_rows(CpuBackend *cpu, int64_t rows, int64_t step, CpuRowTask *task, void *context) {
    if (rows <= 0) return;
    RowLoop loop = {task, context, rows, step};
    int64_t pieces = (rows - 1) / step + 1;
    if (pieces == 1) {
        task(context, 0, rows, 0);
        return;
    }
    thread_pool_run(cpu->base.threads, pieces, run_rows, &loop);
}

int64_t cpu_rows_per_task(int64_t d) {
    return d >= WORK_PER_TASK ? 1 : WORK_PER_TASK / d;
}

// Integer arithmetic only, so that it vectorises; equal to bf16_from_float.
CPU_INLINE void round_values_body(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits = float_bits(values[i]);
        uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
        uint32_t nan = (bits & 0xffff0000u) | 0x400000u;
        values[i] = float_from_bits((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
    }
}
CPU_KERNEL(round_values, (float *values, int64_t count), (values, count))

void cpu_round(const CpuBackend *cpu, float *values, int64_t count) {
    if (cpu->round_activations) round_values(cpu->instructions)(values, count);
}

// ---- device part -------------------------------------------------------------------------------------------------

static bool cpu_allocate(Backend *b, MemoryKind kind, size_t bytes, void **memory, Error *error) {
    static const char *const names[MEMORY_KINDS] = {"device memory", "pinned memory", "host memory"};
    (void)b;
    *memory = host_memory_allocate(bytes, names[kind], error);
    return *memory != NULL;
}

static void cpu_release(Backend *b, MemoryKind kind, void *memory) {
    (void)b, (void)kind;
    free(memory);
}

static void cpu_copy(Backend *b, void *to, const void *from, size_t bytes, Stream *stream) {
    (void)b, (void)stream;
    if (bytes) memcpy(to, from, bytes);
}

static void cpu_zero(Backend *b, void *memory, size_t bytes, Stream *stream) {
    (void)b, (void)stream;
    if (bytes) memset(memory, 0, bytes);
}

static Stream *cpu_stream_create(Backend *b, Error *error) {
    (void)error;
    return (Stream *)b; // any name that is not NULL
}

static void cpu_stream_free(Backend *b, Stream *stream) {
    (void)b, (void)stream;
}

struct Event {
    double seconds; // when it was recorded
};

static Event *cpu_event_create(Backend *b, Error *error) {
    (void)b;
    Event *event = calloc(1, sizeof *event);
    if (!event) error_memory(error, "an event", sizeof *event);
    return event;
}

static void cpu_event_free(Backend *b, Event *event) {
    (void)b;
    free(event);
}

static void cpu_event_record(Backend *b, Event *event, Stream *stream) {
    (void)b, (void)stream;
    event->seconds = clock_seconds();
}

static void cpu_event_wait(Backend *b, Event *event, Stream *stream) {
    (void)b, (void)event, (void)stream;
}

static double cpu_event_seconds(Backend *b, Event *start, Event *stop) {
    (void)b;
    return stop->seconds - start->seconds;
}

static void cpu_event_synchronize(Backend *b, Event *event) {
    (void)b, (void)event;
}

static void cpu_synchronize(Backend *b, Stream *stream) {
    (void)b, (void)stream;
}

static bool cpu_check(Backend *b, Error *error) {
    (void)b, (void)error;
    return true;
}

// ---- measuring ---------------------------------------------------------------------------------------------------

static uint64_t cpu_memory_in_use(Backend *b) {
    (void)b;
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long long kilobytes = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "RssAnon: %llu", &kilobytes) == 1) break;
    if (file) fclose(file);
    return (uint64_t)kilobytes * 1024;
}

static uint64_t cpu_memory_available(Backend *b, MemoryKind kind) {
    (void)b, (void)kind;
    return free_memory();
}

// ---- creation ----------------------------------------------------------------------------------------------------

static void cpu_destroy(Backend *b) {
    CpuBackend *cpu = cpu_backend(b);
    thread_pool_free(cpu->base.threads);
    free(cpu->panels);
    free(cpu);
}

static const Backend CPU_TABLE = {
    .name = "cpu",
    .activation = TYPE_F32,
    .activation_size = sizeof(float),
    .token_multiple = 8,
    .head_multiple = 2,
    .unified = true,
    .destroy = cpu_destroy,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .copy = cpu_copy,
    .zero = cpu_zero,
    .stream_create = cpu_stream_create,
    .stream_free = cpu_stream_free,
    .event_create = cpu_event_create,
    .event_free = cpu_event_free,
    .event_record = cpu_event_record,
    .event_wait = cpu_event_wait,
    .event_seconds = cpu_event_seconds,
    .event_synchronize = cpu_event_synchronize,
    .synchronize = cpu_synchronize,
    .check = cpu_check,
    .embed_forward = cpu_embed_forward,
    .embed_backward = cpu_embed_backward,
    .add_rows = cpu_add_rows,
    .linear_forward = cpu_linear_forward,
    .linear_backward_input = cpu_linear_backward_input,
    .linear_backward_weight = cpu_linear_backward_weight,
    .rmsnorm_forward = cpu_rmsnorm_forward,
    .rmsnorm_rebuild = cpu_rmsnorm_rebuild,
    .rmsnorm_backward = cpu_rmsnorm_backward,
    .rmsnorm_scratch = cpu_rmsnorm_scratch,
    .rope = cpu_rope,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .attention_scratch = cpu_attention_scratch,
    .attention_decode = cpu_attention_decode,
    .swiglu_forward = cpu_swiglu_forward,
    .swiglu_backward = cpu_swiglu_backward,
    .gather_rows = cpu_gather_rows,
    .scatter_rows = cpu_scatter_rows,
    .cross_entropy = cpu_cross_entropy,
    .sum_losses = cpu_sum_losses,
    .sum_squares = cpu_sum_squares,
    .clip_finish = cpu_clip_finish,
    .adamw = cpu_adamw,
    .adamw_rows = cpu_adamw_rows,
    .freeze = cpu_freeze,
    .to_float = cpu_to_float,
    .fill_normal = cpu_fill_normal,
    .memory_in_use = cpu_memory_in_use,
    .memory_available = cpu_memory_available,
    .attention_products = cpu_attention_products,
    .gemm_seconds = cpu_gemm_seconds,
};

static InstructionSet best_instructions(void) {
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return INSTRUCTIONS_AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return INSTRUCTIONS_AVX2;
#endif
    return INSTRUCTIONS_BASE;
}

Backend *backend_cpu_create(int threads, bool round_activations, Error *error) {
    CpuBackend *cpu = calloc(1, sizeof *cpu);
    if (!cpu) {
        error_memory(error, "the CPU backend", sizeof *cpu);
        return NULL;
    }
    cpu->base = CPU_TABLE;
    cpu->instructions = best_instructions();
    cpu->round_activations = round_activations;
    cpu->base.threads = thread_pool_create(threads, error);
    if (!cpu->base.threads) goto fail;
    size_t size = (size_t)thread_pool_size(cpu->base.threads) * PANEL_FLOATS * sizeof(float);
    if (posix_memalign((void **)&cpu->panels, HUGE_PAGE, size)) {
        cpu->panels = NULL;
        error_memory(error, "the CPU backend's weight panels", size);
        goto fail;
    }
    cpu->base.workspace_bytes = size;
    openblas_set_num_threads(1); // it is called from our threads, many at a time
    return &cpu->base;
fail:
    cpu_destroy(&cpu->base);
    return NULL;
}
