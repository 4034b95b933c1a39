// golden.c - see golden.h.
#include "tests/golden.h"
#include "kernels/kernels.h"
#include "tests/support.h"
#include <stdio.h>
#include <stdlib.h>

#define GOLDEN_JSON_MAX (1 << 20) // bytes

char *golden_path(const char *folder, const char *name) {
    char path[512];
    assert_in_range(snprintf(path, sizeof path, "tests/golden/%s/%s", folder, name), 1, sizeof path - 1);
    char *copy = strdup(path);
    assert_non_null(copy);
    return copy;
}

json_t *golden_json(const char *path) {
    Error error = {0};
    json_t *value = json_read_file(path, GOLDEN_JSON_MAX, &error);
    check(value != NULL, &error);
    return value;
}

double golden_number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) fail_msg("the stored results lack the number \"%s\"", key);
    return json_number_value(value);
}

const char *golden_string(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) fail_msg("the stored results lack the text \"%s\"", key);
    return json_string_value(value);
}

const json_t *golden_array(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_array(value)) fail_msg("the stored results lack the array \"%s\"", key);
    return value;
}

static void *zeroed(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    assert_non_null(memory);
    return memory;
}

void golden_dataset(Dataset *dataset, const json_t *object) {
    const json_t *sequences = golden_array(object, "sequences"), *labels = golden_array(object, "labels");
    size_t count = json_array_size(sequences), tokens = 0;
    assert_int_equal(json_array_size(labels), count);
    for (size_t s = 0; s < count; s++) tokens += json_array_size(json_array_get(sequences, s));
    *dataset = (Dataset){.count = (int64_t)count, .sequences = (int64_t)count};
    dataset->starts = zeroed(count + 1, sizeof *dataset->starts);
    dataset->sequence_starts = zeroed(count + 1, sizeof *dataset->sequence_starts);
    dataset->ids = zeroed(tokens, sizeof *dataset->ids);
    dataset->trained = zeroed(tokens, sizeof *dataset->trained);
    int64_t place = 0;
    for (size_t s = 0; s < count; s++) {
        const json_t *ids = json_array_get(sequences, s), *targets = json_array_get(labels, s);
        int64_t length = (int64_t)json_array_size(ids);
        assert_int_equal(json_array_size(targets), length);
        for (int64_t t = 0; t < length; t++, place++) {
            json_int_t id = json_integer_value(json_array_get(ids, (size_t)t));
            json_int_t label = json_integer_value(json_array_get(targets, (size_t)t));
            assert_true(label == id || label == LABEL_IGNORED);
            dataset->ids[place] = (int32_t)id;
            dataset->trained[place] = label != LABEL_IGNORED;
            if (t > 0 && label != LABEL_IGNORED) dataset->targets++;
        }
        dataset->starts[s + 1] = place;
        dataset->sequence_starts[s + 1] = (int64_t)s + 1;
        if (length > dataset->longest) dataset->longest = length;
    }
}

float *golden_tensor(const SafetensorsFile *file, const char *name, int64_t count) {
    const SafetensorsTensor *tensor = safetensors_find(file, name);
    if (!tensor) fail_msg("%s lacks the tensor %s", file->where, name);
    assert_int_equal(tensor->type, SAFETENSORS_F32);
    assert_int_equal(tensor->bytes, (size_t)count * sizeof(float));
    float *values = zeroed((size_t)count, sizeof *values);
    memcpy(values, safetensors_data(file, tensor), tensor->bytes);
    return values;
}
