// packs.cuh - rows of bf16 as the operations bound by memory take them: a thread reads and writes packs.
//
// A pack is 8 neighbouring elements of a row in one 16-byte access (uint4) where every row starts on 16 bytes, else a
// single element (uint16_t). Kernels are templates of the pack's type and count rows in packs.
#pragma once
#include "kernels/cuda/backend.h"

#define PACK_THREADS 256 // of a block, at most
#define WARP         32
#define ALL_LANES    0xffffffffu

// How many elements of a bf16 row a pack has.
template <class Pack> constexpr int PACK_WIDTH = sizeof(Pack) / sizeof(bf16);

// Whether rows of d elements that start at these addresses can be read in packs of 8; a null address fits.
template <class... Addresses> static inline bool packs_fit(int64_t d, Addresses... rows) {
    return d % PACK_WIDTH<uint4> == 0 && (reinterpret_cast<uintptr_t>(rows) | ...) % sizeof(uint4) == 0;
}

// ---- the elements of a pack ----------------------------------------------------------------------------------------

static __device__ __forceinline__ void unpack(float (&values)[8], uint4 pack) {
    const unsigned words[4] = {pack.x, pack.y, pack.z, pack.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        values[2 * i] = __uint_as_float(words[i] << 16);
        values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

static __device__ __forceinline__ void unpack(float (&values)[1], uint16_t pack) {
    values[0] = __uint_as_float(static_cast<unsigned>(pack) << 16);
}

static __device__ __forceinline__ unsigned pack_pair(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<unsigned *>(&pair);
}

// Rounds to nearest, ties to even.
static __device__ __forceinline__ void pack_values(uint4 *pack, const float (&values)[8]) {
    *pack = make_uint4(pack_pair(values[0], values[1]), pack_pair(values[2], values[3]),
                       pack_pair(values[4], values[5]), pack_pair(values[6], values[7]));
}

static __device__ __forceinline__ void pack_values(uint16_t *pack, const float (&values)[1]) {
    *pack = __bfloat16_as_ushort(__float2bfloat16_rn(values[0]));
}

// The floats of a float matrix that lie where the elements of a pack lie in a bf16 matrix.
static __device__ __forceinline__ void load_floats(float (&values)[8], const float *from) {
    const float4 low = reinterpret_cast<const float4 *>(from)[0], high = reinterpret_cast<const float4 *>(from)[1];
    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

static __device__ __forceinline__ void load_floats(float (&values)[1], const float *from) {
    values[0] = *from;
}

static __device__ __forceinline__ void store_floats(float *to, const float (&values)[8]) {
    reinterpret_cast<float4 *>(to)[0] = make_float4(values[0], values[1], values[2], values[3]);
    reinterpret_cast<float4 *>(to)[1] = make_float4(values[4], values[5], values[6], values[7]);
}

static __device__ __forceinline__ void store_floats(float *to, const float (&values)[1]) {
    *to = values[0];
}

// ---- which thread takes what ----------------------------------------------------------------------------------------

// The launch of a kernel without sums: blockIdx.x is the row, a thread takes pack number pack_in_row() of it, if there
// is one.
typedef struct RowLaunch {
    dim3 grid;
    unsigned threads;
} RowLaunch;

static inline RowLaunch row_launch(int64_t rows, int64_t packs) {
    int64_t threads = packs < PACK_THREADS ? round_up(packs, WARP) : PACK_THREADS;
    return {dim3(static_cast<unsigned>(rows), cuda_blocks(packs, threads)), static_cast<unsigned>(threads)};
}

static __device__ __forceinline__ int64_t pack_in_row() {
    return static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
}
