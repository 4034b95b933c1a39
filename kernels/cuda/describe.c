// describe.c - the CUDA backend as far as a plan needs it: its numbers and sizes, for a card that need not be there.
#include "kernels/cuda/sizes.h"
#include <stdlib.h>

static size_t rmsnorm_scratch(const Backend *b, int64_t tokens, int64_t d) {
    (void)b;
    return (size_t)gain_groups(tokens) * (size_t)d * sizeof(float);
}

static size_t attention_scratch(const Backend *b, int64_t tokens, int heads) {
    (void)b;
    return (size_t)tokens * (size_t)heads * sizeof(float); // delta
}

// The gradient of the queries comes from a kernel of its own, which makes scores and their gradients once more.
static int attention_products(const Backend *b, int64_t sequence_tokens) {
    (void)b, (void)sequence_tokens;
    return 7;
}

void cuda_describe(Backend *b) {
    b->name = "cuda";
    b->activation = TYPE_BF16;
    b->activation_size = sizeof(bf16);
    b->token_multiple = 8;
    b->head_multiple = 8;
    b->unified = false;
    b->rmsnorm_scratch = rmsnorm_scratch;
    b->attention_scratch = attention_scratch;
    b->attention_products = attention_products;
}

// ---- a backend without a card ----

static void destroy(Backend *b) {
    free(b);
}

static uint64_t memory_available(Backend *b, MemoryKind kind) {
    (void)b, (void)kind;
    return 0;
}

Backend *backend_cuda_describe(Error *error) {
    Backend *b = calloc(1, sizeof *b);
    if (!b) {
        error_memory(error, "the description of the CUDA backend", sizeof *b);
        return NULL;
    }
    cuda_describe(b);
    b->workspace_bytes = DECODE_SCRATCH_FLOATS * sizeof(float) + SQUARES_PARTS * sizeof(double) + GEMM_WORKSPACE_BYTES;
    b->destroy = destroy;
    b->memory_available = memory_available;
    return b;
}
