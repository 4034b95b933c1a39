// tiny_folder.c - see tiny_folder.h.
#include "tests/tiny_folder.h"
#include "base/buffer.h"
#include "base/files.h"
#include "model/save.h"
#include "tests/loaded_model.h"
#include "tests/support.h"
#include <stdlib.h>

static const char config[] = "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], "
                             "\"vocab_size\": 1000, \"hidden_size\": 32, \"intermediate_size\": 48, "
                             "\"num_hidden_layers\": 4, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
                             "\"max_position_embeddings\": 4096, \"tie_word_embeddings\": true}";

char *tiny_model_folder(const char *folder) {
    Error error = {0};
    char *model = path_join(folder, "model");
    check(directory_create(model, &error), &error);
    free(write_text(model, "config.json", config));
    copy_file("tests/golden/templates/bpe/tokenizer.json", model, "tokenizer.json", -1);
    copy_file("tests/golden/templates/bpe/tokenizer_config.json", model, "tokenizer_config.json", -1);

    ModelSource *source = model_source_open(model, true, &error);
    check(source != NULL, &error);
    Backend *backend = backend_cpu_create(1, false, &error);
    check(backend != NULL, &error);
    BlockLayout layout;
    BlockStore store;
    Arena arena;
    check(block_layout(&layout, model_source_config(source), &error), &error);
    arena_measure(&arena, MEMORY_DEVICE);
    check(store_create(&store, backend, &layout, NULL, &arena, NULL, NULL, &error), &error);
    store_free(&store);
    size_t bytes = arena.peak;
    check(arena_create(&arena, backend, MEMORY_DEVICE, bytes, "the test", &error), &error);
    check(store_create(&store, backend, &layout, NULL, &arena, NULL, NULL, &error), &error);
    check(model_random_weights(model_source_config(source), &store, 1, &error), &error);
    SaveOptions options = {0};
    check(model_save(source, &store, &options, model, &error), &error);
    store_free(&store);
    arena_free(&arena);
    backend->destroy(backend);
    model_source_close(source);
    return model;
}

char *tiny_data_file(const char *folder, int records) {
    Error error = {0};
    Buffer text = BUFFER_EMPTY;
    for (int i = 0; i < records; i++)
        check(buffer_format(&text, &error,
                            "{\"instruction\": \"count to %d\", \"input\": \"\", \"output\": \"%d is what you get\"}\n",
                            i, i * i),
              &error);
    char *path = write_text(folder, "data.jsonl", buffer_string(&text));
    buffer_free(&text);
    return path;
}
