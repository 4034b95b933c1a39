// fake.c - stands in for cuBLASLt where there is no card: a shared object with its functions, which does what the
// descriptors say on host memory, column-major as the real one, and refuses what that would refuse. A caller that
// confuses rows and columns, types, strides or alignments gets wrong numbers or an error here as well.
#include "tests/cublaslt/fake.h"
#include "base/numbers.h"
#include "kernels/cuda/cublaslt.h"
#include <stdlib.h>
#include <string.h>

FakeCublasLt fake_cublaslt;

typedef struct Product {
    int compute_type, scale_type;
    int32_t transpose[2];
    uint32_t epilogue;
    const void *bias;
} Product;

typedef struct Matrix {
    int type;
    int64_t rows, columns, leading;
} Matrix;

typedef struct Preference {
    uint64_t workspace;
    uint32_t reduction;
    uint32_t alignment[4]; // of A, B, C, D
} Preference;

// ---- making and setting

static int make(void **handle, size_t size) {
    *handle = calloc(1, size);
    fake_cublaslt.live++;
    return LT_SUCCESS;
}

static int destroy(void *handle) {
    if (!handle) return LT_INVALID_VALUE;
    fake_cublaslt.live--;
    free(handle);
    return LT_SUCCESS;
}

static int set(void *place, size_t size, const void *value, size_t given) {
    if (!value || size != given) return LT_INVALID_VALUE;
    memcpy(place, value, size);
    return LT_SUCCESS;
}

int cublasLtCreate(void **handle) {
    return fake_cublaslt.create_status ? fake_cublaslt.create_status : make(handle, 1);
}

int cublasLtDestroy(void *handle) {
    return destroy(handle);
}

const char *cublasLtGetStatusString(int status) {
    return status == LT_NOT_SUPPORTED ? "the requested functionality is not supported" : "an error";
}

int cublasLtMatmulDescCreate(void **product, int compute_type, int scale_type) {
    make(product, sizeof(Product));
    *(Product *)*product = (Product){compute_type, scale_type, {LT_AS_IT_IS, LT_AS_IT_IS}, LT_EPILOGUE_DEFAULT, NULL};
    return LT_SUCCESS;
}

int cublasLtMatmulDescDestroy(void *product) {
    return destroy(product);
}

int cublasLtMatmulDescSetAttribute(void *product, int attribute, const void *value, size_t size) {
    Product *p = product;
    switch (attribute) {
    case LT_PRODUCT_TRANSPOSE_A:
        return set(&p->transpose[0], sizeof p->transpose[0], value, size);
    case LT_PRODUCT_TRANSPOSE_B:
        return set(&p->transpose[1], sizeof p->transpose[1], value, size);
    case LT_PRODUCT_EPILOGUE:
        return set(&p->epilogue, sizeof p->epilogue, value, size);
    case LT_PRODUCT_BIAS_POINTER:
        return set(&p->bias, sizeof p->bias, value, size);
    default:
        return LT_INVALID_VALUE;
    }
}

int cublasLtMatrixLayoutCreate(void **layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    make(layout, sizeof(Matrix));
    *(Matrix *)*layout = (Matrix){type, (int64_t)rows, (int64_t)columns, leading};
    return LT_SUCCESS;
}

int cublasLtMatrixLayoutDestroy(void *layout) {
    return destroy(layout);
}

int cublasLtMatmulPreferenceCreate(void **preference) {
    make(preference, sizeof(Preference));
    *(Preference *)*preference = (Preference){.reduction = 7, .alignment = {256, 256, 256, 256}}; // its defaults
    return LT_SUCCESS;
}

int cublasLtMatmulPreferenceDestroy(void *preference) {
    return destroy(preference);
}

int cublasLtMatmulPreferenceSetAttribute(void *preference, int attribute, const void *value, size_t size) {
    Preference *p = preference;
    if (attribute == LT_PREFER_WORKSPACE) return set(&p->workspace, sizeof p->workspace, value, size);
    if (attribute == LT_PREFER_REDUCTION) return set(&p->reduction, sizeof p->reduction, value, size);
    if (attribute < LT_PREFER_ALIGNMENT_A || attribute > LT_PREFER_ALIGNMENT_D) return LT_INVALID_VALUE;
    return set(&p->alignment[attribute - LT_PREFER_ALIGNMENT_A], sizeof p->alignment[0], value, size);
}

// ---- multiplying

