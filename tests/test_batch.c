// test_batch.c - micro-batches: positions, labels, groups by id, room; against a slow, obvious model of them.
#include "data/batch.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>

// A data set of the given lengths; ids and targets are noise, ids below `vocabulary`.
static Dataset make_dataset(const int *lengths, int count, const int64_t *sequence_starts, int64_t sequences,
                            int vocabulary) {
    Dataset dataset = {.count = count, .sequences = sequences};
    dataset.starts = calloc((size_t)count + 1, sizeof(int64_t));
    for (int e = 0; e < count; e++) dataset.starts[e + 1] = dataset.starts[e] + lengths[e];
    int64_t tokens = dataset.starts[count];
    dataset.ids = calloc((size_t)tokens + 1, sizeof(int32_t));
    dataset.trained = calloc((size_t)tokens + 1, 1);
    for (int64_t t = 0; t < tokens; t++) {
        dataset.ids[t] = (int32_t)((noise(1, (uint64_t)t) + 1) / 2 * (float)vocabulary);
        dataset.trained[t] = noise(2, (uint64_t)t) > 0;
    }
    dataset.sequence_starts = calloc((size_t)sequences + 1, sizeof(int64_t));
    for (int64_t s = 0; s <= sequences; s++) dataset.sequence_starts[s] = sequence_starts ? sequence_starts[s] : s;
    return dataset;
}

static void check_labels(const MicroBatch *batch, const Dataset *dataset, const int64_t *examples) {
    int64_t t = 0, targets = 0;
    for (int32_t run = 0; run < batch->sequences; run++) {
        int64_t first = dataset->starts[examples[run]], length = dataset->starts[examples[run] + 1] - first;
        assert_int_equal(batch->starts[run], t);
        for (int64_t i = 0; i < length; i++, t++) {
            assert_int_equal(batch->ids[t], dataset->ids[first + i]);
            assert_int_equal(batch->positions[t], i);
            if (i + 1 == length || !dataset->trained[first + i + 1]) continue;
            assert_int_equal(batch->target_rows[targets], t);
            assert_int_equal(batch->labels[targets++], dataset->ids[first + i + 1]);
        }
    }
    assert_int_equal(batch->targets, targets);
    assert_int_equal(batch->used, t);
    assert_int_equal(batch->starts[batch->sequences], t);
    for (; t < batch->tokens; t++) assert_true(batch->ids[t] == 0 && batch->positions[t] == 0);
}

static void check_groups(const MicroBatch *batch) {
    assert_int_equal(batch->row_starts[0], 0);
    assert_int_equal(batch->row_starts[batch->row_count], batch->used);
    for (int32_t row = 0; row < batch->row_count; row++) {
        if (row) assert_true(batch->rows[row] > batch->rows[row - 1]);
        assert_true(batch->row_starts[row + 1] > batch->row_starts[row]);
        for (int32_t i = batch->row_starts[row]; i < batch->row_starts[row + 1]; i++) {
            assert_int_equal(batch->ids[batch->row_tokens[i]], batch->rows[row]);
            if (i > batch->row_starts[row]) assert_true(batch->row_tokens[i] > batch->row_tokens[i - 1]);
        }
    }
}

static void test_examples_end_to_end(void **state) {
    (void)state;
    Error error = {0};
    const int lengths[] = {5, 1, 7, 3, 2, 40, 11};
    Dataset dataset = make_dataset(lengths, 7, NULL, 7, 9);
    MicroBatch batch;
    check(micro_batch_create(&batch, 30, &error), &error);
    for (int round = 0; round < 2; round++) { // a used batch is as good as a new one
        micro_batch_clear(&batch);
        const int64_t order[] = {6, 0, 3, 2, 1};
        for (int i = 0; i < 5; i++) assert_true(micro_batch_add(&batch, &dataset, order[i]));
        assert_false(micro_batch_add(&batch, &dataset, 5)); // no room for 40
        assert_true(micro_batch_add(&batch, &dataset, 4));
        micro_batch_finish(&batch);
        const int64_t all[] = {6, 0, 3, 2, 1, 4};
        assert_int_equal(batch.sequences, 6);
        check_labels(&batch, &dataset, all);
        check_groups(&batch);
    }
    micro_batch_free(&batch);
    dataset_free(&dataset);
}

static void test_packed_sequences_confine_attention(void **state) {
    (void)state;
    Error error = {0};
    const int lengths[] = {4, 6, 2, 8};
    const int64_t groups[] = {0, 3, 4};
    Dataset dataset = make_dataset(lengths, 4, groups, 2, 100);
    assert_int_equal(dataset_sequence_tokens(&dataset, 0), 12);
    assert_int_equal(dataset_sequence_tokens(&dataset, 1), 8);
    MicroBatch batch;
    check(micro_batch_create(&batch, 20, &error), &error);
    micro_batch_clear(&batch);
    assert_true(micro_batch_add(&batch, &dataset, 1));
    assert_true(micro_batch_add(&batch, &dataset, 0));
    micro_batch_finish(&batch);
    const int64_t order[] = {3, 0, 1, 2};
    assert_int_equal(batch.sequences, 4);
    assert_int_equal(batch.used, 20);
    check_labels(&batch, &dataset, order);
    check_groups(&batch);
    micro_batch_free(&batch);
    dataset_free(&dataset);
}

// All three digits of the sort by id are used, and equal ids keep their order.
static void test_large_vocabulary(void **state) {
    (void)state;
    Error error = {0};
    const int lengths[] = {3001, 1999};
    Dataset dataset = make_dataset(lengths, 2, NULL, 2, 1 << 24);
    for (int64_t t = 0; t < 5000; t += 3) dataset.ids[t] = (1 << 30) + (int32_t)(t % 7);
    MicroBatch batch;
    check(micro_batch_create(&batch, 5000, &error), &error);
    micro_batch_clear(&batch);
    assert_true(micro_batch_add(&batch, &dataset, 0));
    assert_true(micro_batch_add(&batch, &dataset, 1));
    micro_batch_finish(&batch);
    assert_true(batch.row_count > 3000);
    check_groups(&batch);
    micro_batch_free(&batch);
    dataset_free(&dataset);
}

static void test_empty_batch(void **state) {
    (void)state;
    Error error = {0};
    MicroBatch batch;
    check(micro_batch_create(&batch, 16, &error), &error);
    micro_batch_clear(&batch);
    micro_batch_finish(&batch);
    assert_int_equal(batch.used + batch.targets + batch.row_count + batch.sequences, 0);
    assert_int_equal(batch.row_starts[0], 0);
    micro_batch_free(&batch);
}

static void test_needed(void **state) {
    (void)state;
    const int lengths[] = {10, 6, 5, 10, 1};
    Dataset dataset = make_dataset(lengths, 5, NULL, 5, 9);
    const int64_t order[] = {0, 1, 2, 3, 4};
    assert_int_equal(micro_batches_needed(&dataset, order, 0, 10), 0);
    assert_int_equal(micro_batches_needed(&dataset, order, 5, 10), 5);
    assert_int_equal(micro_batches_needed(&dataset, order, 4, 11), 3);
    assert_int_equal(micro_batches_needed(&dataset, order, 5, 32), 1);
    const int64_t other[] = {2, 2, 4, 1};
    assert_int_equal(micro_batches_needed(&dataset, other, 4, 11), 2);
    dataset_free(&dataset);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples_end_to_end),
        cmocka_unit_test(test_packed_sequences_confine_attention),
        cmocka_unit_test(test_large_vocabulary),
        cmocka_unit_test(test_empty_batch),
        cmocka_unit_test(test_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
