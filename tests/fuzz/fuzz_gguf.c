// fuzz_gguf.c - the GGUF reader on any bytes: opening, then touching all that it vouched for.
#include "base/gguf.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Error error;
    GgufFile file;
    if (!gguf_parse(&file, data, size, "fuzz", &error)) return 0;
    for (size_t i = 0; i < file.value_count; i++) {
        const GgufValue *value = &file.values[i];
        size_t position = 0;
        for (uint64_t k = 0; k < value->count; k++) {
            if (value->type == GGUF_STRING)
                gguf_array_next(value, &position);
            else
                gguf_array_number(value, k);
        }
    }
    float *row = malloc(256 * sizeof *row);
    for (size_t i = 0; row && i < file.tensor_count; i++) {
        const GgufTensor *tensor = &file.tensors[i];
        const unsigned char *block = file.map.data + tensor->offset;
        for (size_t k = 0; k < tensor->bytes; k += tensor->type->block_bytes) tensor->type->read(row, block + k, 1);
    }
    free(row);
    gguf_close(&file);
    return 0;
}
