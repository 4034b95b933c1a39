// gemm_cublaslt.cu - the matrix multiplication by cuBLASLt; see gemm.h.
//
// cuBLASLt counts in columns: a row-major [r, c] is a column-major [c, r] there. So it is asked for the transposed
// product, out^T = second^T first^T, which needs no matrix to be moved.
//
// What it takes to run a shape (descriptors, and the algorithm that the library's heuristic names first) is kept. The
// heuristic sees the shape, the strides and the alignments that follow from them, and a work space of fixed size: no
// timing, so a shape has one algorithm. Split sums are added in fp32 and in a fixed order.
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/sizes.h"
#include <stdlib.h>
#include <string.h>

#define PLANS          256 // shapes kept; a training run has some dozens
#define ALIGNMENT_MOST 16  // bytes; no kernel loads more at once

// What the algorithm depends on, and nothing else. No padding: compared as bytes.
typedef struct Shape {
    int64_t m, n, k;
    int64_t first_stride, second_stride, out_stride;
    int32_t layout;
    uint32_t first_alignment, second_alignment, add_alignment, out_alignment, bias_alignment; // bytes; bias 0: none
    int32_t sums, adds;
} Shape;
static_assert(sizeof(Shape) == 6 * sizeof(int64_t) + 8 * sizeof(int32_t), "a shape has no padding");

typedef struct Plan {
    Shape shape;
    void *product; // descriptors of the library; NULL: the plan is free
    void *a, *b, *d;
    LtAlgorithm algorithm;
    uint64_t used; // number of the last multiplication that used it
} Plan;

struct Gemm {
    CublasLt lt;
    void *handle;
    void *preference;
    void *workspace; // [GEMM_WORKSPACE_BYTES] on the card
    uint64_t calls;
    Plan plans[PLANS];
};

// ---- shapes --------------------------------------------------------------------------------------------------------

// The largest power of two that divides both the address and the distance of two rows, ALIGNMENT_MOST at most.
static uint32_t alignment_of(const void *values, int64_t stride, size_t size) {
    uint64_t bits = reinterpret_cast<uintptr_t>(values) | static_cast<uint64_t>(stride) * size | ALIGNMENT_MOST;
    return static_cast<uint32_t>(bits & -bits);
}

static Shape shape_of(const GemmCall *call) {
    size_t out_size = call->sums ? sizeof(float) : sizeof(bf16);
    Shape shape = {};
    shape.m = call->m, shape.n = call->n, shape.k = call->k;
    shape.first_stride = call->first_stride;
    shape.second_stride = call->second_stride;
    shape.out_stride = call->out_stride;
    shape.layout = call->layout;
    shape.sums = call->sums;
    shape.adds = call->add != NULL;
    shape.first_alignment = alignment_of(call->first, call->first_stride, sizeof(bf16));
    shape.second_alignment = alignment_of(call->second, call->second_stride, sizeof(bf16));
    shape.out_alignment = alignment_of(call->out, call->out_stride, out_size);
    shape.add_alignment = call->add ? alignment_of(call->add, call->out_stride, out_size) : shape.out_alignment;
    shape.bias_alignment = call->bias ? alignment_of(call->bias, 0, sizeof(bf16)) : 0;
    return shape;
}

// ---- plans ---------------------------------------------------------------------------------------------------------

static bool refused(const Gemm *gemm, const char *what, const Shape *s, int status, Error *error) {
    static const char *const names[] = {"x W^T", "dout W", "dout^T x"};
    const char *text = gemm->lt.GetStatusString ? gemm->lt.GetStatusString(status) : "see cublasStatus_t";
    error_set(error, "cuBLASLt (%s) %s %s with m %lld, n %lld, k %lld: status %d, %s", gemm->lt.path, what,
              names[s->layout], (long long)s->m, (long long)s->n, (long long)s->k, status, text);
    return error_hint(error, "another version of cuBLAS may do it; --device cpu does without");
}

