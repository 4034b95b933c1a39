// test_cuda_rows.c - operations of the CUDA backend that give the CPU backend's bits: embedding, gather, scatter,
// floats, random weights.
#include "tests/parity.h"
#include <stdio.h>
#include <stdlib.h>

// skew: the activations start this many elements after an aligned address.
static const struct {
    int64_t rows, d, skew;
} CASES[] = {{0, 8, 0},   {1, 8, 0},    {3, 24, 0},  {129, 24, 0}, {129, 576, 0}, {129, 37, 0},
             {5, 576, 1}, {3, 4096, 0}, {3, 257, 0}, {2, 1, 0},    {30, 12, 0}};
#define CASE_COUNT (sizeof CASES / sizeof *CASES)
#define VOCABULARY 61

typedef struct Rows {
    int64_t rows, d, skew; // tokens, or rows of the larger matrix
    int32_t ids[200];      // of the tokens
    int32_t some[200];     // every third row, descending
    int64_t some_count;
    int32_t group_rows[VOCABULARY], starts[VOCABULARY + 1], order[200]; // the tokens grouped by id
    int64_t groups;
    float *x;        // [skew + rows d], bf16 numbers
    float *before;   // [rows d], bf16 numbers: what rows are scattered into
    float *table;    // [VOCABULARY, d], bf16 numbers
    float *gradient; // [skew + VOCABULARY d] floats
    float *compact;  // [skew + groups d] floats: rows to be added to those of the ids that occur
} Rows;

// Few ids occur, one of them very often.
static int32_t id_of(int64_t t) {
    return t % 4 == 0 ? 3 : (int32_t)(t * t % 29 * 2);
}

static void group_tokens(Rows *r) {
    int32_t used = 0;
    for (int32_t id = VOCABULARY - 1; id >= 0; id--) {
        const int32_t first = used;
        for (int64_t t = 0; t < r->rows; t++)
            if (r->ids[t] == id) r->order[used++] = (int32_t)t;
        if (used == first) continue;
        r->group_rows[r->groups] = id;
        r->starts[r->groups++] = first;
    }
    r->starts[r->groups] = used;
}

static Rows rows_create(size_t index) {
    Rows r = {.rows = CASES[index].rows, .d = CASES[index].d, .skew = CASES[index].skew};
    for (int64_t t = 0; t < r.rows; t++) r.ids[t] = id_of(t);
    for (int64_t t = r.rows - 1; t >= 0; t -= 3) r.some[r.some_count++] = (int32_t)t;
    group_tokens(&r);
    r.x = random_bf16_values(1, r.skew + r.rows * r.d, 1);
    r.before = random_bf16_values(4, r.rows * r.d, 1);
    r.table = random_bf16_values(2, VOCABULARY * r.d, 1);
    r.gradient = random_values(3, r.skew + VOCABULARY * r.d, 1);
    r.compact = random_values(5, r.skew + r.groups * r.d, 1);
    return r;
}

static void rows_free(Rows *r) {
    free(r->x), free(r->before), free(r->table), free(r->gradient), free(r->compact);
}

static void embed(const Rows *r, Backend *b, Results *results) {
    void *out = device_empty(b, (size_t)(r->skew + r->rows * r->d) * b->activation_size);
    void *table = device_weights(b, r->table, VOCABULARY * r->d);
    void *ids = device_bytes(b, r->ids, sizeof r->ids);
    b->embed_forward(b, device_element(b, out, r->skew), table, ids, r->rows, r->d, NULL);
    take_activations(results, b, device_element(b, out, r->skew), r->rows * r->d);
    device_free(b, out), device_free(b, table), device_free(b, ids);
}

