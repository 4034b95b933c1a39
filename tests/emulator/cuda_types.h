// cuda_types.h - the vector types and bf16 of CUDA, for sources compiled without its toolkit.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined __SANITIZE_THREAD__
#define EMULATOR_CHECKED 1
#elif defined __has_feature
#if __has_feature(thread_sanitizer)
#define EMULATOR_CHECKED 1
#endif
#endif

// In the checked build a vector is copied as one access of its whole size, so that the checker sees its address and can
// tell whether it is aligned; compilers otherwise take it apart or call memcpy. Elsewhere it is a plain struct.
#ifdef EMULATOR_CHECKED
#define EMULATOR_WHOLE_COPY(name)                                                                                      \
    typedef uint32_t Whole __attribute__((vector_size(sizeof(uint32_t) * WORDS), may_alias));                          \
    name() = default;                                                                                                  \
    __attribute__((always_inline)) name(const name &other) {                                                           \
        *reinterpret_cast<Whole *>(this) = *reinterpret_cast<const Whole *>(&other);                                   \
    }                                                                                                                  \
    __attribute__((always_inline)) name &operator=(const name &other) {                                                \
        *reinterpret_cast<Whole *>(this) = *reinterpret_cast<const Whole *>(&other);                                   \
        return *this;                                                                                                  \
    }
#define EMULATOR_CONSTRUCTOR2(name, type)                                                                              \
    name(type x_, type y_) : x(x_), y(y_) {                                                                            \
    }
#define EMULATOR_CONSTRUCTOR4(name, type)                                                                              \
    name(type x_, type y_, type z_, type w_) : x(x_), y(y_), z(z_), w(w_) {                                            \
    }
#else
#define EMULATOR_WHOLE_COPY(name)
#define EMULATOR_CONSTRUCTOR2(name, type)
#define EMULATOR_CONSTRUCTOR4(name, type)
#endif

#define EMULATOR_VECTOR2(name, type)                                                                                   \
    struct alignas(2 * sizeof(type)) name {                                                                            \
        static constexpr int WORDS = 2 * sizeof(type) / 4;                                                             \
        type x, y;                                                                                                     \
        EMULATOR_CONSTRUCTOR2(name, type)                                                                              \
        EMULATOR_WHOLE_COPY(name)                                                                                      \
    };                                                                                                                 \
    inline name make_##name(type x, type y) {                                                                          \
        return name{x, y};                                                                                             \
    }
#define EMULATOR_VECTOR4(name, type)                                                                                   \
    struct alignas(4 * sizeof(type)) name {                                                                            \
        static constexpr int WORDS = 4 * sizeof(type) / 4;                                                             \
        type x, y, z, w;                                                                                               \
        EMULATOR_CONSTRUCTOR4(name, type)                                                                              \
        EMULATOR_WHOLE_COPY(name)                                                                                      \
    };                                                                                                                 \
    inline name make_##name(type x, type y, type z, type w) {                                                          \
        return name{x, y, z, w};                                                                                       \
    }

EMULATOR_VECTOR2(float2, float)
EMULATOR_VECTOR4(float4, float)
EMULATOR_VECTOR2(int2, int)
EMULATOR_VECTOR4(int4, int)
EMULATOR_VECTOR2(uint2, unsigned)
EMULATOR_VECTOR4(uint4, unsigned)
EMULATOR_VECTOR2(double2, double)
EMULATOR_VECTOR4(short4, short)
EMULATOR_VECTOR4(ushort4, unsigned short)

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
    }
};

struct __nv_bfloat16 {
    uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

inline float __bfloat162float(__nv_bfloat16 value) {
    uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

// To nearest, ties to even; every NaN becomes 0x7fff, as the GPU's conversion has it.
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return __nv_bfloat16{0x7fff};
    return __nv_bfloat16{static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

inline __nv_bfloat16 __float2bfloat16(float value) {
    return __float2bfloat16_rn(value);
}

inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
    return __nv_bfloat162{__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}

inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) {
    return __nv_bfloat162{x, y};
}

inline float2 __bfloat1622float2(__nv_bfloat162 value) {
    return make_float2(__bfloat162float(value.x), __bfloat162float(value.y));
}

inline float __low2float(__nv_bfloat162 value) {
    return __bfloat162float(value.x);
}

inline float __high2float(__nv_bfloat162 value) {
    return __bfloat162float(value.y);
}

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) {
    return value.bits;
}

inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
    return __nv_bfloat16{bits};
}
