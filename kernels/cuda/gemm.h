// gemm.h - the matrix multiplication of the CUDA backend: bf16 in, fp32 sums, bf16 or fp32 out.
//
// On a card it is cuBLASLt (gemm_cublaslt.cu). The tests, which have none, link a plain one that is queued on the
// emulated stream.
#pragma once
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// out [m, n] = the product of `layout` (kernels.h) + bias + add, rounded once. Matrices are row-major, their rows
// `stride` elements apart.
typedef struct GemmCall {
    GemmLayout layout;
    int64_t m, n, k;
    const bf16 *first, *second; // as the layout names them: the first has m rows (k, where it is transposed)
    int64_t first_stride, second_stride;
    void *out;        // float where sums is true, else bf16
    const void *add;  // of out's type and stride, may be out itself; NULL: nothing is added
    const bf16 *bias; // [n], or NULL; only with bf16 out
    int64_t out_stride;
    bool sums; // out is fp32
} GemmCall;

typedef struct Gemm Gemm;

// Takes its library and its work space on the current card; NULL with a message. Free with gemm_free.
Gemm *gemm_create(Error *error);
void gemm_free(Gemm *gemm); // NULL is allowed

// Device memory that it took at creation; multiplications take none.
size_t gemm_workspace_bytes(const Gemm *gemm);

// Queues one multiplication on a cudaStream_t; m, n, k >= 1. Equal shapes give equal algorithms, so equal inputs give
// equal bits. All multiplications share the work space: they go to one stream, or to streams that wait for each other.
bool gemm_multiply(Gemm *gemm, const GemmCall *call, void *stream, Error *error);

#ifdef __cplusplus
}
#endif
