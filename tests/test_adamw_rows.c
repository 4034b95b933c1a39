// test_adamw_rows.c - AdamW over the rows of a table gives the bits of AdamW with the gradient spread out.
#include "tests/support.h"

#include "base/random.h"
#include "kernels/kernels.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

// A table's training state, its gradient in both forms, and the lists of rows.
typedef struct Table {
    int64_t rows, d;
    bf16 *weight;
    int16_t *low_bits;
    float *m, *v;   // [rows, d]; in 16 bits the first half of that
    float *dense;   // [rows, d]
    float *compact; // [rows, d], of which the first rows belong to some row
    int32_t *places;
    int32_t *order; // a permutation of the rows
} Table;

static void *allocate(size_t bytes) {
    void *memory = calloc(1, bytes);
    assert_non_null(memory);
    return memory;
}

// Every third row has no gradient, unless `kept` says otherwise of all; the others' lie in a shuffled order.
typedef enum { SOME, NONE, ALL } Kept;

static void make_gradient(Table *t, Kept kept, uint64_t key) {
    int64_t *shuffled = allocate((size_t)t->rows * sizeof *shuffled), used = 0;
    random_permutation(key, shuffled, t->rows);
    memset(t->dense, 0, (size_t)(t->rows * t->d) * sizeof *t->dense);
    for (int64_t i = 0; i < t->rows * t->d; i++) t->compact[i] = NAN; // unless it belongs to a row
    for (int64_t i = 0; i < t->rows; i++) {
        int64_t row = shuffled[i];
        t->places[row] = -1;
        if (kept == NONE || (kept == SOME && row % 3 == 1)) continue;
        for (int64_t j = 0; j < t->d; j++) {
            int64_t element = row * t->d + j;
            float value = element % 11 ? powf(10, (float)(-element % 10)) * noise(key, (uint64_t)element) : -0.0f;
            t->dense[element] = t->compact[used * t->d + j] = value;
        }
        t->places[row] = (int32_t)used++;
    }
    free(shuffled);
}

static Table make_table(int64_t rows, int64_t d) {
    size_t count = (size_t)(rows * d);
    Table t = {.rows = rows, .d = d};
    t.weight = allocate(count * sizeof *t.weight);
    t.low_bits = allocate(count * sizeof *t.low_bits);
    t.m = allocate(count * sizeof *t.m), t.v = allocate(count * sizeof *t.v);
    t.dense = allocate(count * sizeof *t.dense), t.compact = allocate(count * sizeof *t.compact);
    t.places = allocate((size_t)rows * sizeof *t.places), t.order = allocate((size_t)rows * sizeof *t.order);
    for (size_t i = 0; i < count; i++) t.weight[i] = bf16_from_float(0.1f * noise(1, i));
    int64_t *shuffled = allocate((size_t)rows * sizeof *shuffled);
    random_permutation(77, shuffled, rows);
    for (int64_t i = 0; i < rows; i++) t.order[i] = (int32_t)shuffled[i];
    free(shuffled);
    return t;
}

static void free_table(Table *t) {
    free(t->weight), free(t->low_bits), free(t->m), free(t->v);
    free(t->dense), free(t->compact), free(t->places), free(t->order);
}

static void same_state(const Table *a, const Table *b) {
    size_t count = (size_t)(a->rows * a->d);
    assert_memory_equal(a->weight, b->weight, count * sizeof *a->weight);
    assert_memory_equal(a->low_bits, b->low_bits, count * sizeof *a->low_bits);
    assert_memory_equal(a->m, b->m, count * sizeof *a->m);
    assert_memory_equal(a->v, b->v, count * sizeof *a->v);
}

static Backend *make_backend(int threads) {
    Error error = {0};
    Backend *b = backend_cpu_create(threads, false, &error);
    check(b != NULL, &error);
    return b;
}

static AdamWStep step_number(int t, int64_t decayed, const float *clip_scale, const int32_t *skip) {
    AdamWStep step = {.learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.1};
    step.bias_correction1 = 1 - pow(0.9, t), step.bias_correction2 = 1 - pow(0.999, t);
    step.decayed = decayed, step.clip_scale = clip_scale, step.skip = skip;
    return step;
}

static void update_rows(Backend *b, Table *t, const int32_t *rows, int64_t count, const AdamWStep *step) {
    b->adamw_rows(b, t->weight, t->low_bits, t->compact, t->places, t->m, t->v, rows, count, t->d, step, NULL);
}

// ---- equal to adamw ------------------------------------------------------------------------------------------------

