// kernels.h - the contract between the host program and a processor, and the only door to one.
//
// A Backend is a table of functions: a device part (memory, copies, streams, events) and an operations part (plain
// pointers, explicit shapes, a stream). kernels/cpu/ and kernels/cuda/ implement it; the program picks one at run time.
//
// Conventions of the operations
//   * Matrices are row-major; a shape [T, d] has T rows of d contiguous elements unless a stride is given.
//   * `Activation *` points to elements of backend->activation: float on the CPU, bf16 on CUDA. Weights are bf16,
//     weight gradients, losses, norms, lse and rotary tables are float.
//   * T (tokens) is any number >= 0, other extents >= 1. Index arguments are int32.
//   * "accumulate" operations add to what is there (`+=`); all others overwrite.
//   * Nothing is allocated. An operation cannot fail by itself: a device fault is sticky and read with check().
//   * Deterministic: equal inputs and shapes give equal bits, on any number of threads. No sum depends on timing.
//   * Sums over tokens run in ascending token order within a call or in a fixed tree over them.
//   * A NULL stream is the compute stream. The CPU backend runs every call to its end before it returns.
#pragma once
#include "base/error.h"
#include "base/numbers.h"
#include "base/threads.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Backend Backend;
typedef struct Stream Stream; // a queue of device work; NULL is the compute stream
typedef struct Event Event;   // a point in a stream that another stream or the host can wait for
typedef void Activation;      // element type: backend->activation

// Pinned: host memory that the device can reach by itself. Host: memory that only the host touches, or copies of it.
typedef enum { MEMORY_DEVICE, MEMORY_PINNED, MEMORY_HOST, MEMORY_KINDS } MemoryKind;

// The three matrix multiplications of a linear layer: out [m, n], k is summed over.
typedef enum {
    GEMM_FORWARD,        // x [m, k] times W [n, k] transposed
    GEMM_BACKWARD_INPUT, // dout [m, k] times W [k, n]
    GEMM_BACKWARD_WEIGHT // dout [k, m] transposed times x [k, n]
} GemmLayout;

#define LABEL_IGNORED  (-100) // a label that is no target, as in PyTorch
#define HEAD_DIM_LIMIT 256    // of the attention operations, as FlashAttention's

// Sequences that lie end to end in a micro-batch: sequence s is the tokens starts[s] .. starts[s + 1] - 1.
// starts[0] = 0; starts[count] <= T; tokens from starts[count] on are the tail: they attend to nothing and their
// attention output and gradients are 0. A token attends to itself and earlier tokens of its own sequence, with
// window > 0 only to the last `window` of them, itself included.
typedef struct AttentionShape {
    int64_t tokens; // T, the tail included
    int heads;      // query heads H, a multiple of kv_heads
    int kv_heads;   // key/value heads K
    int head_dim;   // D, a multiple of the backend's head_multiple, at most HEAD_DIM_LIMIT
    int window;     // 0: no limit
    float scale;    // of the scores, > 0, usually 1 / sqrt(D)
    int sequences;
    const int32_t *starts; // [sequences + 1], memory of the backend
} AttentionShape;

// The numbers of AdamW for one slot and step; see kernels/adamw.h for the exact arithmetic. In double, because
// 1 - beta2 is wrong in the fifth digit once beta2 has been rounded to float.
typedef struct AdamWStep {
    double learning_rate;
    double beta1, beta2, epsilon;
    double weight_decay;     // decoupled; applies to the first decayed elements of the slot
    double bias_correction1; // 1 - beta1^t, t counted from 1 for this slot
    double bias_correction2; // 1 - beta2^t
    int64_t decayed;         // elements [0, decayed) are decayed
    const float *clip_scale; // backend memory, 1 float: gradients are multiplied by it
    const int32_t *skip;     // backend memory, 1 int: when not 0 nothing is changed (loss or norm was not finite)
    // m and v are bf16, else float. The update is computed in float from what they hold; then element i of both is
    // rounded stochastically with random_bits(moment_key, i), so that their expected values are kept: with beta2 =
    // 0.999 a rounding to nearest would leave v as it is for good.
    bool bf16_moments;
    uint64_t moment_key; // of (seed, block, step): equal keys repeat the errors of the rounding
} AdamWStep;

struct Backend {
    const char *name;       // "cpu" or "cuda"
    ElementType activation; // element type of Activation
    size_t activation_size; // its bytes
    int64_t token_multiple; // the numbers of tokens it is called with are rounded up to this (tail tokens fill up)
    int head_multiple;      // head_dim of the attention operations is a multiple of this
    bool unified;           // device memory is host memory: no staging is needed
    size_t workspace_bytes; // scratch the backend allocated for itself at creation, listed by the plan
    ThreadPool *threads;    // for host work; owned by the backend

