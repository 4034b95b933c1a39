// export_weights.c - a model's own files as the source of a save, one block in memory.
#include "model/export_parts.h"
#include <stdlib.h>

bool source_reader_open(SourceReader *reader, Error *error) {
    const ModelSource *source = reader->source;
    size_t bytes = (size_t)source_largest_block(source) * sizeof *reader->block;
    for (int block = 0; block < block_count(&source->layout); block++)
        reader->total += (uint64_t)block_elements(&source->layout, block) * sizeof *reader->block;
    reader->block = malloc(bytes);
    return reader->block || error_memory(error, "a block of weights", bytes);
}

void source_reader_free(SourceReader *reader) {
    free(reader->block);
    reader->block = NULL;
}

// Puts the delta's tensors in the place of the source's; delta_open has checked their sizes.
static void overlay(const SourceReader *reader, int block) {
    BlockTensor tensors[BLOCK_TENSORS_MAX];
    int count = block_tensors(&reader->source->layout, &reader->source->config, block, tensors);
    for (int i = 0; i < count; i++) {
        const SafetensorsTensor *tensor = safetensors_find(reader->delta, tensors[i].name);
        if (!tensor) continue;
        memcpy(reader->block + tensors[i].offset, safetensors_data(reader->delta, tensor), tensor->bytes);
        file_map_forget(&reader->delta->map, tensor->offset, tensor->bytes);
    }
}

static const bf16 *read_block(void *context, int block, Error *error) {
    SourceReader *reader = context;
    (void)error;
    source_load_block(reader->source, block, reader->block, reader->threads);
    if (reader->delta) overlay(reader, block);
    reader->bytes += (uint64_t)block_elements(&reader->source->layout, block) * sizeof *reader->block;
    if (reader->bytes > reader->total) reader->bytes = reader->total; // a block was needed twice
    if (reader->progress) reader->progress(reader->context, reader->bytes, reader->total);
    return reader->block;
}

WeightReader source_reader(SourceReader *reader) {
    return (WeightReader){read_block, reader};
}
