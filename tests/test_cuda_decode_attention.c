// test_cuda_decode_attention.c - attention of one token over the cache, CUDA backend, against fp64 and the CPU backend.
#include "tests/parity.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct Case {
    int heads, kv_heads, head_dim, window;
    int64_t length;
    float magnitude; // of q, keys and values
} Case;

typedef struct Work {
    Case shape;
    float scale;
    float *q;             // [H, D]
    float *keys, *values; // [length, K D]
} Work;

static void run(void *context, Backend *b, Results *results) {
    const Work *work = context;
    const Case *c = &work->shape;
    const int64_t width = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    void *q = device_activations(b, work->q, width);
    void *keys = device_activations(b, work->keys, c->length * kv);
    void *values = device_activations(b, work->values, c->length * kv);
    void *out = device_empty(b, (size_t)width * b->activation_size);
    b->attention_decode(b, out, q, keys, values, c->length, c->heads, c->kv_heads, c->head_dim, c->window, work->scale,
                        NULL);
    take_activations(results, b, out, width);
    device_free(b, q), device_free(b, keys), device_free(b, values), device_free(b, out);
}

// One head: out[D] from its query and the rows first .. length - 1 of its keys and values.
static void reference_head(const Work *work, int head, double *out) {
    const Case *c = &work->shape;
    const int64_t d = c->head_dim, stride = c->kv_heads * d, column = head / (c->heads / c->kv_heads) * d;
    const int64_t first = c->window > 0 && c->length > c->window ? c->length - c->window : 0;
    double *p = calloc((size_t)c->length, sizeof *p), top = -INFINITY, sum = 0;
    assert_non_null(p);
    for (int64_t t = first; t < c->length; t++) {
        for (int64_t j = 0; j < d; j++)
            p[t] += (double)work->q[head * d + j] * (double)work->keys[t * stride + column + j];
        p[t] *= (double)work->scale;
        top = fmax(top, p[t]);
    }
    for (int64_t t = first; t < c->length; t++) sum += p[t] = exp(p[t] - top);
    for (int64_t j = 0; j < d; j++) out[j] = 0;
    for (int64_t t = first; t < c->length; t++) {
        for (int64_t j = 0; j < d; j++) out[j] += p[t] / sum * (double)work->values[t * stride + column + j];
    }
    free(p);
}

static void check_case(const Case *c) {
    const int64_t width = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    Work work = {.shape = *c, .scale = 1 / sqrtf((float)c->head_dim)};
    work.q = random_bf16_values(1, width, c->magnitude);
    work.keys = random_bf16_values(2, c->length * kv, c->magnitude);
    work.values = random_bf16_values(3, c->length * kv, c->magnitude);
    double *reference = malloc((size_t)width * sizeof *reference);
    assert_non_null(reference);
    for (int head = 0; head < c->heads; head++) reference_head(&work, head, reference + head * c->head_dim);
    char name[160];
    snprintf(name, sizeof name, "head_dim %d, heads %d/%d, window %d, length %d", c->head_dim, c->heads, c->kv_heads,
             c->window, (int)c->length);
    const double factor = PARITY_FORWARD;
    parity_check(name, run, &work, &reference, &factor, 1);
    free(reference), free(work.q), free(work.keys), free(work.values);
}

static const int64_t LENGTHS[] = {1, 2, 7, 15, 16, 17, 63, 64, 65, 128, 129, 200, 300};

static void lengths(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
        check_case(&(Case){4, 2, 64, 0, LENGTHS[i], 1.5f});
        check_case(&(Case){4, 1, 64, 50, LENGTHS[i], 1.5f});
    }
}

static void head_dims(void **state) {
    (void)state;
    static const int dims[] = {8, 32, 40, 64, 80, 96, 128, 160, 192, 256};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        check_case(&(Case){8, 1, dims[i], 0, 150, 1.5f});
        check_case(&(Case){3, 3, dims[i], 129, 200, 1.5f});
    }
}

// As many query heads per key/value head as fill the rows of one block, and more.
static void groups(void **state) {
    (void)state;
    static const int heads[] = {1, 2, 15, 16, 17, 32, 48};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) check_case(&(Case){heads[i] * 2, 2, 24, 0, 70, 1.5f});
    check_case(&(Case){8, 8, 128, 1, 70, 1.5f});
}

// So many key/value heads that a block walks over several tiles of keys, in some splits or in one.
static void several_tiles_in_a_split(void **state) {
    (void)state;
    check_case(&(Case){64, 64, 8, 0, 700, 1.5f});
    check_case(&(Case){256, 256, 8, 0, 300, 1.5f});
    check_case(&(Case){300, 300, 8, 130, 300, 1.5f});
}

static void large_scores(void **state) {
    (void)state;
    check_case(&(Case){4, 2, 64, 0, 300, 12});
    check_case(&(Case){4, 4, 128, 100, 300, 12});
}

static void no_bank_conflicts(void **state) {
    (void)state;
    parity_assert_no_bank_conflicts(10000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths),      cmocka_unit_test(head_dims),
        cmocka_unit_test(groups),       cmocka_unit_test(several_tiles_in_a_split),
        cmocka_unit_test(large_scores), cmocka_unit_test(no_bank_conflicts),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
