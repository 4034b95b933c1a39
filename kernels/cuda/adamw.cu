// adamw.cu - the optimizer's pass over one slot (clip, AdamW, the split of the master weight), and the stochastic
// rounding of a block that leaves the active set. Both give the CPU backend's bits, whatever the values.
//
// Both are bound by memory: AdamW moves 32 bytes an element. A thread takes GROUPS groups of four elements, read and
// written as vectors, the groups THREADS apart so that a warp's accesses are contiguous. All loads come before the
// first store. Arrays that are not aligned for vectors, and the last elements, go one by one.
#include "kernels/adamw.h"
#include "kernels/cuda/backend.h"

#define THREADS 256
#define FOUR    4                         // elements of a group
#define GROUPS  2                         // of a thread
#define TILE    (THREADS * FOUR * GROUPS) // elements of a block

// ---- four elements as vectors ------------------------------------------------------------------------------------

static __device__ __forceinline__ void unpack_halves(uint32_t halves[FOUR], uint2 packed) {
    halves[0] = packed.x & 0xffffu, halves[1] = packed.x >> 16;
    halves[2] = packed.y & 0xffffu, halves[3] = packed.y >> 16;
}

static __device__ __forceinline__ uint2 pack_halves(const uint32_t halves[FOUR]) {
    return make_uint2(halves[0] | halves[1] << 16, halves[2] | halves[3] << 16);
}

static __device__ __forceinline__ void unpack_floats(float values[FOUR], float4 packed) {
    values[0] = packed.x, values[1] = packed.y, values[2] = packed.z, values[3] = packed.w;
}

static bool aligned(const void *memory, size_t bytes) {
    return reinterpret_cast<uintptr_t>(memory) % bytes == 0;
}

// ---- AdamW -------------------------------------------------------------------------------------------------------

typedef struct Slot {
    uint16_t *weight;      // [count] bf16 patterns
    uint16_t *low_bits;    // [count] patterns of int16
    const float *gradient; // [count]
    float *m, *v;          // [count]
    int64_t count;
    int64_t decayed; // elements [0, decayed) are decayed
    AdamWFactors factors;
    const float *clip_scale;
    const int32_t *skip;
    bool vectors; // all arrays are aligned for them
} Slot;

// One to four elements of a slot, from element `first` on.
typedef struct Group {
    int64_t first;
    uint32_t weight[FOUR], low_bits[FOUR];
    float gradient[FOUR], m[FOUR], v[FOUR];
} Group;

static __device__ __forceinline__ bool whole_group(const Slot *s, int64_t first) {
    return s->vectors && first + FOUR <= s->count;
}

static __device__ __forceinline__ void load_group(Group *group, const Slot *s, int64_t first) {
    group->first = first;
    if (whole_group(s, first)) {
        unpack_halves(group->weight, *reinterpret_cast<const uint2 *>(s->weight + first));
        unpack_halves(group->low_bits, *reinterpret_cast<const uint2 *>(s->low_bits + first));
        unpack_floats(group->gradient, *reinterpret_cast<const float4 *>(s->gradient + first));
        unpack_floats(group->m, *reinterpret_cast<const float4 *>(s->m + first));
        unpack_floats(group->v, *reinterpret_cast<const float4 *>(s->v + first));
        return;
    }
#pragma unroll
    for (int j = 0; j < FOUR; j++) {
        bool there = first + j < s->count;
        group->weight[j] = there ? s->weight[first + j] : 0;
        group->low_bits[j] = there ? s->low_bits[first + j] : 0;
        group->gradient[j] = there ? s->gradient[first + j] : 0;
        group->m[j] = there ? s->m[first + j] : 0;
        group->v[j] = there ? s->v[first + j] : 0;
    }
}

static __device__ __forceinline__ void update_group(Group *group, const Slot *s, float clip_scale) {
#pragma unroll
    for (int j = 0; j < FOUR; j++) {
        bf16 high = static_cast<bf16>(group->weight[j]);
        float master = master_join(high, static_cast<int16_t>(group->low_bits[j]));
        // The intrinsic keeps this product from being fused with the subtraction that follows it in adamw_update.
        float gradient = __fmul_rn(group->gradient[j], clip_scale);
        float decay = group->first + j < s->decayed ? s->factors.decay : 1.0f;
        master = adamw_update(master, gradient, &group->m[j], &group->v[j], decay, &s->factors);
        high = master_high(master);
        group->weight[j] = high;
        group->low_bits[j] = static_cast<uint16_t>(master_low(master, high));
    }
}

