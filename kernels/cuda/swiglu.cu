// swiglu.cu - silu(g) * u and its backward, which takes the place of what it was computed from.
#include "kernels/cuda/packs.cuh"

// 1 / (1 + e^-x): 0 where e^-x overflows.
static __device__ __forceinline__ float sigmoid(float x) {
    return __fdividef(1.0f, 1.0f + __expf(-x));
}

template <class Pack>
static __global__ void __launch_bounds__(PACK_THREADS)
    swiglu_forward_kernel(Pack *out, const Pack *gate_up, int64_t packs) {
    constexpr int WIDTH = PACK_WIDTH<Pack>;
    const int64_t row = blockIdx.x, pack = pack_in_row();
    if (pack >= packs) return;
    const Pack *gate = gate_up + 2 * row * packs + pack;
    float g[WIDTH], u[WIDTH];
    unpack(g, gate[0]);
    unpack(u, gate[packs]);
#pragma unroll
    for (int j = 0; j < WIDTH; j++) g[j] = g[j] * sigmoid(g[j]) * u[j];
    pack_values(out + row * packs + pack, g);
}

// out may be dout: a thread reads its packs of all three before it writes.
template <class Pack>
static __global__ void __launch_bounds__(PACK_THREADS)
    swiglu_backward_kernel(Pack *gate_up, Pack *out, const Pack *dout, int64_t packs) {
    constexpr int WIDTH = PACK_WIDTH<Pack>;
    const int64_t row = blockIdx.x, pack = pack_in_row();
    if (pack >= packs) return;
    Pack *gate = gate_up + 2 * row * packs + pack;
    float g[WIDTH], u[WIDTH], d[WIDTH];
    unpack(g, gate[0]);
    unpack(u, gate[packs]);
    unpack(d, dout[row * packs + pack]);
#pragma unroll
    for (int j = 0; j < WIDTH; j++) {
        const float s = sigmoid(g[j]), silu = g[j] * s, product = silu * u[j];
        g[j] = d[j] * u[j] * (s * (1.0f + g[j] * (1.0f - s))); // silu'(g) = s (1 + g (1 - s)), s = sigmoid(g)
        u[j] = d[j] * silu;
        d[j] = product; // in the forward's order of products: the same bits
    }
    pack_values(gate, g);
    pack_values(gate + packs, u);
    if (out) pack_values(out + row * packs + pack, d);
}

template <class Pack>
static void forward(Backend *b, Activation *out, const Activation *gate_up, int64_t tokens, int64_t f, Stream *stream) {
    const int64_t packs = f / PACK_WIDTH<Pack>;
    const RowLaunch launch = row_launch(tokens, packs);
    LAUNCH((swiglu_forward_kernel<Pack>), launch.grid, launch.threads, 0, cuda_stream(b, stream),
           static_cast<Pack *>(out), static_cast<const Pack *>(gate_up), packs);
}

void cuda_swiglu_forward(Backend *b, Activation *out, const Activation *gate_up, int64_t tokens, int64_t f,
                         Stream *stream) {
    if (tokens == 0) return;
    auto run = packs_fit(f, out, gate_up) ? forward<uint4> : forward<uint16_t>;
    run(b, out, gate_up, tokens, f, stream);
    cuda_launched(b, "swiglu_forward");
}

template <class Pack>
static void backward(Backend *b, Activation *gate_up, Activation *out, const Activation *dout, int64_t tokens,
                     int64_t f, Stream *stream) {
    const int64_t packs = f / PACK_WIDTH<Pack>;
    const RowLaunch launch = row_launch(tokens, packs);
    LAUNCH((swiglu_backward_kernel<Pack>), launch.grid, launch.threads, 0, cuda_stream(b, stream),
           static_cast<Pack *>(gate_up), static_cast<Pack *>(out), static_cast<const Pack *>(dout), packs);
}

void cuda_swiglu_backward(Backend *b, Activation *gate_up, Activation *out, const Activation *dout, int64_t tokens,
                          int64_t f, Stream *stream) {
    if (tokens == 0) return;
    auto run = packs_fit(f, gate_up, out, dout) ? backward<uint4> : backward<uint16_t>;
    run(b, gate_up, out, dout, tokens, f, stream);
    cuda_launched(b, "swiglu_backward");
}
