// loaded_model.c - see loaded_model.h.
#include "tests/loaded_model.h"
#include "base/files.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>

void loaded_model_open(LoadedModel *model, const char *path) {
    Error error = {0};
    *model = (LoadedModel){.backend = backend_cpu_create(2, false, &error)};
    check(model->backend != NULL, &error);
    model->source = model_source_open(path, false, &error);
    check(model->source != NULL, &error);
    model->config = model_source_config(model->source);
    check(block_layout(&model->layout, model->config, &error), &error);
    int64_t elements = 0;
    for (int block = 0; block < block_count(&model->layout); block++) elements += block_elements(&model->layout, block);
    size_t bytes = (size_t)elements * sizeof(bf16);
    check(arena_create(&model->arena, model->backend, MEMORY_DEVICE, bytes, "the test", &error), &error);
    memset(model->arena.memory, 0xa5, bytes); // the loader must set every byte
    check(store_create(&model->store, model->backend, &model->layout, NULL, &model->arena, NULL, NULL, &error), &error);
    check(model_source_load(model->source, &model->store, model->backend->threads, NULL, NULL, &error), &error);
}

void loaded_model_close(LoadedModel *model) {
    store_free(&model->store);
    arena_free(&model->arena);
    model_source_close(model->source);
    model->backend->destroy(model->backend);
}

void loaded_model_equal(LoadedModel *a, LoadedModel *b) {
    assert_int_equal(block_count(&a->layout), block_count(&b->layout));
    for (int block = 0; block < block_count(&a->layout); block++) {
        int64_t elements = block_elements(&a->layout, block);
        assert_int_equal(elements, block_elements(&b->layout, block));
        const bf16 *x = store_get(&a->store, block), *y = store_get(&b->store, block);
        for (int64_t i = 0; i < elements; i++)
            if (x[i] != y[i]) fail_msg("block %d differs at element %lld: %04x, %04x", block, (long long)i, x[i], y[i]);
    }
}

void copy_file(const char *path, const char *folder, const char *name, int64_t size) {
    Error error = {0};
    char *bytes;
    size_t all;
    check(file_read(path, (size_t)1 << 30, &bytes, &all, &error), &error);
    free(write_file(folder, name, bytes, size >= 0 ? (size_t)size : all));
    free(bytes);
}
