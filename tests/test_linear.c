// test_linear.c - the linear layer's three products against double loops, on any number of threads, and rounded.
#include "tests/support.h"

#include "kernels/kernels.h"
#include <stdlib.h>
#include <string.h>

typedef struct Shape {
    int64_t tokens, n, k;
    int64_t padding; // columns of out and dout beyond n
} Shape;

// Odd extents, few tokens (the path without panels), several tiles and several depths of one tile.
static const Shape SHAPES[] = {{1, 1, 1, 0},      {1, 67, 33, 0},     {3, 130, 31, 0},    {8, 64, 577, 3},
                               {9, 1, 7, 0},      {17, 5, 1, 0},      {33, 97, 53, 31},   {70, 200, 65, 0},
                               {130, 70, 40, 10}, {64, 1000, 350, 0}, {600, 90, 1030, 0}, {40, 1100, 700, 0}};
#define SHAPE_COUNT (sizeof SHAPES / sizeof *SHAPES)

// The tensors of one layer, its outputs and what they should be.
typedef struct Layer {
    Shape shape;
    int64_t stride;          // n + padding
    float *x, *dout, *add;   // [T, k], [T, stride], [T, stride]
    bf16 *weight, *bias;     // [n, k], [n]
    float *out, *dx;         // [T, stride], [T, k]
    float *gradient, *dbias; // [n, k], [n]
} Layer;

static float *noise_floats(uint64_t key, int64_t count) {
    float *values = malloc((size_t)(count + 1) * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = noise(key, (uint64_t)i);
    return values;
}

static bf16 *noise_bf16(uint64_t key, int64_t count) {
    bf16 *values = malloc((size_t)(count + 1) * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = bf16_from_float(noise(key, (uint64_t)i));
    return values;
}

static Layer make_layer(Shape s) {
    int64_t stride = s.n + s.padding;
    return (Layer){.shape = s,
                   .stride = stride,
                   .x = noise_floats(1, s.tokens * s.k),
                   .dout = noise_floats(2, s.tokens * stride),
                   .add = noise_floats(3, s.tokens * stride),
                   .weight = noise_bf16(4, s.n * s.k),
                   .bias = noise_bf16(5, s.n),
                   .out = noise_floats(6, s.tokens * stride),
                   .dx = noise_floats(7, s.tokens * s.k),
                   .gradient = noise_floats(8, s.n * s.k),
                   .dbias = noise_floats(9, s.n)};
}

static void free_layer(Layer *l) {
    free(l->x), free(l->dout), free(l->add), free(l->weight), free(l->bias);
    free(l->out), free(l->dx), free(l->gradient), free(l->dbias);
}

static Backend *make_backend(int threads, bool round_activations) {
    Error error = {0};
    Backend *b = backend_cpu_create(threads, round_activations, &error);
    check(b != NULL, &error);
    return b;
}

static void forward_equals_double(Backend *b, Layer *l, bool with_bias, bool with_add, bool in_place) {
    Shape s = l->shape;
    size_t bytes = (size_t)(s.tokens * l->stride) * sizeof(float);
    float *expected = malloc(bytes);
    if (in_place) memcpy(l->out, l->add, bytes);
    memcpy(expected, l->out, bytes); // the padding stays as it was
    for (int64_t t = 0; t < s.tokens; t++) {
        for (int64_t j = 0; j < s.n; j++) {
            double sum = with_bias ? bf16_to_float(l->bias[j]) : 0;
            for (int64_t i = 0; i < s.k; i++) sum += (double)l->x[t * s.k + i] * bf16_to_float(l->weight[j * s.k + i]);
            expected[t * l->stride + j] = (float)(sum + (with_add ? l->add[t * l->stride + j] : 0));
        }
    }
    const float *add = !with_add ? NULL : in_place ? l->out : l->add;
    b->linear_forward(b, l->out, l->x, l->weight, with_bias ? l->bias : NULL, add, s.tokens, s.n, s.k, l->stride, NULL);
    check_close("linear_forward", l->out, expected, s.tokens * l->stride, 1e-5);
    free(expected);
}

static void forward_is_the_product(void **state) {
    (void)state;
    Backend *b = make_backend(2, false);
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        Layer l = make_layer(SHAPES[i]);
        forward_equals_double(b, &l, false, false, false);
        forward_equals_double(b, &l, true, true, false);
        forward_equals_double(b, &l, false, true, true);
        free_layer(&l);
    }
    b->destroy(b);
}

static void backward_input_is_the_product(void **state) {
    (void)state;
    Backend *b = make_backend(2, false);
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        Layer l = make_layer(SHAPES[i]);
        Shape s = l.shape;
        float *expected = malloc((size_t)(s.tokens * s.k) * sizeof *expected);
        for (int64_t e = 0; e < s.tokens * s.k; e++) {
            double sum = 0;
            for (int64_t j = 0; j < s.n; j++)
                sum += (double)l.dout[e / s.k * l.stride + j] * bf16_to_float(l.weight[j * s.k + e % s.k]);
            expected[e] = (float)sum;
        }
        b->linear_backward_input(b, l.dx, l.dout, l.weight, s.tokens, s.n, s.k, l.stride, NULL);
        check_close("linear_backward_input", l.dx, expected, s.tokens * s.k, 1e-5);
        free(expected);
        free_layer(&l);
    }
    b->destroy(b);
}

