// attention_tile.cuh - bf16 tiles in shared memory, and what one warp computes of them on tensor cores.
//
// In every attention kernel a warp owns 16 rows of a score matrix (queries, or keys where dK and dV are computed) and
// walks over its columns. What it computes for its rows stays in its registers.
// D is the width of a head in a tile. A narrower head is filled up with zero columns, which change no product; the
// filling is never stored.
#pragma once
#include "kernels/cuda/backend.h"
#include "kernels/cuda/ptx.cuh"

typedef __nv_bfloat16 Element;

constexpr int WARP_ROWS = 16;
constexpr int CHUNK = 8; // elements in 16 bytes, what cp.async and ldmatrix move at once
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr float LOG2_E = 1.44269504f; // exponentials are computed in base 2

#define DEVICE static __device__ __forceinline__

// One head in a matrix with a row per token; for a token being decoded, its heads as rows.
template <class T> struct Rows {
    T *data;        // element 0 of the head in row 0, on 16 bytes
    int64_t stride; // elements from a row to the next, a multiple of CHUNK
    int width;      // head_dim, a multiple of CHUNK, at most D
};
typedef Rows<const Element> InputRows;
typedef Rows<Element> OutputRows;

DEVICE int lane_id() {
    return threadIdx.x & 31;
}

DEVICE int warp_id() {
    return threadIdx.x >> 5;
}

// The place of a lane in a 16 x 8 tile of a product: row and column of its first element. It also has the element to
// the right, and the same two 8 rows below.
DEVICE int lane_row() {
    return lane_id() >> 2;
}

DEVICE int lane_column() {
    return (lane_id() & 3) * 2;
}

// ---- tiles in shared memory ----------------------------------------------------------------------------------------

// [rows][D] without padding. ldmatrix reads the same chunk of 8 consecutive rows at once, and these must lie in
// different groups of 4 banks: their places must differ modulo 8. A row begins D / 8 chunks after the one before, so
// bare rows repeat their bank group every REPEAT rows; an exclusive or of the chunk, within the largest power of two
// that divides a row, moves them apart.
template <int D> struct TileLayout {
    static_assert(D % 16 == 0, "tensor cores multiply 16 columns at a time");
    static constexpr int CHUNKS = D / CHUNK; // of a row
    static constexpr int RANGE = CHUNKS % 8 == 0 ? 8 : CHUNKS % 4 == 0 ? 4 : 2;
    static constexpr int REPEAT = 8 / RANGE;

    static __device__ __forceinline__ int offset(int row, int chunk) {
        return row * D + (chunk ^ (row / REPEAT % RANGE)) * CHUNK;
    }
};

// Starts to copy rows first .. first + ROWS - 1 into a tile; zeros stand for rows from `end` on and for the columns
// that the head does not have. Done by all THREADS of the block; the caller commits and waits.
template <int D, int ROWS, int THREADS> DEVICE void load_tile(Element *tile, InputRows rows, int first, int end) {
    constexpr int CHUNKS = TileLayout<D>::CHUNKS;
#pragma unroll 4 // in part: the addresses of more would take the registers that wide heads need
    for (int start = 0; start < ROWS * CHUNKS; start += THREADS) {
        const unsigned index = start + threadIdx.x;
        if (ROWS * CHUNKS % THREADS != 0 && index >= ROWS * CHUNKS) break;
        const int row = index / CHUNKS, chunk = index % CHUNKS;
        const bool inside = first + row < end && chunk * CHUNK < rows.width;
        const Element *from = inside ? rows.data + (first + row) * rows.stride + chunk * CHUNK : rows.data;
        cp_async16(tile + TileLayout<D>::offset(row, chunk), from, inside ? 16 : 0);
    }
}

// ---- registers of a warp -------------------------------------------------------------------------------------------

// 16 x COLUMNS sums in 16 x 8 tiles, of each of which a lane holds
//   [0], [1]: row lane_row(), columns lane_column() and lane_column() + 1;   [2], [3]: the same, 8 rows below
template <int COLUMNS> struct Sums {
    static constexpr int TILES = COLUMNS / 8;
    float tile[TILES][4];
};

// 16 x COLUMNS bf16 as left operand, in steps of 16 columns
template <int COLUMNS> struct Operand {
    static constexpr int STEPS = COLUMNS / 16;
    uint32_t step[STEPS][4];
};

DEVICE uint32_t pack_pair(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&pair);
}

DEVICE float2 unpack_pair(uint32_t pair) {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162 *>(&pair));
}

// The result of a product as left operand of the next: two tiles side by side lie in the registers as a 16 x 16
// operand does, so nothing moves between lanes.
template <int COLUMNS> DEVICE Operand<COLUMNS> round_to_operand(const Sums<COLUMNS> &sums) {
    Operand<COLUMNS> operand;
#pragma unroll
    for (int s = 0; s < operand.STEPS; s++) {
        const float *left = sums.tile[2 * s], *right = sums.tile[2 * s + 1];
        operand.step[s][0] = pack_pair(left[0], left[1]);
        operand.step[s][1] = pack_pair(left[2], left[3]);
        operand.step[s][2] = pack_pair(right[0], right[1]);
        operand.step[s][3] = pack_pair(right[2], right[3]);
    }
    return operand;
}

// Columns 16 step .. 16 step + 15 of 16 rows of a tile
template <int D> DEVICE void load_operand_step(uint32_t operand[4], const Element *rows, int step) {
    ldmatrix_x4(operand, rows + TileLayout<D>::offset(lane_id() & 15, 2 * step + (lane_id() >> 4)));
}

// 16 rows of a tile as left operand: HELD in registers, or read at each use, which spends shared memory's bandwidth to
// save registers.
template <int D, bool HELD> struct RowOperand;