// Eight steps: all rows without a list, all with one, and a list in two parts (in both orders).
static void compare_moments(bool bf16_moments, int threads, int64_t rows, int64_t d, int64_t decayed,
                            float clip_scale) {
    Backend *b = make_backend(threads);
    Table dense = make_table(rows, d), listed = make_table(rows, d);
    int32_t skip = 0;
    for (int t = 1; t <= 8; t++) {
        Kept kept = t == 3 ? NONE : t == 5 ? ALL : SOME;
        make_gradient(&dense, kept, (uint64_t)(100 + t)), make_gradient(&listed, kept, (uint64_t)(100 + t));
        AdamWStep step = step_number(t, decayed, &clip_scale, &skip);
        step.bf16_moments = bf16_moments, step.moment_key = random_key(1, RANDOM_MOMENTS, 2, (uint64_t)t);
        b->adamw(b, dense.weight, dense.low_bits, dense.dense, dense.m, dense.v, rows * d, &step, NULL);
        int64_t half = t % 4 == 1 ? 0 : t % 4 == 2 ? rows : rows / 2;
        if (t % 4 == 1) update_rows(b, &listed, NULL, rows, &step);
        if (t % 4 == 3) update_rows(b, &listed, listed.order + half, rows - half, &step);
        update_rows(b, &listed, listed.order, half, &step);
        if (t % 4 == 0) update_rows(b, &listed, listed.order + half, rows - half, &step);
        same_state(&dense, &listed);
    }
    free_table(&dense), free_table(&listed);
    b->destroy(b);
}

static void compare(int threads, int64_t rows, int64_t d, int64_t decayed, float clip_scale) {
    compare_moments(false, threads, rows, d, decayed, clip_scale);
    compare_moments(true, threads, rows, d, decayed, clip_scale);
}

static void rows_equal_the_dense_update(void **state) {
    (void)state;
    static const int64_t WIDTHS[] = {1, 3, 8, 16, 31, 64, 100, 257};
    for (size_t i = 0; i < sizeof WIDTHS / sizeof *WIDTHS; i++) {
        int64_t d = WIDTHS[i], rows = 53;
        compare(1 + (int)(i % 3), rows, d, rows * d, 1);
        compare(2, rows, d, 0, 0.37f);
        compare(2, rows, d, 17 * d + d / 2, 0.37f); // the decay ends within a row
    }
    compare(2, 1, 5, 2, 1);
    compare(3, 20011, 1, 12345, 0.5f); // many pieces of work
    compare(3, 300, 257, 300 * 257 - 1, 0.5f);
}

// What 0 times the scale gives, the dense update sees too.
static void a_row_without_gradient_is_scaled_like_one_of_zeros(void **state) {
    (void)state;
    compare(2, 7, 33, 50, INFINITY);
    compare(2, 7, 33, 50, 1e-40f);
}

// ---- and on its own ------------------------------------------------------------------------------------------------

static void rows_that_are_not_listed_stay(void **state) {
    (void)state;
    Backend *b = make_backend(2);
    Table t = make_table(40, 19), before = make_table(40, 19);
    make_gradient(&t, ALL, 5);
    float clip_scale = 1;
    int32_t skip = 0;
    AdamWStep step = step_number(1, 40 * 19, &clip_scale, &skip);
    update_rows(b, &t, t.order, 0, &step);
    same_state(&t, &before);
    update_rows(b, &t, t.order, 25, &step);
    for (int64_t i = 0; i < 40; i++) {
        int64_t row = t.order[i];
        int same = memcmp(t.v + row * t.d, before.v + row * t.d, (size_t)t.d * sizeof *t.v) == 0;
        assert_int_equal(same, i >= 25);
        same = memcmp(t.low_bits + row * t.d, before.low_bits + row * t.d, (size_t)t.d * sizeof *t.low_bits) == 0;
        assert_int_equal(same, i >= 25);
    }
    free_table(&t), free_table(&before);
    b->destroy(b);
}

static void a_table_without_any_gradient_decays(void **state) {
    (void)state;
    Backend *b = make_backend(2);
    Table t = make_table(11, 6);
    float clip_scale = 1;
    int32_t skip = 0;
    make_gradient(&t, ALL, 5);
    AdamWStep step = step_number(1, 0, &clip_scale, &skip);
    update_rows(b, &t, NULL, t.rows, &step);
    float m = t.m[4], v = t.v[4];
    assert_true(m != 0 && v != 0);
    make_gradient(&t, NONE, 5);
    b->adamw_rows(b, t.weight, t.low_bits, NULL, t.places, t.m, t.v, NULL, t.rows, t.d, &step, NULL);
    assert_true(fabsf(t.m[4] / m - 0.9f) < 1e-6f && fabsf(t.v[4] / v - 0.999f) < 1e-6f);
    free_table(&t);
    b->destroy(b);
}

static void a_skipped_step_changes_nothing(void **state) {
    (void)state;
    Backend *b = make_backend(2);
    Table t = make_table(40, 19), before = make_table(40, 19);
    make_gradient(&t, SOME, 5);
    float clip_scale = 1;
    int32_t skip = 1;
    AdamWStep step = step_number(1, 40 * 19, &clip_scale, &skip);
    update_rows(b, &t, NULL, t.rows, &step);
    update_rows(b, &t, t.order, t.rows, &step);
    same_state(&t, &before);
    free_table(&t), free_table(&before);
    b->destroy(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_equal_the_dense_update),
        cmocka_unit_test(a_row_without_gradient_is_scaled_like_one_of_zeros),
        cmocka_unit_test(rows_that_are_not_listed_stay),
        cmocka_unit_test(a_table_without_any_gradient_decays),
        cmocka_unit_test(a_skipped_step_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
