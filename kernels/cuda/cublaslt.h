// cublaslt.h - the part of cuBLASLt's binary interface that the GEMM uses. The library is opened at run time, so a
// build needs neither it nor its header; where nvcc finds the header, the compiler holds every number here against it.
//
// A handle of the library is a void *. Matrices are column-major there; see NVIDIA's cuBLAS documentation, section
// "Using the cuBLASLt API".
#pragma once
#include "base/error.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LT_SUCCESS = 0, LT_INVALID_VALUE = 7, LT_NOT_SUPPORTED = 15 }; // cublasStatus_t
enum { LT_FLOAT = 0, LT_BF16 = 14 };                                  // cudaDataType_t
enum { LT_COMPUTE_FLOAT = 68 };                                       // cublasComputeType_t
enum { LT_AS_IT_IS = 0, LT_TRANSPOSED = 1 };                          // cublasOperation_t
enum { LT_EPILOGUE_DEFAULT = 1, LT_EPILOGUE_BIAS = 4 };               // cublasLtEpilogue_t
enum { LT_REDUCE_IN_COMPUTE_TYPE = 2 };                               // cublasLtReductionScheme_t

enum {                           // cublasLtMatmulDescAttributes_t, with the type of the value
    LT_PRODUCT_TRANSPOSE_A = 3,  // int32_t
    LT_PRODUCT_TRANSPOSE_B = 4,  // int32_t
    LT_PRODUCT_EPILOGUE = 7,     // uint32_t
    LT_PRODUCT_BIAS_POINTER = 8, // const void *
};

enum {                         // cublasLtMatmulPreferenceAttributes_t
    LT_PREFER_WORKSPACE = 1,   // uint64_t, bytes at most
    LT_PREFER_REDUCTION = 3,   // uint32_t, mask
    LT_PREFER_ALIGNMENT_A = 5, // uint32_t, bytes
    LT_PREFER_ALIGNMENT_B = 6,
    LT_PREFER_ALIGNMENT_C = 7,
    LT_PREFER_ALIGNMENT_D = 8,
};

typedef struct LtAlgorithm {
    uint64_t data[8];
} LtAlgorithm;

typedef struct LtHeuristic {
    LtAlgorithm algorithm;
    size_t workspace_bytes;
    int status;
    float waves;
    int reserved[4];
} LtHeuristic;

// The opened library: its functions, each named as there after cublasLt.
typedef struct CublasLt {
    void *library; // of dlopen
    char path[512];
    const char *(*GetStatusString)(int status); // NULL before CUDA 11.4
    int (*Create)(void **handle);
    int (*Destroy)(void *handle);
    int (*MatmulDescCreate)(void **product, int compute_type, int scale_type);
    int (*MatmulDescDestroy)(void *product);
    int (*MatmulDescSetAttribute)(void *product, int attribute, const void *value, size_t size);
    int (*MatrixLayoutCreate)(void **layout, int type, uint64_t rows, uint64_t columns, int64_t leading);
    int (*MatrixLayoutDestroy)(void *layout);
    int (*MatmulPreferenceCreate)(void **preference);
    int (*MatmulPreferenceDestroy)(void *preference);
    int (*MatmulPreferenceSetAttribute)(void *preference, int attribute, const void *value, size_t size);
    int (*MatmulAlgoGetHeuristic)(void *handle, void *product, void *a, void *b, void *c, void *d, void *preference,
                                  int wanted, LtHeuristic *results, int *found);
    int (*Matmul)(void *handle, void *product, const void *alpha, const void *a_values, void *a, const void *b_values,
                  void *b, const void *beta, const void *c_values, void *c, void *d_values, void *d,
                  const LtAlgorithm *algorithm, void *workspace, size_t workspace_bytes, void *stream);
} CublasLt;

// Opens the library: of this major version first (that of the toolkit the program was built with), then of others.
// Looked for in CUDA_HOME, where the loader looks (LD_LIBRARY_PATH among it), under /usr/local/cuda*, and in Python's
// packages; the message of a failure lists these places. End with cublaslt_close, also after a failure.
bool cublaslt_open(CublasLt *lt, int major, Error *error);
void cublaslt_close(CublasLt *lt);

#ifdef __cplusplus
}
#endif

#if defined(__CUDACC__) && __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define LT_SAME(ours, theirs) static_assert(static_cast<int>(ours) == static_cast<int>(theirs), #theirs)
LT_SAME(LT_SUCCESS, CUBLAS_STATUS_SUCCESS);
LT_SAME(LT_INVALID_VALUE, CUBLAS_STATUS_INVALID_VALUE);
LT_SAME(LT_NOT_SUPPORTED, CUBLAS_STATUS_NOT_SUPPORTED);
LT_SAME(LT_FLOAT, CUDA_R_32F);
LT_SAME(LT_BF16, CUDA_R_16BF);
LT_SAME(LT_COMPUTE_FLOAT, CUBLAS_COMPUTE_32F);
LT_SAME(LT_AS_IT_IS, CUBLAS_OP_N);
LT_SAME(LT_TRANSPOSED, CUBLAS_OP_T);
LT_SAME(LT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_DEFAULT);
LT_SAME(LT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BIAS);
LT_SAME(LT_REDUCE_IN_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
LT_SAME(LT_PRODUCT_TRANSPOSE_A, CUBLASLT_MATMUL_DESC_TRANSA);
LT_SAME(LT_PRODUCT_TRANSPOSE_B, CUBLASLT_MATMUL_DESC_TRANSB);
LT_SAME(LT_PRODUCT_EPILOGUE, CUBLASLT_MATMUL_DESC_EPILOGUE);
LT_SAME(LT_PRODUCT_BIAS_POINTER, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
LT_SAME(LT_PREFER_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
LT_SAME(LT_PREFER_REDUCTION, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
LT_SAME(LT_PREFER_ALIGNMENT_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
LT_SAME(LT_PREFER_ALIGNMENT_B, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
LT_SAME(LT_PREFER_ALIGNMENT_C, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
LT_SAME(LT_PREFER_ALIGNMENT_D, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
LT_SAME(sizeof(LtAlgorithm), sizeof(cublasLtMatmulAlgo_t));
LT_SAME(sizeof(LtHeuristic), sizeof(cublasLtMatmulHeuristicResult_t));
LT_SAME(offsetof(LtHeuristic, status), offsetof(cublasLtMatmulHeuristicResult_t, state));
#undef LT_SAME
#endif
