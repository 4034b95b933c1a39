// gemm_seconds.c - the rate of plain sgemm, OpenBLAS' own threads and nothing of ours: the bench's yardstick.
#include "base/clock.h"
#include "base/random.h"
#include "kernels/cpu/cpu.h"
#include <cblas.h>
#include <stdlib.h>

static void fill(float *values, int64_t count) {
    for (int64_t i = 0; i < count; i++) values[i] = (float)random_uniform(1, (uint64_t)i) - 0.5f;
}

static void multiply(GemmLayout layout, int m, int n, int k, const float *a, const float *b, float *c) {
    enum CBLAS_TRANSPOSE first = layout == GEMM_BACKWARD_WEIGHT ? CblasTrans : CblasNoTrans;
    enum CBLAS_TRANSPOSE second = layout == GEMM_FORWARD ? CblasTrans : CblasNoTrans;
    float old = layout == GEMM_BACKWARD_WEIGHT ? 1 : 0; // weight gradients are added to
    cblas_sgemm(CblasRowMajor, first, second, m, n, k, 1, a, first == CblasTrans ? m : k, b,
                second == CblasTrans ? k : n, old, c, n);
}

bool cpu_gemm_seconds(Backend *backend, GemmLayout layout, int64_t m, int64_t n, int64_t k, int repeats,
                      double *seconds, Error *error) {
    size_t bytes = (size_t)(m * k + k * n + m * n) * sizeof(float);
    float *a = malloc(bytes);
    double *times = calloc((size_t)repeats, sizeof *times);
    bool ok = a && times;
    if (ok) {
        float *b = a + m * k, *c = b + k * n;
        fill(a, m * k + k * n + m * n);
        openblas_set_num_threads(thread_pool_size(backend->threads));
        multiply(layout, (int)m, (int)n, (int)k, a, b, c); // wakes the threads and warms the caches
        for (int i = 0; i < repeats; i++) {
            double start = clock_seconds();
            multiply(layout, (int)m, (int)n, (int)k, a, b, c);
            times[i] = clock_seconds() - start;
        }
        openblas_set_num_threads(1);
        *seconds = clock_median(times, repeats);
    } else {
        error_memory(error, "the matrices to measure with", bytes);
    }
    free(times);
    free(a);
    return ok;
}
