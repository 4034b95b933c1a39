// test_cuda_linear.c - the linear layer on the card: its three products, what is added to them, its bias gradient.
#include "tests/parity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- one layer ---------------------------------------------------------------------------------------------------

typedef struct Layer {
    int64_t tokens, n, k;
    int64_t stride;              // of out and dout
    float *x, *dout, *add;       // [T, k], [T, stride], [T, stride]
    float *weight, *bias;        // [n, k], [n]
    float *gradient, *dbias;     // [n, k], [n]: what is accumulated to
    double *out, *full_out, *dx; // references: x W^T, with bias and add, dout W; the padding of out stays as add is
    double *new_gradient, *new_dbias;
} Layer;

static double *doubles(int64_t count) {
    double *values = calloc((size_t)count + 1, sizeof *values);
    assert_non_null(values);
    return values;
}

// What fp64 makes of it.
static void refer(Layer *l) {
    for (int64_t t = 0; t < l->tokens; t++) {
        for (int64_t j = 0; j < l->stride; j++) {
            int64_t at = t * l->stride + j;
            l->out[at] = l->full_out[at] = (double)l->add[at];
            if (j >= l->n) continue;
            double sum = 0;
            for (int64_t i = 0; i < l->k; i++) {
                sum += (double)l->x[t * l->k + i] * (double)l->weight[j * l->k + i];
                l->dx[t * l->k + i] += (double)l->dout[at] * (double)l->weight[j * l->k + i];
                l->new_gradient[j * l->k + i] += (double)l->dout[at] * (double)l->x[t * l->k + i];
            }
            l->out[at] = sum;
            l->full_out[at] = sum + (double)l->bias[j] + (double)l->add[at];
            l->new_dbias[j] += (double)l->dout[at];
        }
    }
}

static Layer make_layer(int64_t tokens, int64_t n, int64_t k, int64_t padding) {
    Layer l = {.tokens = tokens, .n = n, .k = k, .stride = n + padding};
    l.x = random_bf16_values(1, tokens * k, 1);
    l.dout = random_bf16_values(2, tokens * l.stride, 1);
    l.add = random_bf16_values(3, tokens * l.stride, 4);
    l.weight = random_bf16_values(4, n * k, 1);
    l.bias = random_bf16_values(5, n, 4);
    l.gradient = random_values(6, n * k, 4);
    l.dbias = random_values(7, n, 4);
    l.out = doubles(tokens * l.stride);
    l.full_out = doubles(tokens * l.stride);
    l.dx = doubles(tokens * k);
    l.new_gradient = doubles(n * k);
    l.new_dbias = doubles(n);
    for (int64_t i = 0; i < n * k; i++) l.new_gradient[i] = (double)l.gradient[i];
    for (int64_t i = 0; i < n; i++) l.new_dbias[i] = (double)l.dbias[i];
    refer(&l);
    return l;
}

static void free_layer(Layer *l) {
    free(l->x), free(l->dout), free(l->add), free(l->weight), free(l->bias), free(l->gradient), free(l->dbias);
    free(l->out), free(l->full_out), free(l->dx), free(l->new_gradient), free(l->new_dbias);
}

// ---- products ----------------------------------------------------------------------------------------------------

// Forward alone, with bias and add, and with add in place.
static void run_forward(void *context, Backend *b, Results *results) {
    const Layer *l = context;
    int64_t outputs = l->tokens * l->stride;
    void *x = device_activations(b, l->x, l->tokens * l->k), *add = device_activations(b, l->add, outputs);
    void *weight = device_weights(b, l->weight, l->n * l->k), *bias = device_weights(b, l->bias, l->n);
    for (int i = 0; i < 3; i++) {
        void *out = device_activations(b, l->add, outputs); // so that the padding is known
        b->linear_forward(b, out, x, weight, i ? bias : NULL,
                          i == 0   ? NULL
                          : i == 1 ? add
                                   : out,
                          l->tokens, l->n, l->k, l->stride, NULL);
        take_activations(results, b, out, outputs);
        device_free(b, out);
    }
    device_free(b, x), device_free(b, add), device_free(b, weight), device_free(b, bias);
}

