// ptx.cuh - the only inline PTX: matrix instructions, asynchronous copies and the fast exponential (PTX ISA, chapters
// "Warp-level matrix instructions" and "cp.async"). Every wrapper has a body for the emulation too, and a case in
// tests/test_cuda_ptx.c that runs on either.
//
// Fragments. With row = lane / 4 and column = 2 * (lane % 4), a lane of a warp holds
//   of an 8 x 8 bf16 matrix:      elements [row][column], [row][column + 1], the first in the low half of a register;
//   of A, 16 x 16 bf16 row major: a[0] the upper left 8 x 8 matrix, a[1] the lower left, a[2] upper right, a[3] lower
//   right; of B, 16 x 8 bf16:            b0 of rows 0..7, b1 of rows 8..15, as 8 x 8 matrices of B transposed; of C and
//   D, 16 x 8 float:     d[0], d[1] = [row][column], [row][column + 1]; d[2], d[3] the same in row + 8.
#pragma once
#include "kernels/cuda/cuda.cuh"
#include <stdint.h>

#ifdef __CUDACC__

// Instructions that compute capability 8.0 brought. nvcc without -arch compiles for older cards too: there they end the
// kernel, and the backend opens no such card.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define PTX_SM_80(...) __trap()
#else
#define PTX_SM_80(...) asm volatile(__VA_ARGS__)
#endif

static __device__ __forceinline__ uint32_t ptx_shared_address(const void *shared) {
    return (uint32_t)__cvta_generic_to_shared(shared);
}

// Four 8 x 8 matrices of bf16 from shared memory, matrix i into r[i]. Lane 8 i + j gives the address of row j of matrix
// i: 16 bytes, aligned to 16. All 32 lanes take part. Free of bank conflicts when the 8 rows of each matrix lie in
// different 16-byte columns modulo 128 bytes.
static __device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ptx_shared_address(row))
                 : "memory");
}

// The same with each matrix transposed on the way.
static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t r[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(ptx_shared_address(row))
                 : "memory");
}

// d += A B, A 16 x 16 and B 16 x 8 in bf16, accumulated in float. All 32 lanes take part.
static __device__ __forceinline__ void mma_bf16_16816(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
    PTX_SM_80("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
              "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
              : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
              : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Starts copying 16 bytes from device to shared memory, past the registers; both addresses aligned to 16. Only the
// first `bytes` (0 to 16) are read, the rest becomes zero; with 0 the source is not touched.
static __device__ __forceinline__ void cp_async16(void *shared, const void *global, int bytes = 16) {
    PTX_SM_80("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(ptx_shared_address(shared)), "l"(global), "r"(bytes)
              : "memory");
}

// Makes one group of the thread's copies since the last commit.
static __device__ __forceinline__ void cp_async_commit() {
    PTX_SM_80("cp.async.commit_group;" ::: "memory");
}

// Waits until at most the PENDING youngest groups of this thread are unfinished. The other threads see the data after
// a barrier.
template <int PENDING> static __device__ __forceinline__ void cp_async_wait() {
    PTX_SM_80("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// 2^x to about 2 units in the last place, denormals as zero.
static __device__ __forceinline__ float exp2_approx(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

#else

static inline void ldmatrix_x4(uint32_t r[4], const void *row, emulator::Place place = emulator::here()) {
    emulator::load_matrix_x4(r, row, false, place);
}

static inline void ldmatrix_x4_trans(uint32_t r[4], const void *row, emulator::Place place = emulator::here()) {
    emulator::load_matrix_x4(r, row, true, place);
}

static inline void mma_bf16_16816(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1,
                                  emulator::Place place = emulator::here()) {
    emulator::multiply_16x8x16(d, a, b0, b1, place);
}

static inline void cp_async16(void *shared, const void *global, int bytes = 16,
                              emulator::Place place = emulator::here()) {
    emulator::copy_async_16(shared, global, bytes, place);
}

static inline void cp_async_commit() {
    emulator::copy_async_commit();
}

template <int PENDING> static inline void cp_async_wait(emulator::Place place = emulator::here()) {
    emulator::copy_async_wait(PENDING, place);
}

static inline float exp2_approx(float x) {
    float result = exp2f(x);
    return fabsf(result) < 1.17549435e-38f ? 0.0f : result;
}

#endif