static void drop_plan(Gemm *gemm, Plan *plan) {
    const CublasLt *lt = &gemm->lt;
    if (plan->product) lt->MatmulDescDestroy(plan->product);
    if (plan->a) lt->MatrixLayoutDestroy(plan->a);
    if (plan->b) lt->MatrixLayoutDestroy(plan->b);
    if (plan->d) lt->MatrixLayoutDestroy(plan->d);
    *plan = Plan{};
}

// Descriptors of out^T = second^T first^T. A matrix of r rows here has r columns there.
static int describe(const CublasLt *lt, Plan *plan, const void *bias) {
    const Shape *s = &plan->shape;
    bool forward = s->layout == GEMM_FORWARD, weight = s->layout == GEMM_BACKWARD_WEIGHT;
    int32_t transpose_a = forward ? LT_TRANSPOSED : LT_AS_IT_IS, transpose_b = weight ? LT_TRANSPOSED : LT_AS_IT_IS;
    int64_t second_rows = forward ? s->n : s->k, second_columns = forward ? s->k : s->n;
    int64_t first_rows = weight ? s->k : s->m, first_columns = weight ? s->m : s->k;
    uint32_t epilogue = LT_EPILOGUE_BIAS;
    int status = lt->MatmulDescCreate(&plan->product, LT_COMPUTE_FLOAT, LT_FLOAT);
    if (!status)
        status = lt->MatmulDescSetAttribute(plan->product, LT_PRODUCT_TRANSPOSE_A, &transpose_a, sizeof transpose_a);
    if (!status)
        status = lt->MatmulDescSetAttribute(plan->product, LT_PRODUCT_TRANSPOSE_B, &transpose_b, sizeof transpose_b);
    if (!status && bias)
        status = lt->MatmulDescSetAttribute(plan->product, LT_PRODUCT_EPILOGUE, &epilogue, sizeof epilogue);
    // the heuristic looks at the address for its alignment
    if (!status && bias)
        status = lt->MatmulDescSetAttribute(plan->product, LT_PRODUCT_BIAS_POINTER, &bias, sizeof bias);
    if (!status)
        status = lt->MatrixLayoutCreate(&plan->a, LT_BF16, static_cast<uint64_t>(second_columns),
                                        static_cast<uint64_t>(second_rows), s->second_stride);
    if (!status)
        status = lt->MatrixLayoutCreate(&plan->b, LT_BF16, static_cast<uint64_t>(first_columns),
                                        static_cast<uint64_t>(first_rows), s->first_stride);
    if (!status)
        status = lt->MatrixLayoutCreate(&plan->d, s->sums ? LT_FLOAT : LT_BF16, static_cast<uint64_t>(s->n),
                                        static_cast<uint64_t>(s->m), s->out_stride);
    return status;
}

// The algorithm that the heuristic names first, for these alignments.
static int choose_algorithm(Gemm *gemm, Plan *plan) {
    const CublasLt *lt = &gemm->lt;
    const Shape *s = &plan->shape;
    const struct {
        int attribute;
        uint32_t bytes;
    } alignments[] = {{LT_PREFER_ALIGNMENT_A, s->second_alignment},
                      {LT_PREFER_ALIGNMENT_B, s->first_alignment},
                      {LT_PREFER_ALIGNMENT_C, s->add_alignment},
                      {LT_PREFER_ALIGNMENT_D, s->out_alignment}};
    for (const auto &alignment : alignments) {
        int status = lt->MatmulPreferenceSetAttribute(gemm->preference, alignment.attribute, &alignment.bytes,
                                                      sizeof alignment.bytes);
        if (status) return status;
    }
    LtHeuristic best = {};
    int found = 0;
    int status = lt->MatmulAlgoGetHeuristic(gemm->handle, plan->product, plan->a, plan->b, plan->d, plan->d,
                                            gemm->preference, 1, &best, &found);
    if (!status && found < 1) status = LT_NOT_SUPPORTED;
    if (!status) status = best.status;
    if (!status) plan->algorithm = best.algorithm;
    return status;
}

