// cuda_ptx.h - the primitives of kernels/cuda/ptx.cuh and the warp functions, one small kernel each, for a host that
// knows what they must give. Runs on the emulation and on a card. All pointers are the host's.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The tile [16][16] of 16-bit elements as four 8 x 8 matrices (upper left, lower left, upper right, lower right) in the
// registers [32 lanes][4] of a warp.
bool cuda_try_ldmatrix(uint32_t *registers, const uint16_t *tile, bool transposed);

// d [32][4] += A B from the registers a [32][4] and b [32][2].
bool cuda_try_mma(float *d, const uint32_t *a, const uint32_t *b);

// Lane i copies the first bytes[i] of its 16 bytes; out [32][16] is what then lies in shared memory.
bool cuda_try_cp_async(uint8_t *out, const uint8_t *in, const int *bytes);

// Two groups of copies, [32][16] each; early is the first one's data after a wait that leaves one group pending, late
// the second one's after a wait for all.
bool cuda_try_cp_async_groups(uint8_t *early, uint8_t *late, const uint8_t *in);

bool cuda_try_exp2(float *out, const float *in, int count); // in place of each other; count a multiple of 32

// Of lanes 0 .. 31, the value of a lane being 100 + lane: results [cases][32].
enum {
    SHUFFLE_XOR_5,
    SHUFFLE_DOWN_3,
    SHUFFLE_UP_3,
    SHUFFLE_FROM_9,
    SHUFFLE_FROM_9_OF_8, // in groups of 8 lanes
    SHUFFLE_DOWN_3_OF_8,
    SHUFFLE_UP_3_OF_8,
    SHUFFLE_XOR_8_OF_8,
    BALLOT_THIRDS, // lanes whose number is a multiple of 3
    ANY_31,        // whether any lane is 31
    ALL_BELOW_31,  // whether all are below
    WARP_CASES
};
bool cuda_try_warp(int *results);

// Rounding and IEEE arithmetic: per element x the bf16 bits of x, sqrt(x), 1 / x, fma(x, x, -1), and the two halves of
// a packed pair (x, -x) as bits. results [count][5] of 32 bits.
bool cuda_try_arithmetic(uint32_t *results, const float *in, int count);

// blocks * 64 threads add 1 each.
bool cuda_try_atomics(int *sum, int blocks);

#ifdef __cplusplus
}
#endif
