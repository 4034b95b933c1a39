// adamw.cu - the optimizer's pass over one slot (clip, AdamW, the split of the master weight), and the stochastic
// rounding of a block that leaves the active set. Both give the CPU backend's bits, whatever the values.
//
// Both are bound by memory: AdamW moves 28 bytes an element, with moments in bf16 20. A thread takes GROUPS groups of
// four elements, read and written as vectors, the groups THREADS apart so that a warp's accesses are contiguous. All
// loads come before the first store. Arrays that are not aligned for vectors, and the last elements, go one by one.
#include "kernels/adamw.h"
#include "kernels/cuda/backend.h"

#define THREADS 256
#define FOUR    4                         // elements of a group
#define GROUPS  2                         // of a thread
#define TILE    (THREADS * FOUR * GROUPS) // elements of a block
#define WARP    32

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
    uint16_t *weight;      // [elements] bf16 patterns
    uint16_t *low_bits;    // [elements] patterns of int16
    const float *gradient; // [elements], or the rows that have one
    void *m, *v;           // [elements] Moment, the kernel's template parameter: float or uint16_t, a bf16 pattern
    int64_t decayed;       // elements [0, decayed) are decayed
    AdamWFactors factors;
    const float *clip_scale;
    const int32_t *skip;
    uint64_t moment_key;
    bool vectors; // all arrays, and their rows, are aligned for them
} Slot;

// Up to four elements of a slot: from element `first` on, below element `end`.
typedef struct Group {
    int64_t first, end;
    uint32_t weight[FOUR], low_bits[FOUR];
    float gradient[FOUR], m[FOUR], v[FOUR];
} Group;

static __device__ __forceinline__ void load_moments(float values[FOUR], const float *moments) {
    unpack_floats(values, *reinterpret_cast<const float4 *>(moments));
}

static __device__ __forceinline__ void load_moments(float values[FOUR], const uint16_t *moments) {
    uint32_t halves[FOUR];
    unpack_halves(halves, *reinterpret_cast<const uint2 *>(moments));
#pragma unroll
    for (int j = 0; j < FOUR; j++) values[j] = bf16_to_float(static_cast<bf16>(halves[j]));
}

static __device__ __forceinline__ float load_moment(const float *moment) {
    return *moment;
}

static __device__ __forceinline__ float load_moment(const uint16_t *moment) {
    return bf16_to_float(*moment);
}

static __device__ __forceinline__ void store_moments(float *moments, const float values[FOUR]) {
    *reinterpret_cast<float4 *>(moments) = make_float4(values[0], values[1], values[2], values[3]);
}

static __device__ __forceinline__ void store_moments(uint16_t *moments, const float values[FOUR]) {
    uint32_t halves[FOUR];
#pragma unroll
    for (int j = 0; j < FOUR; j++) halves[j] = float_bits(values[j]) >> 16;
    *reinterpret_cast<uint2 *>(moments) = pack_halves(halves);
}

static __device__ __forceinline__ void store_moment(float *moment, float value) {
    *moment = value;
}

static __device__ __forceinline__ void store_moment(uint16_t *moment, float value) {
    *moment = static_cast<uint16_t>(float_bits(value) >> 16);
}

static __device__ __forceinline__ bool whole_group(const Group *group, const Slot *s) {
    return s->vectors && group->first + FOUR <= group->end;
}

// gradient: that of element `first`; NULL: all are 0.
template <class Moment>
static __device__ __forceinline__ void load_group(Group *group, const Slot *s, int64_t first, int64_t end,
                                                  const float *gradient) {
    const Moment *m = static_cast<const Moment *>(s->m) + first, *v = static_cast<const Moment *>(s->v) + first;
    group->first = first, group->end = end;
    if (whole_group(group, s)) {
        unpack_halves(group->weight, *reinterpret_cast<const uint2 *>(s->weight + first));
        unpack_halves(group->low_bits, *reinterpret_cast<const uint2 *>(s->low_bits + first));
        unpack_floats(group->gradient,
                      gradient ? *reinterpret_cast<const float4 *>(gradient) : make_float4(0, 0, 0, 0));
        load_moments(group->m, m);
        load_moments(group->v, v);
        return;
    }
#pragma unroll
    for (int j = 0; j < FOUR; j++) {
        bool there = first + j < end;
        group->weight[j] = there ? s->weight[first + j] : 0;
        group->low_bits[j] = there ? s->low_bits[first + j] : 0;
        group->gradient[j] = there && gradient ? gradient[j] : 0;
        group->m[j] = there ? load_moment(m + j) : 0;
        group->v[j] = there ? load_moment(v + j) : 0;
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

// Moments that are kept in bf16 become floats that bf16 can say.
static __device__ __forceinline__ void round_moments(Group *group, uint64_t key) {
#pragma unroll
    for (int j = 0; j < FOUR; j++) {
        uint64_t random = random_bits(key, static_cast<uint64_t>(group->first + j));
        group->m[j] = bf16_to_float(moment_round_m(group->m[j], random));
        group->v[j] = bf16_to_float(moment_round_v(group->v[j], random));
    }
}

template <class Moment> static __device__ __forceinline__ void store_group(const Group *group, const Slot *s) {
    int64_t first = group->first;
    Moment *m = static_cast<Moment *>(s->m) + first, *v = static_cast<Moment *>(s->v) + first;
    if (whole_group(group, s)) {
        *reinterpret_cast<uint2 *>(s->weight + first) = pack_halves(group->weight);
        *reinterpret_cast<uint2 *>(s->low_bits + first) = pack_halves(group->low_bits);
        store_moments(m, group->m);
        store_moments(v, group->v);
        return;
    }
#pragma unroll
    for (int j = 0; j < FOUR; j++) {
        if (first + j >= group->end) break;
        s->weight[first + j] = static_cast<uint16_t>(group->weight[j]);
        s->low_bits[first + j] = static_cast<uint16_t>(group->low_bits[j]);
        store_moment(m + j, group->m[j]);
        store_moment(v + j, group->v[j]);
    }
}

template <class Moment>
static __device__ __forceinline__ void update_groups(Group groups[GROUPS], const Slot *s, float clip_scale) {
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        update_group(&groups[g], s, clip_scale);
        if (sizeof(Moment) == sizeof(uint16_t)) round_moments(&groups[g], s->moment_key);
        store_group<Moment>(&groups[g], s);
    }
}

template <class Moment> static __global__ void __launch_bounds__(THREADS) adamw_kernel(Slot slot, int64_t count) {
    if (*slot.skip) return;
    float clip_scale = *slot.clip_scale;
    int64_t start = static_cast<int64_t>(blockIdx.x) * TILE + threadIdx.x * FOUR;
    Group groups[GROUPS];
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        int64_t first = start + g * THREADS * FOUR;
        load_group<Moment>(&groups[g], &slot, first, count, slot.gradient + first);
    }
    update_groups<Moment>(groups, &slot, clip_scale);
}

