// test_cuda_adamw_rows.c - AdamW over the rows of a table gives the CPU backend's bits, which test_adamw_rows.c holds
// against the dense update.
#include "tests/parity.h"

#include "base/random.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

// A table that lies `offset` elements into its arrays; as many elements follow it. Those must stay as they are.
typedef struct Case {
    int64_t rows, d;
    int64_t listed; // so many of the rows, in a shuffled order; 0: all, without a list
    int64_t decayed;
    int64_t offset;
    int64_t gradient_offset; // on top: the gradient need not be aligned like the rest
    int64_t moment_offset;   // nor m and v
    bool no_gradient;        // of any row
    bool dense;              // the same by adamw
    bool bf16_moments;
    float clip_scale;
    int32_t skip;
} Case;

static int64_t room(const Case *c) {
    return round_up(c->rows * c->d + 2 * c->offset, 2); // even, so that 16-bit arrays are whole words
}

static void *make_floats(Backend *b, const Case *c, uint64_t key) {
    float *values = random_values(key, room(c), 1);
    for (int64_t i = 0; i < room(c); i++) values[i] = i % 13 ? fabsf(values[i]) * powf(10, (float)(-i % 7)) : 0;
    void *device = device_floats(b, values, room(c));
    free(values);
    return device;
}

static void *make_halves(Backend *b, const Case *c, uint64_t key) {
    uint16_t *values = malloc((size_t)room(c) * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < room(c); i++) values[i] = (uint16_t)(float_bits(0.1f * noise(key, (uint64_t)i)) >> 16);
    void *device = device_bytes(b, values, (size_t)room(c) * sizeof *values);
    free(values);
    return device;
}

static void *make_moments(Backend *b, const Case *c, uint64_t key) {
    if (!c->bf16_moments) return make_floats(b, c, key);
    float *values = random_values(key, room(c), 1);
    for (int64_t i = 0; i < room(c); i++) values[i] = fabsf(values[i]);
    void *device = device_weights(b, values, room(c));
    free(values);
    return device;
}

// Where the table's moments begin.
static void *moment(const Case *c, void *moments) {
    return (char *)moments + (size_t)(c->offset + c->moment_offset) * (c->bf16_moments ? sizeof(bf16) : sizeof(float));
}

// Row r's gradient is row r / 2 of the compact one, from the end, for even r; odd rows have none. `spread`: all rows.
static float *make_gradient(const Case *c, bool spread, int64_t *count) {
    int64_t kept = (c->rows + 1) / 2, shift = c->offset + c->gradient_offset;
    *count = (spread ? c->rows : kept) * c->d + shift;
    float *values = calloc((size_t)*count, sizeof *values);
    assert_non_null(values);
    for (int64_t r = 0; r < c->rows && !c->no_gradient; r += 2) {
        float *row = values + shift + (spread ? r : kept - 1 - r / 2) * c->d;
        for (int64_t j = 0; j < c->d; j++)
            row[j] = powf(10, (float)(-(r + j) % 8)) * noise(9, (uint64_t)(r * c->d + j));
    }
    return values;
}

static int32_t *make_places(const Case *c) {
    int32_t *places = malloc((size_t)c->rows * sizeof *places);
    assert_non_null(places);
    for (int64_t r = 0; r < c->rows; r++)
        places[r] = c->no_gradient || r % 2 ? -1 : (int32_t)((c->rows + 1) / 2 - 1 - r / 2);
    return places;
}

// The first `listed` of a shuffled order of all rows, or NULL.
static int32_t *make_list(Backend *b, const Case *c) {
    if (c->listed == 0) return NULL;
    int64_t *shuffled = malloc((size_t)c->rows * sizeof *shuffled);
    int32_t *rows = malloc((size_t)c->rows * sizeof *rows);
    assert_true(shuffled != NULL && rows != NULL);
    random_permutation(3, shuffled, c->rows);
    for (int64_t i = 0; i < c->rows; i++) rows[i] = (int32_t)shuffled[i];
    int32_t *device = device_bytes(b, rows, (size_t)c->listed * sizeof *rows);
    free(shuffled), free(rows);
    return device;
}

static void run_rows(void *context, Backend *b, Results *results) {
    const Case *c = context;
    int64_t gradient_count, offset = c->offset, shift = offset + c->gradient_offset;
    float *values = make_gradient(c, c->dense, &gradient_count);
    int32_t *host_places = make_places(c);
    bf16 *weight = make_halves(b, c, 1);
    int16_t *low_bits = make_halves(b, c, 2);
    void *m = make_moments(b, c, 3), *v = make_moments(b, c, 4);
    float *gradient = device_floats(b, values, gradient_count), *clip_scale = device_floats(b, &c->clip_scale, 1);
    int32_t *skip = device_bytes(b, &c->skip, sizeof c->skip), *rows = make_list(b, c);
    int32_t *places = device_bytes(b, host_places, (size_t)c->rows * sizeof *places);
    AdamWStep step = {.learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.1};
    step.decayed = c->decayed, step.bias_correction1 = 0.1, step.bias_correction2 = 0.001;
    step.clip_scale = clip_scale, step.skip = skip, step.bf16_moments = c->bf16_moments, step.moment_key = 7;
    if (c->dense)
        b->adamw(b, weight + offset, low_bits + offset, gradient + shift, moment(c, m), moment(c, v), c->rows * c->d,
                 &step, NULL);
    else
        b->adamw_rows(b, weight + offset, low_bits + offset, gradient + shift, places, moment(c, m), moment(c, v), rows,
                      c->listed ? c->listed : c->rows, c->d, &step, NULL);
    b->synchronize(b, NULL);
    take_bits(results, b, weight, room(c) / 2);
    take_bits(results, b, low_bits, room(c) / 2);
    take_bits(results, b, m, c->bf16_moments ? room(c) / 2 : room(c));
    take_bits(results, b, v, c->bf16_moments ? room(c) / 2 : room(c));
    device_free(b, weight), device_free(b, low_bits), device_free(b, m), device_free(b, v);
    device_free(b, gradient), device_free(b, places), device_free(b, clip_scale), device_free(b, skip);
    if (rows) device_free(b, rows);
    free(values), free(host_places);
}

