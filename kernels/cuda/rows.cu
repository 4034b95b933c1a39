// rows.cu - picks rows out of a matrix and puts them back: the tokens that have a label, the embeddings of tokens.
#include "kernels/cuda/packs.cuh"

// Row i of `out` or of `in`, whichever the index is of, is row index[i] of it; the other's is row i.
template <class Pack, bool GATHER>
static __global__ void __launch_bounds__(PACK_THREADS)
    copy_rows_kernel(Pack *out, const Pack *in, const int32_t *index, int64_t packs) {
    const int64_t row = blockIdx.x, there = index[row], pack = pack_in_row();
    if (pack < packs) out[(GATHER ? row : there) * packs + pack] = in[(GATHER ? there : row) * packs + pack];
}

template <class Pack, bool GATHER>
static void copy_rows(Backend *b, void *out, const void *in, const int32_t *index, int64_t count, int64_t d,
                      Stream *stream) {
    const int64_t packs = d / PACK_WIDTH<Pack>;
    const RowLaunch launch = row_launch(count, packs);
    LAUNCH((copy_rows_kernel<Pack, GATHER>), launch.grid, launch.threads, 0, cuda_stream(b, stream),
           static_cast<Pack *>(out), static_cast<const Pack *>(in), index, packs);
}

void cuda_gather_rows(Backend *b, Activation *out, const Activation *x, const int32_t *index, int64_t count, int64_t d,
                      Stream *stream) {
    if (count == 0) return;
    auto copy = packs_fit(d, out, x) ? copy_rows<uint4, true> : copy_rows<uint16_t, true>;
    copy(b, out, x, index, count, d, stream);
    cuda_launched(b, "gather_rows");
}

void cuda_scatter_rows(Backend *b, Activation *out, const Activation *x, const int32_t *index, int64_t count, int64_t d,
                       Stream *stream) {
    if (count == 0) return;
    auto copy = packs_fit(d, out, x) ? copy_rows<uint4, false> : copy_rows<uint16_t, false>;
    copy(b, out, x, index, count, d, stream);
    cuda_launched(b, "scatter_rows");
}
