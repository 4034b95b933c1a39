// rope.cu - rotary position embedding of the query and key heads, in place.
//
// A block rotates one token. Threads (x, y): x is a pack of the first half of a head, together with the pack half a
// head further that it is paired with; y, y + blockDim.y, ... are the heads. So a thread reads its cosines and sines
// once for all its heads.
#include "kernels/cuda/packs.cuh"

#define THREADS 128

typedef struct Rotation {
    const int32_t *positions;   // [T]
    const float *cosine, *sine; // [any, D / 2]
    int64_t stride;             // packs of a token: (H + 2K) D
    int heads;                  // H + K: query heads, then key heads
    int pairs;                  // packs of half a head
    float direction;            // 1, or -1 to rotate back
} Rotation;

template <class Pack> static __global__ void __launch_bounds__(THREADS) rope_kernel(Pack *qkv, Rotation r) {
    constexpr int WIDTH = PACK_WIDTH<Pack>;
    const int64_t token = blockIdx.x;
    for (int pack = threadIdx.x; pack < r.pairs; pack += blockDim.x) {
        const int64_t angle = (static_cast<int64_t>(r.positions[token]) * r.pairs + pack) * WIDTH;
        float cosine[WIDTH], sine[WIDTH];
        load_floats(cosine, r.cosine + angle);
        load_floats(sine, r.sine + angle);
        for (int head = threadIdx.y; head < r.heads; head += blockDim.y) {
            Pack *at = qkv + token * r.stride + static_cast<int64_t>(head) * 2 * r.pairs + pack;
            float low[WIDTH], high[WIDTH];
            unpack(low, at[0]);
            unpack(high, at[r.pairs]);
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                const float s = r.direction * sine[j], a = low[j];
                low[j] = a * cosine[j] - high[j] * s;
                high[j] = high[j] * cosine[j] + a * s;
            }
            pack_values(at, low);
            pack_values(at + r.pairs, high);
        }
    }
}

template <class Pack>
static void rope(Backend *b, Activation *qkv, const Rotation *rotation, int64_t tokens, Stream *stream) {
    Rotation r = *rotation;
    r.stride /= PACK_WIDTH<Pack>;
    r.pairs /= PACK_WIDTH<Pack>;
    const int across = r.pairs < THREADS ? r.pairs : THREADS;
    const dim3 threads(static_cast<unsigned>(across), static_cast<unsigned>(THREADS / across));
    LAUNCH((rope_kernel<Pack>), static_cast<unsigned>(tokens), threads, 0, cuda_stream(b, stream),
           static_cast<Pack *>(qkv), r);
}

void cuda_rope(Backend *b, Activation *qkv, const int32_t *positions, const float *cosine, const float *sine,
               int64_t tokens, int heads, int kv_heads, int head_dim, bool inverse, Stream *stream) {
    if (tokens == 0) return;
    const int pairs = head_dim / 2;
    const Rotation r = {positions,
                        cosine,
                        sine,
                        (static_cast<int64_t>(heads) + 2 * kv_heads) * head_dim,
                        heads + kv_heads,
                        pairs,
                        inverse ? -1.0f : 1.0f};
    auto run = packs_fit(pairs, qkv, cosine, sine) ? rope<uint4> : rope<uint16_t>;
    run(b, qkv, &r, tokens, stream);
    cuda_launched(b, "rope");
}
