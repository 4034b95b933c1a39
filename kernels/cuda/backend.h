// backend.h - inside the CUDA backend: its state, how an operation finds its stream and reports a fault, and the
// operations of the table, one subject per .cu file.
#pragma once
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/sizes.h"
#include "kernels/kernels.h"

typedef struct CudaBackend {
    Backend base; // first, so that a Backend * of this backend is a CudaBackend *
    int device;   // number of the card
    cudaStream_t compute;
    float *decode_scratch; // [DECODE_SCRATCH_FLOATS]; one attention_decode at a time uses it
    double *square_parts;  // [SQUARES_PARTS] of sum_squares, whose calls are therefore on one stream
    struct Gemm *gemm;     // of linear.cu
    bool faulty;           // something failed; from then on results mean nothing
    Error fault;           // the first failure
} CudaBackend;

static inline CudaBackend *cuda_backend(Backend *b) {
    return reinterpret_cast<CudaBackend *>(b);
}

// The CUDA stream that a contract's stream stands for; NULL is the compute stream.
static inline cudaStream_t cuda_stream(Backend *b, Stream *stream) {
    return stream ? reinterpret_cast<cudaStream_t>(stream) : cuda_backend(b)->compute;
}

// Keeps a failure, the first one alone, for check() to report. operation: what was being issued when it was noticed.
void cuda_note(Backend *b, const char *operation, cudaError_t status);
void cuda_fail(Backend *b, const Error *fault);
// Called by each operation once its kernels are launched.
void cuda_launched(Backend *b, const char *operation);

static inline unsigned cuda_blocks(int64_t count, int64_t per_block) {
    return static_cast<unsigned>((count + per_block - 1) / per_block);
}

// ---- the table's operations; see kernels.h -------------------------------------------------------------------------

void cuda_embed_forward(Backend *b, Activation *out, const bf16 *table, const int32_t *ids, int64_t tokens, int64_t d,
                        Stream *stream);
void cuda_embed_backward(Backend *b, float *gradient, const Activation *dout, const int32_t *rows,
                         const int32_t *starts, const int32_t *order, int64_t row_count, int64_t d, Stream *stream);
void cuda_add_rows(Backend *b, float *table, const float *rows, const int32_t *places, int64_t count, int64_t d,
                   Stream *stream);

void cuda_linear_forward(Backend *b, Activation *out, const Activation *x, const bf16 *weight, const bf16 *bias,
                         const Activation *add, int64_t tokens, int64_t n, int64_t k, int64_t stride, Stream *stream);
void cuda_linear_backward_input(Backend *b, Activation *dx, const Activation *dout, const bf16 *weight, int64_t tokens,
                                int64_t n, int64_t k, int64_t stride, Stream *stream);
void cuda_linear_backward_weight(Backend *b, float *gradient, float *bias_gradient, const Activation *dout,
                                 const Activation *x, int64_t tokens, int64_t n, int64_t k, int64_t stride,
                                 Stream *stream);
bool cuda_gemm_seconds(Backend *b, GemmLayout layout, int64_t m, int64_t n, int64_t k, int repeats, double *seconds,
                       Error *error);

void cuda_rmsnorm_forward(Backend *b, Activation *out, float *rstd, const Activation *x, const bf16 *gain,
                          float epsilon, int64_t tokens, int64_t d, Stream *stream);
void cuda_rmsnorm_rebuild(Backend *b, Activation *out, const Activation *x, const float *rstd, const bf16 *gain,
                          int64_t tokens, int64_t d, Stream *stream);
void cuda_rmsnorm_backward(Backend *b, Activation *dx, float *gain_gradient, const Activation *dout,
                           const Activation *x, const float *rstd, const bf16 *gain, void *scratch, int64_t tokens,
                           int64_t d, Stream *stream);

void cuda_rope(Backend *b, Activation *qkv, const int32_t *positions, const float *cosine, const float *sine,
               int64_t tokens, int heads, int kv_heads, int head_dim, bool inverse, Stream *stream);
void cuda_attention_forward(Backend *b, Activation *out, float *lse, const Activation *qkv, const AttentionShape *shape,
                            Stream *stream);
void cuda_attention_backward(Backend *b, Activation *dqkv, const Activation *dout, const Activation *qkv,
                             const Activation *out, const float *lse, void *scratch, const AttentionShape *shape,
                             Stream *stream);
void cuda_attention_decode(Backend *b, Activation *out, const Activation *q, const Activation *keys,
                           const Activation *values, int64_t length, int heads, int kv_heads, int head_dim, int window,
                           float scale, Stream *stream);

void cuda_swiglu_forward(Backend *b, Activation *out, const Activation *gate_up, int64_t tokens, int64_t f,
                         Stream *stream);
void cuda_swiglu_backward(Backend *b, Activation *gate_up, Activation *out, const Activation *dout, int64_t tokens,
                          int64_t f, Stream *stream);

void cuda_gather_rows(Backend *b, Activation *out, const Activation *x, const int32_t *index, int64_t count, int64_t d,
                      Stream *stream);
void cuda_scatter_rows(Backend *b, Activation *out, const Activation *x, const int32_t *index, int64_t count, int64_t d,
                       Stream *stream);
void cuda_cross_entropy(Backend *b, Activation *logits, float *losses, const int32_t *labels, float scale,
                        bool gradient, int64_t count, int64_t vocabulary, int64_t stride, Stream *stream);

void cuda_sum_losses(Backend *b, double *sum, const float *losses, int64_t count, Stream *stream);
void cuda_sum_squares(Backend *b, double *sum, const float *values, int64_t count, Stream *stream);
void cuda_clip_finish(Backend *b, float *norm, float *clip_scale, int32_t *skip, const double *squares, int64_t count,
                      const double *loss, float max_norm, Stream *stream);
void cuda_adamw(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, void *m, void *v, int64_t count,
                const AdamWStep *step, Stream *stream);
void cuda_adamw_rows(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, const int32_t *places, void *m,
                     void *v, const int32_t *rows, int64_t count, int64_t d, const AdamWStep *step, Stream *stream);
void cuda_freeze(Backend *b, bf16 *weight, const int16_t *low_bits, int64_t count, uint64_t key, Stream *stream);

void cuda_to_float(Backend *b, float *out, const Activation *x, int64_t count, Stream *stream);
void cuda_fill_normal(Backend *b, bf16 *out, int64_t count, float mean, float deviation, uint64_t key, Stream *stream);
