// rmsnorm.cu - RMSNorm, its rebuild from a kept rstd, and its backward, which adds to the residual's gradient.
//
// A row belongs to one warp where it is short, else to a block of 8. Its threads keep their packs in registers between
// the sum over the row and its use, so that memory is read once. What is beyond 4096 elements is read again, by then
// from the first-level cache: more registers would leave fewer rows in flight.
// Bits never depend on the other rows: a row's sum is a fixed tree over the same threads.
#include "kernels/cuda/packs.cuh"

#define THREADS      256
#define WARPS        (THREADS / WARP)
#define SHORT_ROW    1024 // elements of a row that one warp takes, at most
#define GAIN_PARTS   8    // threads that share the sum over these shares
#define GAIN_THREADS (GAIN_PARTS * WARP)

// ---- a row and its threads -----------------------------------------------------------------------------------------

// The calling thread's place: ROW_WARPS is 1 or WARPS.
template <int ROW_WARPS> struct Place {
    static constexpr int STEP = ROW_WARPS * WARP;       // threads of a row
    static constexpr int HELD = ROW_WARPS == 1 ? 4 : 2; // packs that each of them keeps
    int64_t row;
    int first; // pack of the row that is the thread's first; the others follow STEP apart

    __device__ __forceinline__ Place()
        : row(static_cast<int64_t>(blockIdx.x) * (WARPS / ROW_WARPS) + threadIdx.x / STEP), first(threadIdx.x % STEP) {
    }
};

// The sum over the threads of a row, given to all of them. A thread of a block may call it once.
template <int ROW_WARPS> static __device__ __forceinline__ float row_sum(float value) {
#pragma unroll
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(ALL_LANES, value, lanes);
    if (ROW_WARPS == 1) return value;
    SHARED(float, sums, [WARPS]);
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = value;
    __syncthreads();
    float total = 0;
#pragma unroll
    for (int warp = 0; warp < WARPS; warp++) total += sums[warp];
    return total;
}

// ---- forward and rebuild --------------------------------------------------------------------------------------------

template <class Pack> static __device__ __forceinline__ float add_squares(float sum, Pack pack) {
    float x[PACK_WIDTH<Pack>];
    unpack(x, pack);
#pragma unroll
    for (int j = 0; j < PACK_WIDTH<Pack>; j++) sum = fmaf(x[j], x[j], sum);
    return sum;
}

// The one place where a row is scaled: a rebuild has the bits of the forward.
template <class Pack> static __device__ __forceinline__ Pack scaled(Pack pack, float rstd, Pack gain) {
    float x[PACK_WIDTH<Pack>], g[PACK_WIDTH<Pack>];
    unpack(x, pack);
    unpack(g, gain);
#pragma unroll
    for (int j = 0; j < PACK_WIDTH<Pack>; j++) x[j] = x[j] * rstd * g[j];
    pack_values(&pack, x);
    return pack;
}

template <class Pack, int ROW_WARPS>
static __global__ void __launch_bounds__(THREADS)
    rmsnorm_forward_kernel(Pack *out, float *rstd, const Pack *x, const Pack *gain, float epsilon, int64_t tokens,
                           int packs) {
    const Place<ROW_WARPS> place;
    if (ROW_WARPS == 1 && place.row >= tokens) return; // a whole warp; nothing below waits for another
    constexpr int STEP = place.STEP, HELD = place.HELD;
    const Pack *row = x + place.row * packs;
    Pack held[HELD];
    float squares = 0;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        const int pack = place.first + k * STEP;
        held[k] = pack < packs ? row[pack] : Pack{};
        squares = add_squares(squares, held[k]);
    }
#pragma unroll 1
    for (int pack = place.first + HELD * STEP; pack < packs; pack += STEP) squares = add_squares(squares, row[pack]);
    const float mean = row_sum<ROW_WARPS>(squares) / static_cast<float>(packs * PACK_WIDTH<Pack>);
    const float scale = rsqrtf(mean + epsilon);
    if (place.first == 0) rstd[place.row] = scale;
    Pack *to = out + place.row * packs;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        const int pack = place.first + k * STEP;
        if (pack < packs) to[pack] = scaled(held[k], scale, gain[pack]);
    }
#pragma unroll 1
    for (int pack = place.first + HELD * STEP; pack < packs; pack += STEP)
        to[pack] = scaled(row[pack], scale, gain[pack]);
}

template <class Pack, int ROW_WARPS>
static void forward(Backend *b, Activation *out, float *rstd, const Activation *x, const bf16 *gain, float epsilon,
                    int64_t tokens, int64_t d, Stream *stream) {
    const int packs = static_cast<int>(d / PACK_WIDTH<Pack>);
    LAUNCH((rmsnorm_forward_kernel<Pack, ROW_WARPS>), cuda_blocks(tokens, WARPS / ROW_WARPS), THREADS, 0,
           cuda_stream(b, stream), static_cast<Pack *>(out), rstd, static_cast<const Pack *>(x),
           reinterpret_cast<const Pack *>(gain), epsilon, tokens, packs);
}

