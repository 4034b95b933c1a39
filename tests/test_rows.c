// test_rows.c - embedding rows and their gradients, gathering and scattering rows, sums of tensors.
#include "tests/support.h"

#include "kernels/cpu/cpu.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS     700
#define VOCABULARY 97
#define WIDTH      67 // odd, and wide enough that several threads get rows

static Backend *make_backend(int threads, bool round_activations) {
    Error error = {0};
    Backend *b = backend_cpu_create(threads, round_activations, &error);
    check(b != NULL, &error);
    return b;
}

static float *noise_floats(uint64_t key, int64_t count) {
    float *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = noise(key, (uint64_t)i);
    return values;
}

// Few of the vocabulary's rows occur, one of them very often.
static int32_t id_of(int64_t t) {
    return t % 4 == 0 ? 3 : (int32_t)(t * t % 41 * 2);
}

static void embedding_copies_rows(void **state) {
    (void)state;
    Backend *b = make_backend(2, false);
    bf16 table[VOCABULARY * WIDTH];
    int32_t ids[TOKENS];
    float *out = noise_floats(1, TOKENS * WIDTH);
    for (int64_t i = 0; i < VOCABULARY * WIDTH; i++) table[i] = bf16_from_float(noise(2, (uint64_t)i));
    for (int64_t t = 0; t < TOKENS; t++) ids[t] = id_of(t);
    b->embed_forward(b, out, table, ids, TOKENS, WIDTH, NULL);
    for (int64_t t = 0; t < TOKENS; t++) {
        for (int64_t j = 0; j < WIDTH; j++)
            assert_true(out[t * WIDTH + j] == bf16_to_float(table[(int64_t)ids[t] * WIDTH + j]));
    }
    b->embed_forward(b, NULL, table, NULL, 0, WIDTH, NULL);
    free(out);
    b->destroy(b);
}

// Tokens grouped by row, as the thread that prepares a batch makes them.
typedef struct Groups {
    int32_t rows[VOCABULARY], starts[VOCABULARY + 1], order[TOKENS];
    int64_t count;
} Groups;

static Groups group_tokens(void) {
    Groups g = {.count = 0};
    int32_t used = 0;
    for (int32_t row = VOCABULARY - 1; row >= 0; row--) {
        int32_t first = used;
        for (int64_t t = 0; t < TOKENS; t++) {
            if (id_of(t) == row) g.order[used++] = (int32_t)t;
        }
        if (used == first) continue;
        g.rows[g.count] = row;
        g.starts[g.count++] = first;
    }
    g.starts[g.count] = used;
    assert_int_equal(used, TOKENS);
    return g;
}

static void embedding_gradients_reach_their_rows_only(void **state) {
    (void)state;
    Groups g = group_tokens();
    float *dout = noise_floats(3, TOKENS * WIDTH), *expected = noise_floats(4, VOCABULARY * WIDTH);
    for (int64_t j = 0; j < VOCABULARY * WIDTH; j++) {
        double sum = expected[j];
        for (int64_t t = 0; t < TOKENS; t++) sum += id_of(t) == j / WIDTH ? dout[t * WIDTH + j % WIDTH] : 0;
        expected[j] = (float)sum;
    }
    float *first = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        Backend *b = make_backend(threads, false);
        float *gradient = noise_floats(4, VOCABULARY * WIDTH), *before = noise_floats(4, VOCABULARY * WIDTH);
        b->embed_backward(b, gradient, dout, g.rows, g.starts, g.order, g.count, WIDTH, NULL);
        check_close("embedding gradient", gradient, expected, VOCABULARY * WIDTH, 1e-6);
        for (int64_t row = 0; row < VOCABULARY; row++) {
            bool occurs = false;
            for (int64_t r = 0; r < g.count; r++) occurs = occurs || g.rows[r] == row;
            if (!occurs) assert_memory_equal(gradient + row * WIDTH, before + row * WIDTH, WIDTH * sizeof *gradient);
        }
        if (first) assert_memory_equal(first, gradient, VOCABULARY * WIDTH * sizeof *gradient);
        free(before);
        if (first) {
            free(gradient);
        } else {
            first = gradient;
        }
        b->destroy(b);
    }
    free(first), free(dout), free(expected);
}