// The plan of a call's shape: a kept one, or a new one in place of the one that was not used for longest.
static Plan *plan_for(Gemm *gemm, const GemmCall *call, Error *error) {
    Shape shape = shape_of(call);
    Plan *oldest = &gemm->plans[0];
    for (Plan &plan : gemm->plans) {
        if (plan.product && !memcmp(&plan.shape, &shape, sizeof shape)) return &plan;
        if (plan.used < oldest->used) oldest = &plan;
    }
    drop_plan(gemm, oldest);
    oldest->shape = shape;
    int status = describe(&gemm->lt, oldest, call->bias);
    if (!status) status = choose_algorithm(gemm, oldest);
    if (!status) return oldest;
    drop_plan(gemm, oldest);
    refused(gemm, "has no way to compute", &shape, status, error);
    return NULL;
}

bool gemm_multiply(Gemm *gemm, const GemmCall *call, void *stream, Error *error) {
    const CublasLt *lt = &gemm->lt;
    Plan *plan = plan_for(gemm, call, error);
    if (!plan) return false;
    plan->used = ++gemm->calls;
    const float one = 1, beta = call->add ? 1 : 0;
    const void *bias = call->bias;
    int status = LT_SUCCESS;
    if (bias) status = lt->MatmulDescSetAttribute(plan->product, LT_PRODUCT_BIAS_POINTER, &bias, sizeof bias);
    if (!status)
        status = lt->Matmul(gemm->handle, plan->product, &one, call->second, plan->a, call->first, plan->b, &beta,
                            call->add ? call->add : call->out, plan->d, call->out, plan->d, &plan->algorithm,
                            gemm->workspace, GEMM_WORKSPACE_BYTES, stream);
    return !status || refused(gemm, "failed at", &plan->shape, status, error);
}

// ---- creation -------------------------------------------------------------------------------------------------------

size_t gemm_workspace_bytes(const Gemm *gemm) {
    return gemm->workspace ? GEMM_WORKSPACE_BYTES : 0;
}

static bool start(Gemm *gemm, Error *error) {
    const CublasLt *lt = &gemm->lt;
    const uint32_t reduction = LT_REDUCE_IN_COMPUTE_TYPE;
    const uint64_t workspace = GEMM_WORKSPACE_BYTES;
    int status = lt->Create(&gemm->handle);
    if (!status) status = lt->MatmulPreferenceCreate(&gemm->preference);
    if (!status)
        status = lt->MatmulPreferenceSetAttribute(gemm->preference, LT_PREFER_WORKSPACE, &workspace, sizeof workspace);
    if (!status)
        status = lt->MatmulPreferenceSetAttribute(gemm->preference, LT_PREFER_REDUCTION, &reduction, sizeof reduction);
    if (!status) return true;
    error_set(error, "cuBLASLt (%s) could not be started: status %d", lt->path, status);
    return error_hint(error, "its version should be that of the driver and of the CUDA toolkit lisa was built with");
}

Gemm *gemm_create(Error *error) {
    Gemm *gemm = static_cast<Gemm *>(calloc(1, sizeof(Gemm)));
    if (!gemm) {
        error_memory(error, "the plans of matrix multiplications", sizeof(Gemm));
        return NULL;
    }
    bool good = cublaslt_open(&gemm->lt, CUDART_VERSION / 1000, error) && start(gemm, error);
    if (good && cudaMalloc(&gemm->workspace, GEMM_WORKSPACE_BYTES) != cudaSuccess) {
        cudaGetLastError(); // told here; not a fault of the next operation
        gemm->workspace = NULL;
        good = error_memory(error, "the work space of cuBLASLt on the card", GEMM_WORKSPACE_BYTES);
    }
    if (good) return gemm;
    gemm_free(gemm);
    return NULL;
}

void gemm_free(Gemm *gemm) {
    if (!gemm) return;
    for (Plan &plan : gemm->plans) drop_plan(gemm, &plan);
    if (gemm->preference) gemm->lt.MatmulPreferenceDestroy(gemm->preference);
    if (gemm->handle) gemm->lt.Destroy(gemm->handle);
    if (gemm->workspace) cudaFree(gemm->workspace);
    cublaslt_close(&gemm->lt);
    free(gemm);
}