template <int D> struct RowOperand<D, true> {
    Operand<D> held;

    __device__ __forceinline__ explicit RowOperand(const Element *rows) {
#pragma unroll
        for (int s = 0; s < D / 16; s++) load_operand_step<D>(held.step[s], rows, s);
    }
    __device__ __forceinline__ void step(uint32_t operand[4], int s) const {
#pragma unroll
        for (int i = 0; i < 4; i++) operand[i] = held.step[s][i];
    }
};

template <int D> struct RowOperand<D, false> {
    const Element *rows;

    __device__ __forceinline__ explicit RowOperand(const Element *rows_of_warp) : rows(rows_of_warp) {
    }
    __device__ __forceinline__ void step(uint32_t operand[4], int s) const {
        load_operand_step<D>(operand, rows, s);
    }
};

// ---- products ------------------------------------------------------------------------------------------------------

// sums[16, COLUMNS] += left[16, D] tile[COLUMNS, D]^T
template <int D, int COLUMNS, bool HELD>
DEVICE void multiply_transposed(Sums<COLUMNS> &sums, const RowOperand<D, HELD> &left, const Element *tile) {
    const int row = (lane_id() & 7) + (lane_id() >> 4) * 8;
    const int half = lane_id() >> 3 & 1;
#pragma unroll
    for (int s = 0; s < D / 16; s++) {
        uint32_t a[4];
        left.step(a, s);
#pragma unroll
        for (int n = 0; n < COLUMNS / 16; n++) {
            uint32_t b[4]; // rows 0 .. 7 of these 16: b[0], b[1]; rows 8 .. 15: b[2], b[3]
            ldmatrix_x4(b, tile + TileLayout<D>::offset(16 * n + row, 2 * s + half));
            mma_bf16_16816(sums.tile[2 * n], a, b[0], b[1]);
            mma_bf16_16816(sums.tile[2 * n + 1], a, b[2], b[3]);
        }
    }
}

// sums[16, COLUMNS] += left[16, INNER] tile[INNER, D], of the tile the COLUMNS from first_chunk on
template <int D, int COLUMNS, int INNER>
DEVICE void multiply(Sums<COLUMNS> &sums, const Operand<INNER> &left, const Element *tile, int first_chunk = 0) {
    const int row = lane_id() & 15;
    const int chunk = first_chunk + (lane_id() >> 4);
#pragma unroll
    for (int s = 0; s < INNER / 16; s++) {
#pragma unroll
        for (int n = 0; n < COLUMNS / 16; n++) {
            uint32_t b[4]; // columns 0 .. 7 of these 16: b[0], b[1]; columns 8 .. 15: b[2], b[3]
            ldmatrix_x4_trans(b, tile + TileLayout<D>::offset(16 * s + row, chunk + 2 * n));
            mma_bf16_16816(sums.tile[2 * n], left.step[s], b[0], b[1]);
            mma_bf16_16816(sums.tile[2 * n + 1], left.step[s], b[2], b[3]);
        }
    }
}

// ---- results -------------------------------------------------------------------------------------------------------

// Writes a warp's 16 rows, the columns from first_chunk on, times factor[0] (upper row of a lane) or factor[1] (lower),
// to the rows first .. of the output that lie before `end`. They pass through 16 rows of shared memory in which nobody
// else uses these columns, so that global memory is written in whole chunks.
template <int D, int COLUMNS>
DEVICE void store_rows(OutputRows out, int first, int end, const Sums<COLUMNS> &sums, const float factor[2],
                       Element *staging, int first_chunk = 0) {
    typedef TileLayout<D> Layout;
    constexpr int CHUNKS = COLUMNS / CHUNK;
    __syncwarp(); // other lanes may still read what was there
#pragma unroll
    for (int t = 0; t < sums.TILES; t++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            Element *to = staging + Layout::offset(lane_row() + 8 * half, first_chunk + t) + lane_column();
            *reinterpret_cast<uint32_t *>(to) =
                pack_pair(sums.tile[t][2 * half] * factor[half], sums.tile[t][2 * half + 1] * factor[half]);
        }
    }
    __syncwarp();
    for (int index = lane_id(); index < WARP_ROWS * CHUNKS; index += 32) {
        const int row = index / CHUNKS, chunk = first_chunk + index % CHUNKS;
        if (first + row >= end || chunk * CHUNK >= out.width) continue;
        *reinterpret_cast<uint4 *>(out.data + (first + row) * out.stride + chunk * CHUNK) =
            *reinterpret_cast<const uint4 *>(staging + Layout::offset(row, chunk));
    }
}

// ---- host side -----------------------------------------------------------------------------------------------------

template <int D> struct TileWidth { static constexpr int WIDTH = D; };

// Calls call(TileWidth<D>()) for the narrowest tile that holds the head. 64 and 128 are the common ones, for which
// tiles and registers were chosen. A head that no tile holds is a fault of the backend.
template <class Call> static void with_tile_width(Backend *b, const char *operation, int head_dim, Call call) {
    if (head_dim % CHUNK || head_dim > HEAD_DIM_LIMIT)
        cuda_note(b, operation, cudaErrorInvalidValue);
    else if (head_dim <= 32)
        call(TileWidth<32>());
    else if (head_dim <= 64)
        call(TileWidth<64>());
    else if (head_dim <= 96)
        call(TileWidth<96>());
    else if (head_dim <= 128)
        call(TileWidth<128>());
    else if (head_dim <= 192)
        call(TileWidth<192>());
    else
        call(TileWidth<256>());
}

// More than 48 KiB of shared memory must be asked for, per kernel. A failure shows when the kernel is launched.
template <class Kernel> static void allow_shared_bytes(Kernel *kernel, int bytes) {
    if (bytes > 48 * 1024) (void)cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}
