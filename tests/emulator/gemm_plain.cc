// gemm_plain.cc - the matrix multiplication of kernels/cuda/gemm.h where there is no cuBLASLt: plain loops, queued on
// the emulated stream. Sums run in fp32 in ascending order of k.
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/sizes.h"
#include "library.h"
#include <stdlib.h>
#include <vector>

struct Gemm {
    void *workspace; // nobody needs it, but the card's memory is accounted for as with the real library
};

Gemm *gemm_create(Error *error) {
    Gemm *gemm = new Gemm{};
    if (emulator::library_reserve(&gemm->workspace, GEMM_WORKSPACE_BYTES) == cudaSuccess) return gemm;
    cudaGetLastError();
    delete gemm;
    error_memory(error, "the work space of matrix products", GEMM_WORKSPACE_BYTES);
    return nullptr;
}

void gemm_free(Gemm *gemm) {
    if (!gemm) return;
    cudaFree(gemm->workspace);
    delete gemm;
}

size_t gemm_workspace_bytes(const Gemm *) {
    return GEMM_WORKSPACE_BYTES;
}

// A matrix in device memory as floats, [rows, columns] or transposed to [columns, rows].
static std::vector<float> widened(const bf16 *matrix, int64_t rows, int64_t columns, int64_t stride, bool transposed) {
    std::vector<float> values(static_cast<size_t>(rows * columns));
    for (int64_t r = 0; r < rows; r++) {
        const bf16 *row = matrix + r * stride;
        emulator::library_reads(row, static_cast<size_t>(columns) * sizeof(bf16));
        for (int64_t c = 0; c < columns; c++)
            values[static_cast<size_t>(transposed ? c * rows + r : r * columns + c)] = bf16_to_float(row[c]);
    }
    return values;
}

// sums[n] = row i of the product; a: [m, k], b: [k, n]
static void multiply_row(float *sums, const float *a, const float *b, int64_t n, int64_t k) {
    for (int64_t j = 0; j < n; j++) sums[j] = 0;
    for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < n; j++) sums[j] += a[p] * b[p * n + j];
}

// Row i of the output: the sums, the bias and what is added, rounded once.
static void finish_row(const GemmCall &call, const float *sums, int64_t i) {
    size_t size = call.sums ? sizeof(float) : sizeof(bf16);
    int64_t at = i * call.out_stride;
    char *out = static_cast<char *>(call.out) + static_cast<size_t>(at) * size;
    const char *add = call.add ? static_cast<const char *>(call.add) + static_cast<size_t>(at) * size : nullptr;
    if (add) emulator::library_reads(add, static_cast<size_t>(call.n) * size);
    emulator::library_writes(out, static_cast<size_t>(call.n) * size);
    for (int64_t j = 0; j < call.n; j++) {
        float value = sums[j];
        if (call.bias) value += bf16_to_float(call.bias[j]);
        if (call.sums) {
            if (add) value += reinterpret_cast<const float *>(add)[j];
            reinterpret_cast<float *>(out)[j] = value;
        } else {
            if (add) value += bf16_to_float(reinterpret_cast<const bf16 *>(add)[j]);
            reinterpret_cast<bf16 *>(out)[j] = bf16_from_float(value);
        }
    }
}

static void multiply(const GemmCall &call) {
    bool weight = call.layout == GEMM_BACKWARD_WEIGHT, forward = call.layout == GEMM_FORWARD;
    int64_t m = call.m, n = call.n, k = call.k;
    std::vector<float> a = widened(call.first, weight ? k : m, weight ? m : k, call.first_stride, weight);
    std::vector<float> b = widened(call.second, forward ? n : k, forward ? k : n, call.second_stride, forward);
    std::vector<float> sums(static_cast<size_t>(n));
    if (call.bias) emulator::library_reads(call.bias, static_cast<size_t>(n) * sizeof(bf16));
    for (int64_t i = 0; i < m; i++) {
        multiply_row(sums.data(), a.data() + i * k, b.data(), n, k);
        finish_row(call, sums.data(), i);
    }
}

bool gemm_multiply(Gemm *, const GemmCall *call, void *stream, Error *error) {
    GemmCall copy = *call;
    cudaError_t status =
        emulator::enqueue(static_cast<cudaStream_t>(stream), "a matrix product", [copy] { multiply(copy); });
    return status == cudaSuccess || error_set(error, "the matrix product: %s", cudaGetErrorString(status));
}
