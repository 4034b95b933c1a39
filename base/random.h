// random.h - random numbers without state: a function of a key, so that any order of work gives the same numbers.
//
// The key is (seed, stream, counter); each stream below numbers its own kind of use. Compiled for the host and the
// device. The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood 2014), applied per key word.
#pragma once
#include "base/host_device.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    RANDOM_DRAW = 1, // LISA's choice of layers; counter: draw index
    RANDOM_FREEZE,   // stochastic rounding at a freeze; counter: (draw, block), then element
    RANDOM_SHUFFLE,  // order of the examples; counter: epoch
    RANDOM_SPLIT,    // which examples are held out
    RANDOM_SAMPLE,   // sampling of generated tokens; counter: position
    RANDOM_WEIGHTS,  // random weights for benchmarks and tests; counter: block, then element
    RANDOM_MOMENTS   // stochastic rounding of 16-bit AdamW moments; counter: (block, step), then element
} RandomStream;

static inline HOST_DEVICE uint64_t random_mix(uint64_t value) {
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

// A key for one use; derive the numbers from it with random_bits(key, counter).
static inline HOST_DEVICE uint64_t random_key(uint64_t seed, RandomStream stream, uint64_t a, uint64_t b) {
    return random_mix(random_mix(random_mix(random_mix(seed) ^ (uint64_t)stream) ^ a) ^ b);
}

// 64 uniform bits, number `counter` of the key's sequence.
static inline HOST_DEVICE uint64_t random_bits(uint64_t key, uint64_t counter) {
    return random_mix(key ^ random_mix(counter));
}

// Uniform in [0, 1), a multiple of 2^-53.
static inline HOST_DEVICE double random_uniform(uint64_t key, uint64_t counter) {
    return (double)(random_bits(key, counter) >> 11) * 0x1p-53;
}

// Uniform in [0, bound); bound > 0. The bias is below bound / 2^32 for bounds that fit 32 bits.
static inline HOST_DEVICE uint64_t random_below(uint64_t key, uint64_t counter, uint64_t bound) {
    return ((random_bits(key, counter) >> 32) * bound) >> 32;
}

// About normal, of mean 0 and deviation 1: the sum of twelve uniform 16-bit numbers less its mean, so at most 6 from 0.
// Integers up to a last exact step, where the textbook's logarithm and cosine differ between processors: equal bits.
static inline HOST_DEVICE float random_normal(uint64_t key, uint64_t counter) {
    int32_t sum = -393210; // 12 times 65535 / 2
    for (uint64_t word = 0; word < 3; word++) {
        uint64_t bits = random_bits(key, 3 * counter + word);
        sum += (int32_t)(bits & 0xffffu) + (int32_t)(bits >> 16 & 0xffffu) + (int32_t)(bits >> 32 & 0xffffu) +
               (int32_t)(bits >> 48);
    }
    return (float)sum * 0x1p-16f;
}

// Fisher-Yates: writes a uniform permutation of 0 .. count-1 to order; count < 2^32.
void random_permutation(uint64_t key, int64_t *order, int64_t count);

#ifdef __cplusplus
}
#endif