static void backward_weight_accumulates_the_product(void **state) {
    (void)state;
    Backend *b = make_backend(2, false);
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        Layer l = make_layer(SHAPES[i]);
        Shape s = l.shape;
        float *expected = malloc((size_t)(s.n * s.k) * sizeof *expected);
        float *bias = malloc((size_t)s.n * sizeof *bias);
        for (int64_t j = 0; j < s.n; j++) {
            double column = l.dbias[j];
            for (int64_t t = 0; t < s.tokens; t++) column += l.dout[t * l.stride + j];
            bias[j] = (float)column;
            for (int64_t e = 0; e < s.k; e++) {
                double sum = l.gradient[j * s.k + e];
                for (int64_t t = 0; t < s.tokens; t++) sum += (double)l.dout[t * l.stride + j] * l.x[t * s.k + e];
                expected[j * s.k + e] = (float)sum;
            }
        }
        b->linear_backward_weight(b, l.gradient, l.dbias, l.dout, l.x, s.tokens, s.n, s.k, l.stride, NULL);
        check_close("weight gradient", l.gradient, expected, s.n * s.k, 1e-5);
        check_close("bias gradient", l.dbias, bias, s.n, 1e-5);
        free(expected), free(bias);
        free_layer(&l);
    }
    b->destroy(b);
}

static void run_all(Backend *b, Layer *l) {
    Shape s = l->shape;
    b->linear_forward(b, l->out, l->x, l->weight, l->bias, l->add, s.tokens, s.n, s.k, l->stride, NULL);
    b->linear_backward_input(b, l->dx, l->dout, l->weight, s.tokens, s.n, s.k, l->stride, NULL);
    b->linear_backward_weight(b, l->gradient, l->dbias, l->dout, l->x, s.tokens, s.n, s.k, l->stride, NULL);
}

static void threads_change_no_bit(void **state) {
    (void)state;
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        Layer one = make_layer(SHAPES[i]);
        Shape s = one.shape;
        Backend *b = make_backend(1, false);
        run_all(b, &one);
        b->destroy(b);
        for (int threads = 2; threads <= 3; threads++) {
            Layer many = make_layer(s);
            b = make_backend(threads, false);
            run_all(b, &many);
            b->destroy(b);
            assert_memory_equal(one.out, many.out, (size_t)(s.tokens * one.stride) * sizeof *one.out);
            assert_memory_equal(one.dx, many.dx, (size_t)(s.tokens * s.k) * sizeof *one.dx);
            assert_memory_equal(one.gradient, many.gradient, (size_t)(s.n * s.k) * sizeof *one.gradient);
            assert_memory_equal(one.dbias, many.dbias, (size_t)s.n * sizeof *one.dbias);
            free_layer(&many);
        }
        free_layer(&one);
    }
}

