// test_sequences.c - the held-out split and packing: nothing lost, nothing twice, the same for the same seed.
#include "data/dataset_builder.h"
#include "data/sequences.h"
#include "tests/support.h"
#include <string.h>

// Examples of these lengths; every token of example e has id e.
static Dataset make_dataset(const int *lengths, int count) {
    DatasetBuilder builder = {0};
    Dataset dataset;
    Error error = {0};
    for (int e = 0; e < count; e++) {
        int32_t ids[256];
        uint8_t trained[256];
        for (int t = 0; t < lengths[e]; t++) {
            ids[t] = e;
            trained[t] = t % 2 == 1;
        }
        check(dataset_builder_add(&builder, ids, trained, lengths[e], &error), &error);
    }
    check(dataset_builder_finish(&builder, &dataset, &error), &error);
    return dataset;
}

// Checks that each example is whole and says which it is: marks its id in seen.
static void check_examples(const Dataset *dataset, const int *lengths, bool *seen) {
    int64_t targets = 0;
    for (int64_t e = 0; e < dataset->count; e++) {
        const int32_t *ids = dataset->ids + dataset->starts[e];
        assert_int_equal(dataset->starts[e + 1] - dataset->starts[e], lengths[ids[0]]);
        assert_false(seen[ids[0]]);
        seen[ids[0]] = true;
        for (int t = 0; t < lengths[ids[0]]; t++) {
            assert_int_equal(ids[t], ids[0]);
            assert_int_equal(dataset->trained[dataset->starts[e] + t], t % 2);
            targets += t % 2;
        }
    }
    assert_int_equal(dataset->targets, targets);
    assert_int_equal(dataset->sequence_starts[0], 0);
    assert_int_equal(dataset->sequence_starts[dataset->sequences], dataset->count);
}

static void make_lengths(int *lengths, int count) {
    for (int e = 0; e < count; e++) lengths[e] = 2 + (int)((noise(7, (uint64_t)e) + 1) * 40);
}

static void test_split(void **state) {
    (void)state;
    enum { COUNT = 101 };
    Error error = {0};
    int lengths[COUNT];
    make_lengths(lengths, COUNT);
    Dataset dataset = make_dataset(lengths, COUNT), train, held, again_train, again_held;
    const double sizes[] = {0.1, 0.5, 1, 11, 100};
    const int wanted[] = {11, 51, 1, 11, 100};
    for (int i = 0; i < 5; i++) {
        bool seen[COUNT] = {false};
        check(dataset_split(&dataset, sizes[i], 42, &train, &held, &error), &error);
        assert_int_equal(held.count, wanted[i]);
        assert_int_equal(train.count, COUNT - wanted[i]);
        check_examples(&train, lengths, seen);
        check_examples(&held, lengths, seen);
        for (int64_t e = 1; e < held.count; e++) assert_true(held.ids[held.starts[e]] > held.ids[held.starts[e - 1]]);
        check(dataset_split(&dataset, sizes[i], 42, &again_train, &again_held, &error), &error);
        assert_memory_equal(held.ids, again_held.ids, (size_t)held.starts[held.count] * sizeof *held.ids);
        dataset_free(&again_train);
        dataset_free(&again_held);
        check(dataset_split(&dataset, sizes[i], 43, &again_train, &again_held, &error), &error);
        assert_true(held.starts[held.count] != again_held.starts[held.count] ||
                    memcmp(held.ids, again_held.ids, (size_t)held.starts[held.count] * sizeof *held.ids) != 0);
        dataset_free(&again_train);
        dataset_free(&again_held);
        dataset_free(&train);
        dataset_free(&held);
    }
    assert_false(dataset_split(&dataset, 101, 42, &train, &held, &error));
    assert_string_equal(error.text, "val_size 101 leaves nothing to train on: there are 101 examples");
    dataset_free(&dataset);
}

static void test_pack(void **state) {
    (void)state;
    enum { COUNT = 150, CAPACITY = 100 };
    Error error = {0};
    int lengths[COUNT];
    make_lengths(lengths, COUNT);
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        bool seen[COUNT] = {false}, in_order = true;
        Dataset dataset = make_dataset(lengths, COUNT);
        check(dataset_pack(&dataset, CAPACITY, shuffle, 42, &error), &error);
        check_examples(&dataset, lengths, seen);
        assert_int_equal(dataset.count, COUNT);
        int64_t longest = 0;
        for (int64_t s = 0; s < dataset.sequences; s++) {
            int64_t tokens = dataset_sequence_tokens(&dataset, s);
            assert_in_range(tokens, 2, CAPACITY);
            if (tokens > longest) longest = tokens;
            if (s == 0) continue;
            int64_t first = dataset.sequence_starts[s]; // it had no room in the sequence before
            int64_t length = dataset.starts[first + 1] - dataset.starts[first];
            assert_true(dataset_sequence_tokens(&dataset, s - 1) + length > CAPACITY);
        }
        assert_int_equal(dataset.longest, longest);
        for (int64_t e = 0; e < COUNT; e++) in_order &= dataset.ids[dataset.starts[e]] == e;
        assert_int_equal(in_order, !shuffle);
        dataset_free(&dataset);
    }
}

static void test_empty(void **state) {
    (void)state;
    Error error = {0};
    Dataset dataset = make_dataset(NULL, 0);
    check(dataset_pack(&dataset, 10, false, 1, &error), &error);
    assert_int_equal(dataset.count + dataset.sequences + dataset.longest, 0);
    dataset_free(&dataset);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
