// cpu.h - inside the CPU backend: its state, its loops over the threads, and code compiled per instruction set.
//
// Activations are float. Work is cut into pieces that depend on the shape alone, never on the number of threads, and
// every sum has one owner, so results are the same bits on any number of threads.
#pragma once
#include "base/threads.h"
#include "kernels/kernels.h"

// What the processor can do; each kernel below is compiled for all three and picked by this.
typedef enum {
    INSTRUCTIONS_BASE,  // what the compiler assumes anyway
    INSTRUCTIONS_AVX2,  // with FMA
    INSTRUCTIONS_AVX512 // F, BW, DQ, VL
} InstructionSet;

// A widened piece of a weight matrix, one per thread: at most this many floats (1.7 MiB, about a second-level cache).
#define PANEL_FLOATS (1536 * 288)

typedef struct CpuBackend {
    Backend base; // first, so that a Backend * of this backend is a CpuBackend *
    InstructionSet instructions;
    bool round_activations; // outputs are rounded to bf16
    float *panels;          // [threads, PANEL_FLOATS]
} CpuBackend;

static inline CpuBackend *cpu_backend(Backend *b) {
    return (CpuBackend *)b;
}

// ---- loops -----------------------------------------------------------------------------------------------------

// The body of a loop over rows (or elements): does rows first .. last - 1.
typedef void CpuRowTask(void *context, int64_t first, int64_t last, int worker);

// Runs task over [0, rows) in pieces of `step` rows, on all threads. step >= 1.
void cpu_for_rows(CpuBackend *cpu, int64_t rows, int64_t step, CpuRowTask *task, void *context);

// How many rows of d elements make a piece of work that is worth a thread's attention.
int64_t cpu_rows_per_task(int64_t d);

// Rounds values to bf16 when the backend was asked to; called by each operation on its output.
void cpu_round(const CpuBackend *cpu, float *values, int64_t count);

// ---- instruction sets ------------------------------------------------------------------------------------------

// A kernel is written once, as CPU_INLINE void name_body(parameters), and CPU_KERNEL(name, (parameters), (arguments))
// compiles it for each instruction set; name(set) is then the function to call: name(cpu->instructions)(arguments).
#define CPU_INLINE static inline __attribute__((always_inline))

#ifdef __x86_64__
#define CPU_KERNEL(name, parameters, arguments)                                                                        \
    typedef void name##_function parameters;                                                                           \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))) static void name##_avx512 parameters {           \
        name##_body arguments;                                                                                         \
    }                                                                                                                  \
    __attribute__((target("avx2,fma"))) static void name##_avx2 parameters {                                           \
        name##_body arguments;                                                                                         \
    }                                                                                                                  \
    static void name##_base parameters {                                                                               \
        name##_body arguments;                                                                                         \
    }                                                                                                                  \
    static name##_function *name(InstructionSet set) {                                                                 \
        return set == INSTRUCTIONS_AVX512 ? name##_avx512 : set == INSTRUCTIONS_AVX2 ? name##_avx2 : name##_base;      \
    }
#else
#define CPU_KERNEL(name, parameters, arguments)                                                                        \
    typedef void name##_function parameters;                                                                           \
    static void name##_base parameters {                                                                               \
        name##_body arguments;                                                                                         \
    }                                                                                                                  \
    static name##_function *name(InstructionSet set) {                                                                 \
        (void)set;                                                                                                     \
        return name##_base;                                                                                            \
    }
#endif

// ---- the table's operations, one file each; see kernels.h --------------------------------------------------------

void cpu_embed_forward(Backend *b, Activation *out, const bf16 *table, const int32_t *ids, int64_t tokens, int64_t d,
                       Stream *stream);
void cpu_embed_backward(Backend *b, float *gradient, const Activation *dout, const int32_t *rows, const int32_t *starts,
                        const int32_t *order, int64_t row_count, int64_t d, Stream *stream);
void cpu_add_rows(Backend *b, float *table, const float *rows, const int32_t *places, int64_t count, int64_t d,
                  Stream *stream);

void cpu_linear_forward(Backend *b, Activation *out, const Activation *x, const bf16 *weight, const bf16 *bias,
                        const Activation *add, int64_t tokens, int64_t n, int64_t k, int64_t stride, Stream *stream);