// Extents of the product, when the descriptors fit each other.
static bool extents(const Product *p, const Matrix *a, const Matrix *b, const Matrix *c, const Matrix *d, int64_t *m,
                    int64_t *n, int64_t *k) {
    bool ta = p->transpose[0] == LT_TRANSPOSED, tb = p->transpose[1] == LT_TRANSPOSED;
    *m = ta ? a->columns : a->rows;
    *k = ta ? a->rows : a->columns;
    *n = tb ? b->rows : b->columns;
    return p->compute_type == LT_COMPUTE_FLOAT && p->scale_type == LT_FLOAT && a->type == LT_BF16 &&
           b->type == LT_BF16 && (d->type == LT_BF16 || d->type == LT_FLOAT) && !memcmp(c, d, sizeof *c) &&
           (tb ? b->columns : b->rows) == *k && d->rows == *m && d->columns == *n && a->leading >= a->rows &&
           b->leading >= b->rows && d->leading >= d->rows;
}

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *product, void *a, void *b, void *c, void *d, void *preference,
                                   int wanted, LtHeuristic *results, int *found) {
    const Preference *p = preference;
    int64_t m, n, k;
    fake_cublaslt.heuristics++;
    *found = 0;
    if (!handle || wanted != 1 || !extents(product, a, b, c, d, &m, &n, &k)) return LT_INVALID_VALUE;
    if (fake_cublaslt.heuristic_status) return fake_cublaslt.heuristic_status;
    // split sums that are added in bf16, or in any order, would be allowed
    if (p->reduction & ~(uint32_t)LT_REDUCE_IN_COMPUTE_TYPE) return LT_NOT_SUPPORTED;
    memset(results, 0, sizeof *results);
    for (int i = 0; i < 4; i++) results->algorithm.data[i] = p->alignment[i];
    results->algorithm.data[4] = p->workspace;
    results->workspace_bytes = (size_t)p->workspace;
    *found = 1;
    return LT_SUCCESS;
}

static double bf16_at(const void *values, int64_t index) {
    return (double)bf16_to_float(((const bf16 *)values)[index]);
}

static double element(const Matrix *x, const void *values, bool transposed, int64_t row, int64_t column) {
    return bf16_at(values, transposed ? row * x->leading + column : column * x->leading + row);
}

static bool aligned(const void *values, const Matrix *x, uint64_t bytes) {
    uint64_t size = x->type == LT_FLOAT ? sizeof(float) : sizeof(bf16);
    return (uintptr_t)values % bytes == 0 && (uint64_t)x->leading * size % bytes == 0;
}

int cublasLtMatmul(void *handle, void *product, const void *alpha, const void *a_values, void *a, const void *b_values,
                   void *b, const void *beta, const void *c_values, void *c, void *d_values, void *d,
                   const LtAlgorithm *algorithm, void *workspace, size_t workspace_bytes, void *stream) {
    const Product *p = product;
    const Matrix *out = d;
    const void *operands[] = {a_values, b_values, c_values, d_values};
    const Matrix *matrices[] = {a, b, c, d};
    int64_t m, n, k;
    (void)stream;
    if (!handle || !workspace || workspace_bytes < algorithm->data[4] || !extents(p, a, b, c, d, &m, &n, &k))
        return LT_INVALID_VALUE;
    for (int i = 0; i < 4; i++) // each column starts as aligned as was promised
        if (!aligned(operands[i], matrices[i], algorithm->data[i])) return LT_INVALID_VALUE;
    if (fake_cublaslt.multiply_status) return fake_cublaslt.multiply_status;
    for (int64_t column = 0; column < n; column++) {
        for (int64_t row = 0; row < m; row++) {
            int64_t at = column * out->leading + row;
            double sum = 0;
            for (int64_t i = 0; i < k; i++)
                sum += element(a, a_values, p->transpose[0] == LT_TRANSPOSED, row, i) *
                       element(b, b_values, p->transpose[1] == LT_TRANSPOSED, i, column);
            sum *= (double)*(const float *)alpha;
            if (*(const float *)beta != 0) { // C is not read otherwise
                double old = out->type == LT_FLOAT ? (double)((const float *)c_values)[at] : bf16_at(c_values, at);
                sum += (double)*(const float *)beta * old;
            }
            if (p->epilogue == LT_EPILOGUE_BIAS) sum += bf16_at(p->bias, row);
            if (out->type == LT_FLOAT)
                ((float *)d_values)[at] = (float)sum;
            else
                ((bf16 *)d_values)[at] = bf16_from_float((float)sum);
        }
    }
    fake_cublaslt.multiplications++;
    return LT_SUCCESS;
}
