// cuda_ptx.cu - see cuda_ptx.h.
#include "kernels/cuda/ptx.cuh"
#include "tests/cuda_ptx.h"

namespace {

constexpr unsigned ALL = 0xffffffffu;
constexpr int LANES = 32;

// ---- device memory that lives for one try --------------------------------------------------------------------------

struct Buffer {
    void *memory = nullptr;
    size_t bytes;
    bool good;

    explicit Buffer(size_t size) : bytes(size), good(cudaMalloc(&memory, size) == cudaSuccess) {
    }
    Buffer(const void *host, size_t size) : Buffer(size) {
        good = good && cudaMemcpy(memory, host, size, cudaMemcpyHostToDevice) == cudaSuccess;
    }
    ~Buffer() {
        cudaFree(memory);
    }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    template <class T> T *as() const {
        return static_cast<T *>(memory);
    }
    bool take(void *host) const {
        return good && cudaGetLastError() == cudaSuccess &&
               cudaMemcpy(host, memory, bytes, cudaMemcpyDeviceToHost) == cudaSuccess;
    }
};

// ---- kernels -------------------------------------------------------------------------------------------------------

__global__ void ldmatrix_kernel(uint32_t *registers, const uint16_t *tile, bool transposed) {
    SHARED(uint16_t, s, [16 * 16]);
    int lane = threadIdx.x;
    for (int i = lane; i < 16 * 16; i += LANES) s[i] = tile[i];
    __syncthreads();
    const uint16_t *row = s + lane % 16 * 16 + lane / 16 * 8;
    uint32_t r[4];
    if (transposed)
        ldmatrix_x4_trans(r, row);
    else
        ldmatrix_x4(r, row);
    for (int i = 0; i < 4; i++) registers[lane * 4 + i] = r[i];
}

__global__ void mma_kernel(float *out, const uint32_t *a, const uint32_t *b) {
    int lane = threadIdx.x;
    uint32_t left[4];
    float d[4];
    for (int i = 0; i < 4; i++) {
        left[i] = a[lane * 4 + i];
        d[i] = out[lane * 4 + i];
    }
    mma_bf16_16816(d, left, b[lane * 2], b[lane * 2 + 1]);
    for (int i = 0; i < 4; i++) out[lane * 4 + i] = d[i];
}

__global__ void cp_async_kernel(uint4 *out, const uint4 *in, const int *bytes) {
    SHARED(uint4, s, [LANES]);
    cp_async16(&s[threadIdx.x], &in[threadIdx.x], bytes[threadIdx.x]);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x];
}

__global__ void cp_async_groups_kernel(uint4 *early, uint4 *late, const uint4 *in) {
    SHARED(uint4, s, [2 * LANES]);
    for (int group = 0; group < 2; group++) {
        cp_async16(&s[group * LANES + threadIdx.x], &in[group * LANES + threadIdx.x]);
        cp_async_commit();
    }
    cp_async_wait<1>();
    __syncthreads();
    early[threadIdx.x] = s[(threadIdx.x + 1) % LANES];
    cp_async_wait<0>();
    __syncthreads();
    late[threadIdx.x] = s[LANES + (threadIdx.x + 1) % LANES];
}

__global__ void exp2_kernel(float *out, const float *in) {
    int i = blockIdx.x * LANES + threadIdx.x;
    out[i] = exp2_approx(in[i]);
}

__global__ void warp_kernel(int *results) {
    int lane = threadIdx.x, value = 100 + lane;
    results[SHUFFLE_XOR_5 * LANES + lane] = __shfl_xor_sync(ALL, value, 5);
    results[SHUFFLE_DOWN_3 * LANES + lane] = __shfl_down_sync(ALL, value, 3);
    results[SHUFFLE_UP_3 * LANES + lane] = __shfl_up_sync(ALL, value, 3);
    results[SHUFFLE_FROM_9 * LANES + lane] = __shfl_sync(ALL, value, 9);
    results[SHUFFLE_FROM_9_OF_8 * LANES + lane] = __shfl_sync(ALL, value, 9, 8);
    results[SHUFFLE_DOWN_3_OF_8 * LANES + lane] = __shfl_down_sync(ALL, value, 3, 8);
    results[SHUFFLE_UP_3_OF_8 * LANES + lane] = __shfl_up_sync(ALL, value, 3, 8);
    results[SHUFFLE_XOR_8_OF_8 * LANES + lane] = __shfl_xor_sync(ALL, value, 8, 8);
    results[BALLOT_THIRDS * LANES + lane] = static_cast<int>(__ballot_sync(ALL, lane % 3 == 0));
    results[ANY_31 * LANES + lane] = __any_sync(ALL, lane == 31) != 0;
    results[ALL_BELOW_31 * LANES + lane] = __all_sync(ALL, lane < 31) != 0;
}