static void no_tokens_leave_everything_alone(void **state) {
    (void)state;
    Backend *b = make_backend(2, false);
    Layer l = make_layer((Shape){0, 5, 7, 0}), before = make_layer((Shape){0, 5, 7, 0});
    run_all(b, &l);
    assert_memory_equal(l.gradient, before.gradient, 35 * sizeof *l.gradient);
    assert_memory_equal(l.dbias, before.dbias, 5 * sizeof *l.dbias);
    free_layer(&l), free_layer(&before);
    b->destroy(b);
}

static void assert_rounded(const float *rounded, const float *exact, int64_t rows, int64_t columns, int64_t stride) {
    for (int64_t i = 0; i < rows * stride; i++) {
        float expected = i % stride < columns ? bf16_to_float(bf16_from_float(exact[i])) : exact[i];
        assert_int_equal(float_bits(rounded[i]), float_bits(expected));
    }
}

static void rounding_happens_once_at_the_end(void **state) {
    (void)state;
    Backend *plain = make_backend(2, false), *rounding = make_backend(2, true);
    for (size_t i = 0; i < SHAPE_COUNT; i++) {
        Layer exact = make_layer(SHAPES[i]), rounded = make_layer(SHAPES[i]);
        Shape s = exact.shape;
        run_all(plain, &exact);
        run_all(rounding, &rounded);
        assert_rounded(rounded.out, exact.out, s.tokens, s.n, exact.stride);
        assert_rounded(rounded.dx, exact.dx, s.tokens, s.k, s.k);
        assert_memory_equal(rounded.gradient, exact.gradient, (size_t)(s.n * s.k) * sizeof *exact.gradient);
        free_layer(&exact), free_layer(&rounded);
    }
    plain->destroy(plain), rounding->destroy(rounding);
}

static void a_backend_says_what_it_is_and_lends_memory(void **state) {
    (void)state;
    Error error = {0};
    Backend *b = make_backend(3, false);
    assert_string_equal(b->name, "cpu");
    assert_int_equal(b->activation, TYPE_F32);
    assert_int_equal(b->activation_size, 4);
    assert_int_equal(thread_pool_size(b->threads), 3);
    assert_true(b->workspace_bytes > 0);
    for (size_t bytes = 0; bytes < 20u << 20; bytes = bytes * 7 + 1) {
        void *memory, *other;
        check(b->allocate(b, MEMORY_DEVICE, bytes, &memory, &error), &error);
        check(b->allocate(b, MEMORY_PINNED, bytes, &other, &error), &error);
        assert_int_equal((uintptr_t)memory % 256, 0);
        memset(other, 7, bytes);
        b->copy(b, memory, other, bytes, NULL);
        assert_memory_equal(memory, other, bytes);
        b->zero(b, memory, bytes, NULL);
        for (size_t i = 0; i < bytes; i += 1 + bytes / 50) assert_int_equal(((char *)memory)[i], 0);
        b->release(b, MEMORY_DEVICE, memory);
        b->release(b, MEMORY_PINNED, other);
    }
    void *memory;
    assert_false(b->allocate(b, MEMORY_DEVICE, SIZE_MAX / 2, &memory, &error));
    assert_non_null(strstr(error.text, "out of memory: device memory needs"));
    assert_null(memory);
    Stream *stream = b->stream_create(b, &error);
    Event *event = b->event_create(b, &error), *later = b->event_create(b, &error);
    assert_true(stream && event && later);
    b->event_record(b, event, stream);
    b->event_wait(b, event, NULL);
    b->event_record(b, later, stream);
    b->synchronize(b, stream);
    assert_true(b->event_seconds(b, event, later) >= 0);
    assert_true(b->event_seconds(b, event, event) == 0);
    check(b->check(b, &error), &error);
    b->event_free(b, event);
    b->event_free(b, later);
    b->stream_free(b, stream);
    b->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backend_says_what_it_is_and_lends_memory),
        cmocka_unit_test(forward_is_the_product),
        cmocka_unit_test(backward_input_is_the_product),
        cmocka_unit_test(backward_weight_accumulates_the_product),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(no_tokens_leave_everything_alone),
        cmocka_unit_test(rounding_happens_once_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