// blockIdx.x is the number of the row in the list; the blocks of blockIdx.y share its columns.
template <class Moment>
static __global__ void __launch_bounds__(THREADS)
    adamw_rows_kernel(Slot slot, const int32_t *places, const int32_t *rows, int64_t d) {
    if (*slot.skip) return;
    float clip_scale = *slot.clip_scale;
    int64_t row = rows ? rows[blockIdx.x] : static_cast<int64_t>(blockIdx.x), place = places[row];
    int64_t start = static_cast<int64_t>(blockIdx.y) * blockDim.x * (FOUR * GROUPS) + threadIdx.x * FOUR;
    Group groups[GROUPS];
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        int64_t column = start + g * blockDim.x * FOUR;
        const float *gradient = place < 0 ? NULL : slot.gradient + place * d + column;
        load_group<Moment>(&groups[g], &slot, row * d + column, row * d + d, gradient);
    }
    update_groups<Moment>(groups, &slot, clip_scale);
}

static Slot make_slot(bf16 *weight, int16_t *low_bits, const float *gradient, void *m, void *v, const AdamWStep *step) {
    Slot slot = {};
    slot.weight = weight;
    slot.low_bits = reinterpret_cast<uint16_t *>(low_bits);
    slot.gradient = gradient;
    slot.m = m;
    slot.v = v;
    slot.decayed = step->decayed;
    slot.factors = adamw_factors(step);
    slot.clip_scale = step->clip_scale;
    slot.skip = step->skip;
    slot.moment_key = step->moment_key;
    size_t moments = FOUR * (step->bf16_moments ? sizeof(uint16_t) : sizeof(float));
    slot.vectors = aligned(weight, sizeof(uint2)) && aligned(low_bits, sizeof(uint2)) &&
                   aligned(gradient, sizeof(float4)) && aligned(m, moments) && aligned(v, moments);
    return slot;
}

void cuda_adamw(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, void *m, void *v, int64_t count,
                const AdamWStep *step, Stream *stream) {
    if (count == 0) return;
    Slot slot = make_slot(weight, low_bits, gradient, m, v, step);
    if (step->bf16_moments)
        LAUNCH((adamw_kernel<uint16_t>), cuda_blocks(count, TILE), THREADS, 0, cuda_stream(b, stream), slot, count);
    else
        LAUNCH((adamw_kernel<float>), cuda_blocks(count, TILE), THREADS, 0, cuda_stream(b, stream), slot, count);
    cuda_launched(b, "adamw");
}

void cuda_adamw_rows(Backend *b, bf16 *weight, int16_t *low_bits, const float *gradient, const int32_t *places, void *m,
                     void *v, const int32_t *rows, int64_t count, int64_t d, const AdamWStep *step, Stream *stream) {
    if (count == 0) return;
    Slot slot = make_slot(weight, low_bits, gradient, m, v, step);
    slot.vectors = slot.vectors && d % FOUR == 0;
    int64_t threads = d < TILE ? round_up((d + FOUR * GROUPS - 1) / (FOUR * GROUPS), WARP) : THREADS;
    dim3 grid(static_cast<unsigned>(count), cuda_blocks(d, threads * FOUR * GROUPS));
    if (step->bf16_moments)
        LAUNCH((adamw_rows_kernel<uint16_t>), grid, static_cast<unsigned>(threads), 0, cuda_stream(b, stream), slot,
               places, rows, d);
    else
        LAUNCH((adamw_rows_kernel<float>), grid, static_cast<unsigned>(threads), 0, cuda_stream(b, stream), slot,
               places, rows, d);
    cuda_launched(b, "adamw_rows");
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