static void embed_gradient(const Rows *r, Backend *b, Results *results) {
    void *dout = device_activations(b, r->x, r->skew + r->rows * r->d);
    void *gradient = device_floats(b, r->gradient, VOCABULARY * r->d);
    void *rows = device_bytes(b, r->group_rows, sizeof r->group_rows);
    void *starts = device_bytes(b, r->starts, sizeof r->starts), *order = device_bytes(b, r->order, sizeof r->order);
    b->embed_backward(b, gradient, device_element(b, dout, r->skew), rows, starts, order, r->groups, r->d, NULL);
    take_floats(results, b, gradient, VOCABULARY * r->d);
    device_free(b, dout), device_free(b, gradient), device_free(b, rows), device_free(b, starts), device_free(b, order);
}

static void add_rows(const Rows *r, Backend *b, Results *results) {
    int32_t places[VOCABULARY];
    for (int32_t id = 0; id < VOCABULARY; id++) places[id] = -1;
    for (int32_t g = 0; g < r->groups; g++) places[r->group_rows[g]] = g;
    float *gradient = device_floats(b, r->gradient, r->skew + VOCABULARY * r->d);
    float *compact = device_floats(b, r->compact, r->skew + r->groups * r->d);
    void *at = device_bytes(b, places, sizeof places);
    b->add_rows(b, gradient + r->skew, compact, at, VOCABULARY, r->d, NULL);
    b->add_rows(b, gradient, compact + r->skew, at, VOCABULARY, r->d, NULL);
    b->add_rows(b, gradient, compact, at, VOCABULARY - 1, r->d, NULL); // not the last row
    b->add_rows(b, gradient, compact, at, 0, r->d, NULL);
    take_floats(results, b, gradient, r->skew + VOCABULARY * r->d);
    device_free(b, gradient), device_free(b, compact), device_free(b, at);
}

static void gather_scatter(const Rows *r, Backend *b, Results *results) {
    const int64_t count = r->rows * r->d;
    void *x = device_activations(b, r->x, r->skew + count), *back = device_activations(b, r->before, count);
    void *some = device_empty(b, (size_t)(r->skew + r->some_count * r->d) * b->activation_size);
    void *index = device_bytes(b, r->some, sizeof r->some), *at_some = device_element(b, some, r->skew);
    b->gather_rows(b, at_some, device_element(b, x, r->skew), index, r->some_count, r->d, NULL);
    b->scatter_rows(b, back, at_some, index, r->some_count, r->d, NULL);
    take_activations(results, b, at_some, r->some_count * r->d);
    take_activations(results, b, back, count);
    device_free(b, x), device_free(b, back), device_free(b, some), device_free(b, index);
}

static void floats(const Rows *r, Backend *b, Results *results) {
    const int64_t count = r->rows * r->d;
    void *x = device_activations(b, r->x, r->skew + count), *out = device_empty(b, (size_t)count * sizeof(float));
    b->to_float(b, out, device_element(b, x, r->skew), count, NULL);
    take_floats(results, b, out, count);
    device_free(b, x), device_free(b, out);
}

static void fill(const Rows *r, Backend *b, Results *results) {
    const int64_t count = r->rows * r->d;
    void *out = device_empty(b, (size_t)count * sizeof(bf16)), *ones = device_empty(b, (size_t)count * sizeof(bf16));
    b->fill_normal(b, out, count, 0.5f, 0.02f, 11, NULL);
    b->fill_normal(b, ones, count, 1, 0, 11, NULL);
    take_weights(results, b, out, count);
    take_weights(results, b, ones, count);
    const float *constant = results->values[results->count - 1];
    for (int64_t i = 0; i < count; i++) assert_true(constant[i] == 1);
    device_free(b, out), device_free(b, ones);
}

static void run(void *context, Backend *b, Results *results) {
    embed(context, b, results);
    embed_gradient(context, b, results);
    add_rows(context, b, results);
    gather_scatter(context, b, results);
    floats(context, b, results);
    fill(context, b, results);
}

static void equal_bits(void **state) {
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        char what[64];
        Rows r = rows_create(i);
        snprintf(what, sizeof what, "%lld rows of %lld", (long long)r.rows, (long long)r.d);
        parity_check_equal(what, run, &r);
        rows_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_bits),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