static void run_backward(void *context, Backend *b, Results *results) {
    const Layer *l = context;
    void *x = device_activations(b, l->x, l->tokens * l->k);
    void *dout = device_activations(b, l->dout, l->tokens * l->stride);
    void *weight = device_weights(b, l->weight, l->n * l->k);
    void *dx = device_empty(b, (size_t)(l->tokens * l->k) * b->activation_size);
    float *gradient = device_floats(b, l->gradient, l->n * l->k), *dbias = device_floats(b, l->dbias, l->n);
    b->linear_backward_input(b, dx, dout, weight, l->tokens, l->n, l->k, l->stride, NULL);
    b->linear_backward_weight(b, gradient, dbias, dout, x, l->tokens, l->n, l->k, l->stride, NULL);
    if (l->tokens) take_activations(results, b, dx, l->tokens * l->k);
    take_floats(results, b, gradient, l->n * l->k);
    take_floats(results, b, dbias, l->n);
    // without a bias the weight's gradient is the same
    float *alone = device_floats(b, l->gradient, l->n * l->k);
    b->linear_backward_weight(b, alone, NULL, dout, x, l->tokens, l->n, l->k, l->stride, NULL);
    take_floats(results, b, alone, l->n * l->k);
    device_free(b, x), device_free(b, dout), device_free(b, weight), device_free(b, dx);
    device_free(b, gradient), device_free(b, dbias), device_free(b, alone);
}

// Tokens, n, k, columns of padding: odd extents, few tokens, strides that leave rows unaligned, logits.
static const int64_t SHAPES[][4] = {{1, 1, 1, 0},    {1, 67, 33, 0},   {3, 130, 31, 2},  {8, 64, 72, 0},
                                    {17, 5, 1, 0},   {33, 97, 53, 31}, {40, 200, 65, 0}, {130, 31, 40, 10},
                                    {64, 96, 64, 0}, {16, 257, 48, 63}};
#define SHAPE_COUNT (sizeof SHAPES / sizeof *SHAPES)

static void products_keep_the_rule(void **state) {
    (void)state;
    static const double forward[] = {PARITY_FORWARD, PARITY_FORWARD, PARITY_FORWARD};
    static const double backward[] = {PARITY_GRADIENT, 0, 0, 0};
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        Layer l = make_layer(SHAPES[i][0], SHAPES[i][1], SHAPES[i][2], SHAPES[i][3]);
        char name[96];
        snprintf(name, sizeof name, "linear %lld x %lld x %lld", (long long)l.tokens, (long long)l.n, (long long)l.k);
        parity_check(name, run_forward, &l, (double *[]){l.out, l.full_out, l.full_out}, forward, 3);
        parity_check(name, run_backward, &l, (double *[]){l.dx, l.new_gradient, l.new_dbias, l.new_gradient}, backward,
                     4);
        free_layer(&l);
    }
}

static void no_tokens_leave_gradients_alone(void **state) {
    (void)state;
    Layer l = make_layer(0, 5, 7, 0);
    Results results = {0};
    run_backward(&l, parity.cuda, &results);
    assert_memory_equal(results.values[0], l.gradient, 35 * sizeof(float));
    assert_memory_equal(results.values[1], l.dbias, 5 * sizeof(float));
    results_free(&results);
    free_layer(&l);
}

// Gradients of two calls are those of one with all tokens: nothing is lost between micro-batches but fp32 rounding.
static void micro_batches_accumulate(void **state) {
    (void)state;
    Backend *b = parity.cuda;
    Layer l = make_layer(48, 24, 40, 0);
    void *x = device_activations(b, l.x, l.tokens * l.k), *dout = device_activations(b, l.dout, l.tokens * l.n);
    float *gradient = device_floats(b, l.gradient, l.n * l.k), *dbias = device_floats(b, l.dbias, l.n);
    for (int64_t t = 0; t < 48; t += 16)
        b->linear_backward_weight(b, gradient, dbias, (bf16 *)dout + t * l.n, (bf16 *)x + t * l.k, 16, l.n, l.k, l.n,
                                  NULL);
    Results results = {0};
    take_floats(&results, b, gradient, l.n * l.k);
    take_floats(&results, b, dbias, l.n);
    check_rule("gradient", results.values[0], results.values[0], l.new_gradient, l.n * l.k, 0);
    check_rule("bias gradient", results.values[1], results.values[1], l.new_dbias, l.n, 0);
    results_free(&results);
    device_free(b, x), device_free(b, dout), device_free(b, gradient), device_free(b, dbias);
    free_layer(&l);
}

// ---- measuring ---------------------------------------------------------------------------------------------------

static void the_library_is_timed(void **state) {
    (void)state;
    Backend *b = parity.cuda;
    Error error = {0};
    uint64_t before = b->memory_in_use(b);
    for (int layout = GEMM_FORWARD; layout <= GEMM_BACKWARD_WEIGHT; layout++) {
        double seconds = -1;
        check(b->gemm_seconds(b, (GemmLayout)layout, 33, 40, 17, 3, &seconds, &error), &error);
        assert_true(seconds >= 0 && seconds < 60);
    }
    assert_true(b->memory_in_use(b) == before || !emulator_present()); // others may use a real card
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_keep_the_rule),
        cmocka_unit_test(no_tokens_leave_gradients_alone),
        cmocka_unit_test(micro_batches_accumulate),
        cmocka_unit_test(the_library_is_timed),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