static void compare(Case c) {
    if (c.clip_scale == 0) c.clip_scale = 0.37f;
    char what[80];
    snprintf(what, sizeof what, "%d of %d rows of %d at %d", (int)c.listed, (int)c.rows, (int)c.d, (int)c.offset);
    for (int i = 0; i < 2; i++) {
        c.bf16_moments = i == 1;
        parity_check_equal(what, run_rows, &c);
    }
}

static void rows_of_any_width(void **state) {
    (void)state;
    static const int64_t WIDTHS[] = {1, 2, 3, 4, 5, 8, 31, 64, 100, 255, 256, 257, 1024, 2044, 2048, 2049, 2052, 4100};
    for (size_t i = 0; i < sizeof WIDTHS / sizeof *WIDTHS; i++) {
        int64_t d = WIDTHS[i];
        compare((Case){.rows = 7, .d = d, .decayed = 7 * d, .offset = i % 2 ? 4 : 0});
        compare((Case){.rows = 7, .d = d, .listed = 4, .decayed = 3 * d + d / 2, .offset = i % 2 ? 0 : 4});
    }
}

static void arrays_that_are_not_aligned(void **state) {
    (void)state;
    for (int64_t offset = 0; offset <= 3; offset++) {
        compare((Case){.rows = 5, .d = 64, .decayed = 100, .offset = offset});
        compare((Case){.rows = 5, .d = 64, .decayed = 100, .listed = 5, .offset = 4, .gradient_offset = offset});
        compare((Case){.rows = 5, .d = 64, .decayed = 100, .listed = 5, .offset = 4, .moment_offset = offset});
    }
}

static void many_rows_and_few(void **state) {
    (void)state;
    compare((Case){.rows = 1, .d = 12, .decayed = 12});
    compare((Case){.rows = 1, .d = 12, .listed = 1});
    compare((Case){.rows = 700, .d = 16, .listed = 650, .decayed = 5000});
    compare((Case){.rows = 333, .d = 3, .decayed = 500});
    compare((Case){.rows = 30, .d = 36, .no_gradient = true, .decayed = 500});
}

static void every_row_gives_what_the_dense_update_gives(void **state) {
    (void)state;
    Case c = {.rows = 9, .d = 132, .listed = 9, .decayed = 600, .clip_scale = 0.7f};
    for (int i = 0; i < 4; i++) {
        c.d = 131 + i / 2, c.bf16_moments = i % 2;
        Results rows = {0}, dense = {0};
        c.dense = false;
        run_rows(&c, parity.cuda, &rows);
        c.dense = true;
        run_rows(&c, parity.cuda, &dense);
        assert_int_equal(rows.count, dense.count);
        for (int j = 0; j < rows.count; j++)
            assert_memory_equal(rows.values[j], dense.values[j], (size_t)rows.sizes[j] * sizeof(float));
        results_free(&rows), results_free(&dense);
    }
}

static void a_skipped_step_changes_nothing(void **state) {
    (void)state;
    Case c = {.rows = 9, .d = 132, .clip_scale = 1, .skip = 1};
    Results skipped = {0}, before = {0};
    run_rows(&c, parity.cuda, &skipped);
    bf16 *weight = make_halves(parity.cuda, &c, 1);
    float *m = make_floats(parity.cuda, &c, 3);
    take_bits(&before, parity.cuda, weight, room(&c) / 2);
    take_bits(&before, parity.cuda, m, room(&c));
    assert_memory_equal(skipped.values[0], before.values[0], (size_t)before.sizes[0] * sizeof(float));
    assert_memory_equal(skipped.values[2], before.values[1], (size_t)before.sizes[1] * sizeof(float));
    device_free(parity.cuda, weight), device_free(parity.cuda, m);
    results_free(&skipped), results_free(&before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_any_width),
        cmocka_unit_test(arrays_that_are_not_aligned),
        cmocka_unit_test(many_rows_and_few),
        cmocka_unit_test(every_row_gives_what_the_dense_update_gives),
        cmocka_unit_test(a_skipped_step_changes_nothing),
    };
    return cmocka_run_group_tests(tests, parity_open, parity_close);
}