__global__ void arithmetic_kernel(uint32_t *results, const float *in, int count) {
    int i = blockIdx.x * LANES + threadIdx.x;
    if (i >= count) return;
    float x = in[i];
    __nv_bfloat162 two = __floats2bfloat162_rn(x, -x);
    results[i * 5] = __bfloat16_as_ushort(__float2bfloat16_rn(x));
    results[i * 5 + 1] = __float_as_uint(__fsqrt_rn(x));
    results[i * 5 + 2] = __float_as_uint(__fdiv_rn(1.0f, x));
    results[i * 5 + 3] = __float_as_uint(__fmaf_rn(x, x, -1.0f));
    results[i * 5 + 4] = *reinterpret_cast<const uint32_t *>(&two);
}

__global__ void atomics_kernel(int *sum) {
    atomicAdd(sum, 1);
}

} // namespace

// ---- tries ---------------------------------------------------------------------------------------------------------

bool cuda_try_ldmatrix(uint32_t *registers, const uint16_t *tile, bool transposed) {
    Buffer in(tile, 16 * 16 * sizeof(uint16_t)), out(LANES * 4 * sizeof(uint32_t));
    LAUNCH(ldmatrix_kernel, 1, LANES, 0, nullptr, out.as<uint32_t>(), in.as<uint16_t>(), transposed);
    return in.good && out.take(registers);
}

bool cuda_try_mma(float *d, const uint32_t *a, const uint32_t *b) {
    Buffer left(a, LANES * 4 * sizeof(uint32_t)), right(b, LANES * 2 * sizeof(uint32_t));
    Buffer out(d, LANES * 4 * sizeof(float));
    LAUNCH(mma_kernel, 1, LANES, 0, nullptr, out.as<float>(), left.as<uint32_t>(), right.as<uint32_t>());
    return left.good && right.good && out.take(d);
}

bool cuda_try_cp_async(uint8_t *out, const uint8_t *in, const int *bytes) {
    Buffer from(in, LANES * 16), sizes(bytes, LANES * sizeof(int)), to(LANES * 16);
    LAUNCH(cp_async_kernel, 1, LANES, 0, nullptr, to.as<uint4>(), from.as<uint4>(), sizes.as<int>());
    return from.good && sizes.good && to.take(out);
}

bool cuda_try_cp_async_groups(uint8_t *early, uint8_t *late, const uint8_t *in) {
    Buffer from(in, 2 * LANES * 16), first(LANES * 16), second(LANES * 16);
    LAUNCH(cp_async_groups_kernel, 1, LANES, 0, nullptr, first.as<uint4>(), second.as<uint4>(), from.as<uint4>());
    return from.good && first.take(early) && second.take(late);
}

bool cuda_try_exp2(float *out, const float *in, int count) {
    size_t bytes = static_cast<size_t>(count) * sizeof(float);
    Buffer from(in, bytes), to(bytes);
    LAUNCH(exp2_kernel, count / LANES, LANES, 0, nullptr, to.as<float>(), from.as<float>());
    return from.good && to.take(out);
}

bool cuda_try_warp(int *results) {
    Buffer out(WARP_CASES * LANES * sizeof(int));
    LAUNCH(warp_kernel, 1, LANES, 0, nullptr, out.as<int>());
    return out.take(results);
}

bool cuda_try_arithmetic(uint32_t *results, const float *in, int count) {
    Buffer from(in, static_cast<size_t>(count) * sizeof(float));
    Buffer out(static_cast<size_t>(count) * 5 * sizeof(uint32_t));
    LAUNCH(arithmetic_kernel, (count + LANES - 1) / LANES, LANES, 0, nullptr, out.as<uint32_t>(), from.as<float>(),
           count);
    return from.good && out.take(results);
}

bool cuda_try_atomics(int *sum, int blocks) {
    int zero = 0;
    Buffer out(&zero, sizeof zero);
    LAUNCH(atomics_kernel, blocks, 64, 0, nullptr, out.as<int>());
    return out.take(sum);
}