    void (*destroy)(Backend *b);

    // ---- device part -------------------------------------------------------------------------------------------
    // false with a message when the memory cannot be had. Contents are undefined. Aligned to 256 bytes at least.
    bool (*allocate)(Backend *b, MemoryKind kind, size_t bytes, void **memory, Error *error);
    void (*release)(Backend *b, MemoryKind kind, void *memory); // NULL is allowed
    // Copies between any two memories, of the backend or the host's own. Queued like an operation: until the stream has
    // passed it, the source keeps its contents and the destination means nothing. Between device and pinned memory it
    // runs beside the host and other streams; with other host memory the call may wait for the stream.
    void (*copy)(Backend *b, void *to, const void *from, size_t bytes, Stream *stream);
    void (*zero)(Backend *b, void *memory, size_t bytes, Stream *stream);
    Stream *(*stream_create)(Backend *b, Error *error); // NULL on failure
    void (*stream_free)(Backend *b, Stream *stream);    // NULL is allowed
    Event *(*event_create)(Backend *b, Error *error);   // NULL on failure
    void (*event_free)(Backend *b, Event *event);
    void (*event_record)(Backend *b, Event *event, Stream *stream);
    void (*event_wait)(Backend *b, Event *event, Stream *stream); // the stream waits, not the host
    // Seconds on the device from one recorded event to a later one; the host waits for the later. 0 after a fault.
    double (*event_seconds)(Backend *b, Event *start, Event *stop);
    // The host waits until all that was queued before the event's last record is done.
    void (*event_synchronize)(Backend *b, Event *event);
    void (*synchronize)(Backend *b, Stream *stream); // the host waits for all of the stream
    // false when any operation so far has failed; the message names it. Does not wait.
    bool (*check)(Backend *b, Error *error);

    // ---- embedding ---------------------------------------------------------------------------------------------
    // out[t] = table[ids[t]]. out: [T, d]; table: [vocabulary, d]; every id is in range (checked by the loader of
    // data).
    void (*embed_forward)(Backend *b, Activation *out, const bf16 *table, const int32_t *ids, int64_t tokens, int64_t d,
                          Stream *stream);
    // gradient[rows[r]] += sum of dout[t] over the tokens t of row r, in ascending t, accumulated in float.
    // order: [starts[row_count]] token indices grouped by row; row r owns order[starts[r]] .. order[starts[r + 1] - 1].
    // rows: [row_count] distinct table rows. gradient: [vocabulary, d] float.
    void (*embed_backward)(Backend *b, float *gradient, const Activation *dout, const int32_t *rows,
                           const int32_t *starts, const int32_t *order, int64_t row_count, int64_t d, Stream *stream);
    // table[r] += rows[places[r]] for the table rows r in [0, count) whose place is not negative.
    // table: [count, d] float; rows: [any, d] float; places: [count], memory of the backend.
    void (*add_rows)(Backend *b, float *table, const float *rows, const int32_t *places, int64_t count, int64_t d,
                     Stream *stream);

    // ---- linear: W is [n, k] as in PyTorch ----------------------------------------------------------------------
    // Rows of out and dout are `stride` elements apart, stride >= n (n: contiguous; more for padded logits).
    // out[T, n] = x[T, k] W^T + bias + add.  bias: [n] or NULL; add: [T, stride] or NULL, may be out itself.
    void (*linear_forward)(Backend *b, Activation *out, const Activation *x, const bf16 *weight, const bf16 *bias,
                           const Activation *add, int64_t tokens, int64_t n, int64_t k, int64_t stride, Stream *stream);
    // dx[T, k] = dout[T, n] W
    void (*linear_backward_input)(Backend *b, Activation *dx, const Activation *dout, const bf16 *weight,
                                  int64_t tokens, int64_t n, int64_t k, int64_t stride, Stream *stream);
    // gradient[n, k] += dout^T x; bias_gradient[n] += column sums of dout (NULL: none)
    void (*linear_backward_weight)(Backend *b, float *gradient, float *bias_gradient, const Activation *dout,
                                   const Activation *x, int64_t tokens, int64_t n, int64_t k, int64_t stride,
                                   Stream *stream);