void cuda_rmsnorm_forward(Backend *b, Activation *out, float *rstd, const Activation *x, const bf16 *gain,
                          float epsilon, int64_t tokens, int64_t d, Stream *stream) {
    if (tokens == 0) return;
    auto run = !packs_fit(d, out, x, gain) ? forward<uint16_t, WARPS>
               : d <= SHORT_ROW            ? forward<uint4, 1>
                                           : forward<uint4, WARPS>;
    run(b, out, rstd, x, gain, epsilon, tokens, d, stream);
    cuda_launched(b, "rmsnorm_forward");
}

template <class Pack>
static __global__ void __launch_bounds__(PACK_THREADS)
    rmsnorm_rebuild_kernel(Pack *out, const Pack *x, const float *rstd, const Pack *gain, int64_t packs) {
    const int64_t row = blockIdx.x, pack = pack_in_row();
    if (pack < packs) out[row * packs + pack] = scaled(x[row * packs + pack], rstd[row], gain[pack]);
}

template <class Pack>
static void rebuild(Backend *b, Activation *out, const Activation *x, const float *rstd, const bf16 *gain,
                    int64_t tokens, int64_t d, Stream *stream) {
    const int64_t packs = d / PACK_WIDTH<Pack>;
    const RowLaunch launch = row_launch(tokens, packs);
    LAUNCH((rmsnorm_rebuild_kernel<Pack>), launch.grid, launch.threads, 0, cuda_stream(b, stream),
           static_cast<Pack *>(out), static_cast<const Pack *>(x), rstd, reinterpret_cast<const Pack *>(gain), packs);
}

void cuda_rmsnorm_rebuild(Backend *b, Activation *out, const Activation *x, const float *rstd, const bf16 *gain,
                          int64_t tokens, int64_t d, Stream *stream) {
    if (tokens == 0) return;
    auto run = packs_fit(d, out, x, gain) ? rebuild<uint4> : rebuild<uint16_t>;
    run(b, out, x, rstd, gain, tokens, d, stream);
    cuda_launched(b, "rmsnorm_rebuild");
}

// ---- backward: the input's gradient ---------------------------------------------------------------------------------

// With n = x rstd and g = dout gain: dx += rstd (g - n mean(g n)).

template <class Pack>
static __device__ __forceinline__ float add_products(float sum, Pack dout, Pack x, const Pack *gain) {
    float d[PACK_WIDTH<Pack>], v[PACK_WIDTH<Pack>], g[PACK_WIDTH<Pack>];
    unpack(d, dout);
    unpack(v, x);
    unpack(g, *gain);
#pragma unroll
    for (int j = 0; j < PACK_WIDTH<Pack>; j++) sum = fmaf(d[j] * g[j], v[j], sum);
    return sum;
}

template <class Pack>
static __device__ __forceinline__ void add_gradient(Pack *dx, Pack dout, Pack x, Pack gain, float rstd, float along) {
    float sum[PACK_WIDTH<Pack>], d[PACK_WIDTH<Pack>], v[PACK_WIDTH<Pack>], g[PACK_WIDTH<Pack>];
    unpack(sum, *dx);
    unpack(d, dout);
    unpack(v, x);
    unpack(g, gain);
#pragma unroll
    for (int j = 0; j < PACK_WIDTH<Pack>; j++) sum[j] += fmaf(rstd, d[j] * g[j], -(along * v[j]));
    pack_values(dx, sum);
}

template <class Pack, int ROW_WARPS>
static __global__ void __launch_bounds__(THREADS)
    rmsnorm_backward_kernel(Pack *dx, const Pack *dout, const Pack *x, const float *rstd, const Pack *gain,
                            int64_t tokens, int packs) {
    const Place<ROW_WARPS> place;
    if (ROW_WARPS == 1 && place.row >= tokens) return; // a whole warp; nothing below waits for another
    constexpr int STEP = place.STEP, HELD = place.HELD;
    const int64_t start = place.row * packs;
    Pack held_dout[HELD], held_x[HELD];
    float products = 0;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        const int pack = place.first + k * STEP;
        if (pack >= packs) break;
        held_dout[k] = dout[start + pack];
        held_x[k] = x[start + pack];
        products = add_products(products, held_dout[k], held_x[k], gain + pack);
    }
#pragma unroll 1
    for (int pack = place.first + HELD * STEP; pack < packs; pack += STEP)
        products = add_products(products, dout[start + pack], x[start + pack], gain + pack);
    const float scale = rstd[place.row];
    const float mean = row_sum<ROW_WARPS>(products) / static_cast<float>(packs * PACK_WIDTH<Pack>);
    const float along = mean * scale * scale * scale;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        const int pack = place.first + k * STEP;
        if (pack >= packs) break;
        add_gradient(dx + start + pack, held_dout[k], held_x[k], gain[pack], scale, along);
    }