static __device__ __forceinline__ void store_group(const Group *group, const Slot *s) {
    int64_t first = group->first;
    if (whole_group(s, first)) {
        const float *m = group->m, *v = group->v;
        *reinterpret_cast<uint2 *>(s->weight + first) = pack_halves(group->weight);
        *reinterpret_cast<uint2 *>(s->low_bits + first) = pack_halves(group->low_bits);
        *reinterpret_cast<float4 *>(s->m + first) = make_float4(m[0], m[1], m[2], m[3]);
        *reinterpret_cast<float4 *>(s->v + first) = make_float4(v[0], v[1], v[2], v[3]);
        return;
    }
#pragma unroll
    for (int j = 0; j < FOUR; j++) {
        if (first + j >= s->count) break;
        s->weight[first + j] = static_cast<uint16_t>(group->weight[j]);
        s->low_bits[first + j] = static_cast<uint16_t>(group->low_bits[j]);
        s->m[first + j] = group->m[j];
        s->v[first + j] = group->v[j];
    }
}

static __global__ void __launch_bounds__(THREADS) adamw_kernel(Slot slot) {
    if (*slot.skip) return;
    float clip_scale = *slot.clip_scale;
    int64_t first = static_cast<int64_t>(blockIdx.x) * TILE + threadIdx.x * FOUR;
    Group groups[GROUPS];
#pragma unroll
    for (int g = 0; g < GROUPS; g++) load_group(&groups[g], &slot, first + g * THREADS * FOUR);
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        update_group(&groups[g], &slot, clip_scale);
        store_group(&groups[g], &slot);
    }
}

void cuda_adamw(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, float *m, float *v, int64_t count,
                const AdamWStep *step, Stream *stream) {
    if (count == 0) return;
    Slot slot = {};
    slot.weight = weight;
    slot.low_bits = reinterpret_cast<uint16_t *>(low_bits);
    slot.gradient = gradient;
    slot.m = m;
    slot.v = v;
    slot.count = count;
    slot.decayed = step->decayed;
    slot.factors = adamw_factors(step);
    slot.clip_scale = step->clip_scale;
    slot.skip = step->skip;
    slot.vectors = aligned(weight, sizeof(uint2)) && aligned(low_bits, sizeof(uint2)) &&
                   aligned(gradient, sizeof(float4)) && aligned(m, sizeof(float4)) && aligned(v, sizeof(float4));
    LAUNCH(adamw_kernel, cuda_blocks(count, TILE), THREADS, 0, cuda_stream(b, stream), slot);
    cuda_launched(b, "adamw");
}

// ---- leaving the active set ----------------------------------------------------------------------------------------

static __device__ __forceinline__ uint32_t round_element(uint32_t weight, uint32_t low_bits, uint64_t key, int64_t i) {
    float master = master_join(static_cast<bf16>(weight), static_cast<int16_t>(low_bits));
    return master_round(master, random_bits(key, static_cast<uint64_t>(i)));
}

static __global__ void __launch_bounds__(THREADS)
    freeze_kernel(uint16_t *weight, const uint16_t *low_bits, int64_t count, uint64_t key, bool vectors) {
    int64_t first = (static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x) * FOUR;
    if (vectors && first + FOUR <= count) {
        uint32_t high[FOUR], low[FOUR];
        unpack_halves(high, *reinterpret_cast<const uint2 *>(weight + first));
        unpack_halves(low, *reinterpret_cast<const uint2 *>(low_bits + first));
#pragma unroll
        for (int j = 0; j < FOUR; j++) high[j] = round_element(high[j], low[j], key, first + j);
        *reinterpret_cast<uint2 *>(weight + first) = pack_halves(high);
        return;
    }
    for (int64_t i = first; i < first + FOUR && i < count; i++)
        weight[i] = static_cast<uint16_t>(round_element(weight[i], low_bits[i], key, i));
}

void cuda_freeze(Backend *b, bf16 *weight, const int16_t *low_bits, int64_t count, uint64_t key, Stream *stream) {
    if (count == 0) return;
    bool vectors = aligned(weight, sizeof(uint2)) && aligned(low_bits, sizeof(uint2));
    LAUNCH(freeze_kernel, cuda_blocks(count, THREADS * FOUR), THREADS, 0, cuda_stream(b, stream), weight,
           reinterpret_cast<const uint16_t *>(low_bits), count, key, vectors);
    cuda_launched(b, "freeze");
}