    // ---- RMSNorm ------------------------------------------------------------------------------------------------
    // out = x * rstd * gain, rstd[t] = 1 / sqrt(mean(x[t]^2) + epsilon). out, x: [T, d]; rstd: [T] float; gain: [d].
    // The residual add before a norm is linear_forward's: in a matrix product's epilogue it costs no pass over memory.
    void (*rmsnorm_forward)(Backend *b, Activation *out, float *rstd, const Activation *x, const bf16 *gain,
                            float epsilon, int64_t tokens, int64_t d, Stream *stream);
    // out = x * rstd * gain from a kept rstd: bit-equal to what rmsnorm_forward gave. For rebuilding an input.
    void (*rmsnorm_rebuild)(Backend *b, Activation *out, const Activation *x, const float *rstd, const bf16 *gain,
                            int64_t tokens, int64_t d, Stream *stream);
    // dx += gradient of the norm's input given dout (dx holds the residual's gradient: the add's backward is fused).
    // gain_gradient[d] += sum over tokens of dout * x * rstd; NULL when the block is frozen.
    // scratch: rmsnorm_scratch(b, tokens, d) bytes, needed only with gain_gradient.
    void (*rmsnorm_backward)(Backend *b, Activation *dx, float *gain_gradient, const Activation *dout,
                             const Activation *x, const float *rstd, const bf16 *gain, void *scratch, int64_t tokens,
                             int64_t d, Stream *stream);
    size_t (*rmsnorm_scratch)(const Backend *b, int64_t tokens, int64_t d);

    // ---- attention ----------------------------------------------------------------------------------------------
    // Rotates the query and key heads of qkv in place (Hugging Face's halves: x[j], x[j + D/2] form a pair).
    // qkv: [T, (H + 2K) D], heads side by side: H query, K key, K value. positions: [T].
    // cosine, sine: [any, D / 2] float, row = position. inverse: rotates back (the backward of the operation).
    void (*rope)(Backend *b, Activation *qkv, const int32_t *positions, const float *cosine, const float *sine,
                 int64_t tokens, int heads, int kv_heads, int head_dim, bool inverse, Stream *stream);
    // out: [T, H D]; lse: [H, T] float, natural logarithm of the softmax denominators (scaled scores).
    void (*attention_forward)(Backend *b, Activation *out, float *lse, const Activation *qkv,
                              const AttentionShape *shape, Stream *stream);
    // dqkv: [T, (H + 2K) D], overwritten. scratch: attention_scratch bytes.
    void (*attention_backward)(Backend *b, Activation *dqkv, const Activation *dout, const Activation *qkv,
                               const Activation *out, const float *lse, void *scratch, const AttentionShape *shape,
                               Stream *stream);
    size_t (*attention_scratch)(const Backend *b, int64_t tokens, int heads);
    // One new token against the cache of one sequence: out [H D], q: [H D] rotated. keys, values: [length, K D], row p
    // holds position p, the new token's own row included. Only the last `window` rows are seen when window > 0.
    void (*attention_decode)(Backend *b, Activation *out, const Activation *q, const Activation *keys,
                             const Activation *values, int64_t length, int heads, int kv_heads, int head_dim,
                             int window, float scale, Stream *stream);

    // ---- SwiGLU -------------------------------------------------------------------------------------------------
    // out[t, j] = silu(g) * u, gate_up: [T, 2f] with g = gate_up[t, j], u = gate_up[t, f + j]. out: [T, f].
    void (*swiglu_forward)(Backend *b, Activation *out, const Activation *gate_up, int64_t tokens, int64_t f,
                           Stream *stream);
    // gate_up becomes its own gradient, from dout [T, f]. out: [T, f] receives silu(g) * u, or NULL; out may be dout.
    void (*swiglu_backward)(Backend *b, Activation *gate_up, Activation *out, const Activation *dout, int64_t tokens,
                            int64_t f, Stream *stream);

    // ---- head ---------------------------------------------------------------------------------------------------
    // out[i] = x[index[i]], [count, d]
    void (*gather_rows)(Backend *b, Activation *out, const Activation *x, const int32_t *index, int64_t count,
                        int64_t d, Stream *stream);
    // out[index[i]] = x[i]; the other rows of out are left alone. index has no duplicates.
    void (*scatter_rows)(Backend *b, Activation *out, const Activation *x, const int32_t *index, int64_t count,
                         int64_t d, Stream *stream);
    // logits: [count, stride], the first `vocabulary` columns are used. losses[i] = -log softmax(logits[i])[labels[i]],
    // 0 where the label is LABEL_IGNORED. With gradient, logits become scale * (softmax - onehot), 0 in ignored rows
    // and in the columns from vocabulary to stride.
    void (*cross_entropy)(Backend *b, Activation *logits, float *losses, const int32_t *labels, float scale,
                          bool gradient, int64_t count, int64_t vocabulary, int64_t stride, Stream *stream);
    // *sum += the sum of losses[0 .. count), in double, in ascending order
    void (*sum_losses)(Backend *b, double *sum, const float *losses, int64_t count, Stream *stream);

