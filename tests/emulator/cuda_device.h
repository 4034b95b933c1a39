// cuda_device.h - the built-in variables and functions of device code: places, barriers, warp functions, arithmetic.
#pragma once
#include "cuda_types.h"
#include <math.h>

namespace emulator {

// Where in the kernel's source a function was called, for messages: filled in by a default argument.
struct Place {
    const char *file;
    int line;
};
constexpr Place here(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
}

// Constant in one thread, so that a compiler may call them once.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) dim3 grid_size();
__attribute__((const)) dim3 block_size();
__attribute__((const)) int lane_index();

// Barriers, and collectives of the lanes of a mask (a lane returns when all of them have come).
void block_barrier(Place place);
void warp_barrier(unsigned mask, Place place);
uint64_t shuffle(unsigned mask, uint64_t value, int source_lane, Place place);
unsigned ballot(unsigned mask, bool predicate, Place place);

// The instructions of kernels/cuda/ptx.cuh.
void load_matrix_x4(uint32_t registers[4], const void *row, bool transposed, Place place);
void multiply_16x8x16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1, Place place);
void copy_async_16(void *shared, const void *global, int bytes, Place place);
void copy_async_commit();
void copy_async_wait(int pending_groups, Place place);

// Tells the checker that the running thread is about to access memory by an atomic operation.
void atomic_access(const void *memory, size_t bytes, Place place);

template <class T> inline T shuffle_value(unsigned mask, T value, int source_lane, Place place) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = shuffle(mask, bits, source_lane, place);
    memcpy(&value, &bits, sizeof value);
    return value;
}

} // namespace emulator

#define threadIdx (emulator::thread_index())
#define blockIdx  (emulator::block_index())
#define gridDim   (emulator::grid_size())
#define blockDim  (emulator::block_size())

constexpr int warpSize = 32;

// ---- barriers ------------------------------------------------------------------------------------------------------
inline void __syncthreads(emulator::Place place = emulator::here()) {
    emulator::block_barrier(place);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, emulator::Place place = emulator::here()) {
    emulator::warp_barrier(mask, place);
}

// ---- warp functions: `width` lanes form a group, a power of two up to 32 -------------------------------------------
template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, emulator::Place place = emulator::here()) {
    int lane = emulator::lane_index();
    return emulator::shuffle_value(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), place);
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, emulator::Place place = emulator::here()) {
    int lane = emulator::lane_index(), source = lane ^ bits;
    bool later_group = (source & ~(width - 1)) > (lane & ~(width - 1));
    return emulator::shuffle_value(mask, value, later_group ? lane : source, place);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                          emulator::Place place = emulator::here()) {
    int lane = emulator::lane_index(), distance = static_cast<int>(delta);
    bool inside = (lane & (width - 1)) + distance < width;
    return emulator::shuffle_value(mask, value, inside ? lane + distance : lane, place);
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                        emulator::Place place = emulator::here()) {
    int lane = emulator::lane_index(), distance = static_cast<int>(delta);
    bool inside = (lane & (width - 1)) >= distance;
    return emulator::shuffle_value(mask, value, inside ? lane - distance : lane, place);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, emulator::Place place = emulator::here()) {
    return emulator::ballot(mask, predicate != 0, place);
}

inline int __any_sync(unsigned mask, int predicate, emulator::Place place = emulator::here()) {
    return emulator::ballot(mask, predicate != 0, place) != 0;
}

inline int __all_sync(unsigned mask, int predicate, emulator::Place place = emulator::here()) {
    return emulator::ballot(mask, predicate != 0, place) == mask;
}

// ---- memory --------------------------------------------------------------------------------------------------------
template <class T> inline T __ldg(const T *memory) {
    return *memory;
}
template <class T> inline T __ldcs(const T *memory) {
    return *memory;
}
template <class T> inline T __ldcg(const T *memory) {
    return *memory;
}
template <class T> inline void __stcs(T *memory, T value) {
    *memory = value;
}
template <class T> inline void __stcg(T *memory, T value) {
    *memory = value;
}

template <class T>
__attribute__((no_sanitize("thread"))) inline T atomicAdd(T *memory, T value,
                                                          emulator::Place place = emulator::here()) {
    emulator::atomic_access(memory, sizeof(T), place);
    T old = *memory;
    *memory = old + value;
    return old;
}

// ---- arithmetic ----------------------------------------------------------------------------------------------------
inline float __fadd_rn(float a, float b) {
    return a + b;
}
inline float __fsub_rn(float a, float b) {
    return a - b;
}
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fmaf_rn(float a, float b, float c) {
    return fmaf(a, b, c);
}
inline float __fdiv_rn(float a, float b) {
    return a / b;
}
inline float __frcp_rn(float a) {
    return 1.0f / a;
}
inline float __fsqrt_rn(float a) {
    return sqrtf(a);
}
inline double __dadd_rn(double a, double b) {
    return a + b;
}
inline double __dmul_rn(double a, double b) {
    return a * b;
}
inline double __fma_rn(double a, double b, double c) {
    return fma(a, b, c);
}
inline double __ddiv_rn(double a, double b) {
    return a / b;
}
inline double __dsqrt_rn(double a) {
    return sqrt(a);
}
inline float __fdividef(float a, float b) {
    return a / b;
}
inline float rsqrtf(float a) {
    return 1.0f / sqrtf(a);
}
#define __expf(x) expf(x) // the C library declares functions of these names
#define __logf(x) logf(x)

template <class To, class From> inline To emulator_bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "same bits, other type");
    To result;
    memcpy(&result, &value, sizeof result);
    return result;
}
inline float __int_as_float(int bits) {
    return emulator_bits<float>(bits);
}
inline float __uint_as_float(unsigned bits) {
    return emulator_bits<float>(bits);
}
inline int __float_as_int(float value) {
    return emulator_bits<int>(value);
}
inline unsigned __float_as_uint(float value) {
    return emulator_bits<unsigned>(value);
}
inline int __popc(unsigned bits) {
    return __builtin_popcount(bits);
}
inline int __ffs(int bits) {
    return __builtin_ffs(bits);
}
inline int __clz(int bits) {
    return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits));
}
inline unsigned __umulhi(unsigned a, unsigned b) {
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
template <class T> inline T min(T a, T b) {
    return b < a ? b : a;
}
template <class T> inline T max(T a, T b) {
    return a < b ? b : a;
}