// Every third row of the table has a place, the last of the compact rows first; the others keep their bits.
static void compact_rows_are_added_where_they_belong(void **state) {
    (void)state;
    static const int64_t WIDTHS[] = {1, 4, 64, WIDTH};
    for (size_t w = 0; w < sizeof WIDTHS / sizeof *WIDTHS; w++) {
        int64_t d = WIDTHS[w], count = (VOCABULARY + 2) / 3;
        int32_t places[VOCABULARY], none[VOCABULARY];
        float *rows = noise_floats(5, count * d), *expected = noise_floats(6, VOCABULARY * d);
        for (int64_t r = 0; r < VOCABULARY; r++) {
            none[r] = -1;
            places[r] = r % 3 ? -1 : (int32_t)(count - 1 - r / 3);
            for (int64_t j = 0; j < d && r % 3 == 0; j++) expected[r * d + j] += rows[places[r] * d + j];
        }
        for (int threads = 1; threads <= 3; threads++) {
            Backend *b = make_backend(threads, false);
            float *table = noise_floats(6, VOCABULARY * d);
            b->add_rows(b, table, rows, places, VOCABULARY, d, NULL);
            assert_memory_equal(table, expected, (size_t)(VOCABULARY * d) * sizeof *table);
            b->add_rows(b, NULL, NULL, NULL, 0, d, NULL);
            b->add_rows(b, table, NULL, none, VOCABULARY, d, NULL);
            assert_memory_equal(table, expected, (size_t)(VOCABULARY * d) * sizeof *table);
            free(table);
            b->destroy(b);
        }
        free(rows), free(expected);
    }
}

static void gathered_rows_can_be_scattered_back(void **state) {
    (void)state;
    Backend *b = make_backend(2, false);
    int32_t index[TOKENS];
    int64_t count = 0;
    for (int32_t t = TOKENS - 1; t >= 0; t -= 3) index[count++] = t;
    float *x = noise_floats(1, TOKENS * WIDTH), *rows = noise_floats(2, count * WIDTH);
    float *back = noise_floats(3, TOKENS * WIDTH), *expected = noise_floats(3, TOKENS * WIDTH);
    b->gather_rows(b, rows, x, index, count, WIDTH, NULL);
    for (int64_t i = 0; i < count; i++) {
        assert_memory_equal(rows + i * WIDTH, x + index[i] * WIDTH, WIDTH * sizeof *x);
        memcpy(expected + index[i] * WIDTH, x + index[i] * WIDTH, WIDTH * sizeof *x);
    }
    b->scatter_rows(b, back, rows, index, count, WIDTH, NULL);
    assert_memory_equal(back, expected, TOKENS * WIDTH * sizeof *back);
    b->gather_rows(b, NULL, x, NULL, 0, WIDTH, NULL);
    free(x), free(rows), free(back), free(expected);
    b->destroy(b);
}

static void activations_become_floats(void **state) {
    (void)state;
    int64_t count = 50001;
    Backend *b = make_backend(2, false);
    float *x = noise_floats(1, count), *copy = noise_floats(3, count);
    b->to_float(b, copy, x, count, NULL);
    assert_memory_equal(copy, x, (size_t)count * sizeof *x);
    free(x), free(copy);
    b->destroy(b);
}

// The vectorised rounding of the kernels is the one of base/numbers.h, for every kind of number.
static void rounding_is_to_nearest_even(void **state) {
    (void)state;
    Backend *b = make_backend(2, true);
    int64_t count = 1 << 20;
    float *x = malloc((size_t)count * sizeof *x), *out = malloc((size_t)count * sizeof *out);
    for (int64_t i = 0; i < count; i++) x[i] = out[i] = float_from_bits((uint32_t)i * 4099u);
    cpu_round(cpu_backend(b), out, count);
    for (int64_t i = 0; i < count; i++) {
        float expected = bf16_to_float(bf16_from_float(x[i]));
        assert_true(isnan(expected) ? isnan(out[i]) : float_bits(out[i]) == float_bits(expected));
    }
    free(x), free(out);
    b->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedding_copies_rows),
        cmocka_unit_test(embedding_gradients_reach_their_rows_only),
        cmocka_unit_test(compact_rows_are_added_where_they_belong),
        cmocka_unit_test(gathered_rows_can_be_scattered_back),
        cmocka_unit_test(activations_become_floats),
        cmocka_unit_test(rounding_is_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