    // ---- optimizer ----------------------------------------------------------------------------------------------
    // *sum += the sum of squares of values[0 .. count), in double, in a fixed order
    void (*sum_squares)(Backend *b, double *sum, const float *values, int64_t count, Stream *stream);
    // norm = sqrt(sum of squares[0 .. count), in double, in ascending order), so that the parts may be computed in any
    // order; *clip_scale = min(1, max_norm / (norm + 1e-6)) as PyTorch (1 when max_norm is 0); *skip = 1 when norm or
    // *loss is not finite, else 0.  All in backend memory. count >= 0.
    void (*clip_finish)(Backend *b, float *norm, float *clip_scale, int32_t *skip, const double *squares, int64_t count,
                        const double *loss, float max_norm, Stream *stream);
    // One AdamW update of count elements: weight (hi) and low bits (lo) are together the fp32 master (kernels/adamw.h).
    // m, v: [count] float, or bf16 with step->bf16_moments.
    void (*adamw)(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, void *m, void *v, int64_t count,
                  const AdamWStep *step, Stream *stream);
    // The same update of rows of a table of which only some rows have a gradient; bit-equal to adamw with the gradient
    // spread out and zeros elsewhere. weight, low_bits, m, v: [table rows, d]. rows: [count] distinct rows to update;
    // NULL: 0 .. count - 1. places: [table rows]; places[r] is the row of gradient [any, d] that belongs to table row
    // r, or -1 when row r has none: its gradient is then 0, which lets m and v decay. Elements are
    // counted in the whole table, for step->decayed and for the rounding. gradient may be NULL when all places are -1.
    // rows and places: memory of the backend.
    void (*adamw_rows)(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, const int32_t *places,
                       void *m, void *v, const int32_t *rows, int64_t count, int64_t d, const AdamWStep *step,
                       Stream *stream);
    // weight becomes the stochastic rounding of the master to bf16, element i drawn from random_bits(key, i).
    void (*freeze)(Backend *b, bf16 *weight, const int16_t *low_bits, int64_t count, uint64_t key, Stream *stream);

    // ---- decoding -----------------------------------------------------------------------------------------------
    // Activation -> float, in device memory (logits that the host will sample from)
    void (*to_float)(Backend *b, float *out, const Activation *x, int64_t count, Stream *stream);

    // ---- weights without a file -----------------------------------------------------------------------------------
    // out[i] = mean + deviation * random_normal(key, i), one rounding in float and one to bf16. Equal bits everywhere.
    void (*fill_normal)(Backend *b, bf16 *out, int64_t count, float mean, float deviation, uint64_t key,
                        Stream *stream);

    // ---- measuring ------------------------------------------------------------------------------------------------
    // Bytes of device memory in use: on the CPU this process's anonymous memory, on a card what it and all others there
    // hold. 0 where that cannot be known. What counts is the difference between two calls.
    uint64_t (*memory_in_use)(Backend *b);
    // Bytes of this kind that allocate can still give: what a card has free, what the machine leaves to this process.
    uint64_t (*memory_available)(Backend *b, MemoryKind kind);
    // Matrix products that attention_backward computes for a pair of tokens of a sequence of this length; 5 are needed.
    int (*attention_products)(const Backend *b, int64_t sequence_tokens);
    // Seconds that the processor's own library (OpenBLAS, cuBLASLt) takes for one multiplication of this shape and the
    // backend's operand types, all its threads at work, operands ready: what a step is measured against. Median of
    // `repeats` runs. Allocates and frees memory of its own.
    bool (*gemm_seconds)(Backend *b, GemmLayout layout, int64_t m, int64_t n, int64_t k, int repeats, double *seconds,
                         Error *error);
};

// The CPU backend. threads 0: one per processor. round_activations: every operation's output is rounded to bf16 where
// CUDA rounds it, a stand-in for bf16 PyTorch in tests. NULL with a message on failure; free with b->destroy(b).
Backend *backend_cpu_create(int threads, bool round_activations, Error *error);

// The CUDA backend on card number `device`; threads as above, for the host's share of the work. NULL with a message
// that names what is missing (this build's CUDA part, a card, a driver new enough, a library); free with b->destroy(b).
Backend *backend_cuda_create(int device, int threads, Error *error);

// What a plan needs to know of the CUDA backend, without a card and in every build: the numbers, workspace_bytes, the
// functions that give sizes and attention_products are a card's own; memory_available says 0, destroy frees it, every
// other function is NULL, and so is threads. NULL with a message when memory runs out.
Backend *backend_cuda_describe(Error *error);

#ifdef __cplusplus
}
#endif