#pragma unroll 1
    for (int pack = place.first + HELD * STEP; pack < packs; pack += STEP)
        add_gradient(dx + start + pack, dout[start + pack], x[start + pack], gain[pack], scale, along);
}

// ---- backward: the gain's gradient ----------------------------------------------------------------------------------

// shares[group, d] = the sum over GAIN_ROWS tokens of dout x rstd, in ascending order. blockIdx.x is the group.
template <class Pack>
static __global__ void __launch_bounds__(PACK_THREADS)
    rmsnorm_gain_shares_kernel(float *shares, const Pack *dout, const Pack *x, const float *rstd, int64_t tokens,
                               int64_t packs) {
    constexpr int WIDTH = PACK_WIDTH<Pack>;
    const int64_t pack = pack_in_row(), first = static_cast<int64_t>(blockIdx.x) * GAIN_ROWS;
    if (pack >= packs) return;
    const int64_t last = first + GAIN_ROWS < tokens ? first + GAIN_ROWS : tokens;
    float sums[WIDTH] = {0}, d[WIDTH], v[WIDTH];
#pragma unroll 4 // loads in flight
    for (int64_t row = first; row < last; row++) {
        const float scale = rstd[row];
        unpack(d, dout[row * packs + pack]);
        unpack(v, x[row * packs + pack]);
#pragma unroll
        for (int j = 0; j < WIDTH; j++) sums[j] = fmaf(d[j], v[j] * scale, sums[j]);
    }
    store_floats(shares + (blockIdx.x * packs + pack) * WIDTH, sums);
}

// gradient[d] += the sum of the shares. Threads (x, y): x is the column, y the first of every GAIN_PARTS groups.
static __global__ void __launch_bounds__(GAIN_THREADS)
    rmsnorm_gain_finish_kernel(float *gradient, const float *shares, int64_t groups, int64_t d) {
    SHARED(float, parts, [GAIN_PARTS][WARP]);
    const int64_t column = static_cast<int64_t>(blockIdx.x) * WARP + threadIdx.x;
    float sum = 0;
    if (column < d) {
#pragma unroll 4
        for (int64_t group = threadIdx.y; group < groups; group += GAIN_PARTS) sum += shares[group * d + column];
    }
    parts[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= d) return;
    for (int part = 1; part < GAIN_PARTS; part++) sum += parts[part][threadIdx.x];
    gradient[column] += sum;
}

template <class Pack>
static void gain_backward(Backend *b, float *gradient, const Pack *dout, const Pack *x, const float *rstd,
                          float *shares, int64_t tokens, int64_t d, Stream *stream) {
    const int64_t packs = d / PACK_WIDTH<Pack>, groups = gain_groups(tokens);
    const RowLaunch launch = row_launch(groups, packs);
    LAUNCH((rmsnorm_gain_shares_kernel<Pack>), launch.grid, launch.threads, 0, cuda_stream(b, stream), shares, dout, x,
           rstd, tokens, packs);
    LAUNCH(rmsnorm_gain_finish_kernel, cuda_blocks(d, WARP), dim3(WARP, GAIN_PARTS), 0, cuda_stream(b, stream),
           gradient, shares, groups, d);
}

// The gain's gradient has kernels of its own: only active blocks need it, and its sums run down the columns.
template <class Pack, int ROW_WARPS>
static void backward(Backend *b, Activation *dx, float *gain_gradient, const Activation *dout, const Activation *x,
                     const float *rstd, const bf16 *gain, float *shares, int64_t tokens, int64_t d, Stream *stream) {
    const Pack *dout_packs = static_cast<const Pack *>(dout), *x_packs = static_cast<const Pack *>(x);
    const int packs = static_cast<int>(d / PACK_WIDTH<Pack>);
    if (gain_gradient) gain_backward(b, gain_gradient, dout_packs, x_packs, rstd, shares, tokens, d, stream);
    LAUNCH((rmsnorm_backward_kernel<Pack, ROW_WARPS>), cuda_blocks(tokens, WARPS / ROW_WARPS), THREADS, 0,
           cuda_stream(b, stream), static_cast<Pack *>(dx), dout_packs, x_packs, rstd,
           reinterpret_cast<const Pack *>(gain), tokens, packs);
}

void cuda_rmsnorm_backward(Backend *b, Activation *dx, float *gain_gradient, const Activation *dout,
                           const Activation *x, const float *rstd, const bf16 *gain, void *scratch, int64_t tokens,
                           int64_t d, Stream *stream) {
    if (tokens == 0) return;
    auto run = !packs_fit(d, dx, dout, x, gain, scratch) ? backward<uint16_t, WARPS>
               : d <= SHORT_ROW                          ? backward<uint4, 1>
                                                         : backward<uint4, WARPS>;
    run(b, dx, gain_gradient, dout, x, rstd, gain, static_cast<float *>(scratch), tokens, d, stream);
    cuda_launched(b, "rmsnorm_backward");
}