void cpu_linear_backward_input(Backend *b, Activation *dx, const Activation *dout, const bf16 *weight, int64_t tokens,
                               int64_t n, int64_t k, int64_t stride, Stream *stream);
void cpu_linear_backward_weight(Backend *b, float *gradient, float *bias_gradient, const Activation *dout,
                                const Activation *x, int64_t tokens, int64_t n, int64_t k, int64_t stride,
                                Stream *stream);

void cpu_gather_rows(Backend *b, Activation *out, const Activation *x, const int32_t *index, int64_t count, int64_t d,
                     Stream *stream);
void cpu_scatter_rows(Backend *b, Activation *out, const Activation *x, const int32_t *index, int64_t count, int64_t d,
                      Stream *stream);
void cpu_cross_entropy(Backend *b, Activation *logits, float *losses, const int32_t *labels, float scale, bool gradient,
                       int64_t count, int64_t vocabulary, int64_t stride, Stream *stream);

void cpu_sum_losses(Backend *b, double *sum, const float *losses, int64_t count, Stream *stream);
void cpu_sum_squares(Backend *b, double *sum, const float *values, int64_t count, Stream *stream);
void cpu_clip_finish(Backend *b, float *norm, float *clip_scale, int32_t *skip, const double *squares, int64_t count,
                     const double *loss, float max_norm, Stream *stream);
void cpu_adamw(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, void *m, void *v, int64_t count,
               const AdamWStep *step, Stream *stream);
void cpu_adamw_rows(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, const int32_t *places, void *m,
                    void *v, const int32_t *rows, int64_t count, int64_t d, const AdamWStep *step, Stream *stream);
void cpu_freeze(Backend *b, bf16 *weight, const int16_t *low_bits, int64_t count, uint64_t key, Stream *stream);

void cpu_to_float(Backend *b, float *out, const Activation *x, int64_t count, Stream *stream);
void cpu_fill_normal(Backend *b, bf16 *out, int64_t count, float mean, float deviation, uint64_t key, Stream *stream);
bool cpu_gemm_seconds(Backend *backend, GemmLayout layout, int64_t m, int64_t n, int64_t k, int repeats,
                      double *seconds, Error *error);

void cpu_rmsnorm_forward(Backend *b, Activation *out, float *rstd, const Activation *x, const bf16 *gain, float epsilon,
                         int64_t tokens, int64_t d, Stream *stream);
void cpu_rmsnorm_rebuild(Backend *b, Activation *out, const Activation *x, const float *rstd, const bf16 *gain,
                         int64_t tokens, int64_t d, Stream *stream);
void cpu_rmsnorm_backward(Backend *b, Activation *dx, float *gain_gradient, const Activation *dout, const Activation *x,
                          const float *rstd, const bf16 *gain, void *scratch, int64_t tokens, int64_t d,
                          Stream *stream);
size_t cpu_rmsnorm_scratch(const Backend *b, int64_t tokens, int64_t d);
void cpu_rope(Backend *b, Activation *qkv, const int32_t *positions, const float *cosine, const float *sine,
              int64_t tokens, int heads, int kv_heads, int head_dim, bool inverse, Stream *stream);
void cpu_attention_forward(Backend *b, Activation *out, float *lse, const Activation *qkv, const AttentionShape *shape,
                           Stream *stream);
void cpu_attention_backward(Backend *b, Activation *dqkv, const Activation *dout, const Activation *qkv,
                            const Activation *out, const float *lse, void *scratch, const AttentionShape *shape,
                            Stream *stream);
size_t cpu_attention_scratch(const Backend *b, int64_t tokens, int heads);
int cpu_attention_products(const Backend *b, int64_t sequence_tokens);
void cpu_attention_decode(Backend *b, Activation *out, const Activation *q, const Activation *keys,
                          const Activation *values, int64_t length, int heads, int kv_heads, int head_dim, int window,
                          float scale, Stream *stream);
void cpu_swiglu_forward(Backend *b, Activation *out, const Activation *gate_up, int64_t tokens, int64_t f,
                        Stream *stream);
void cpu_swiglu_backward(Backend *b, Activation *gate_up, Activation *out, const Activation *dout, int64_t tokens,
                         int64_t f, Stream *stream);
