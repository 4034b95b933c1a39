// fuzz_safetensors.c - the safetensors reader on any bytes: opening, then reading all that it vouched for.
#include "base/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Error error;
    SafetensorsFile file;
    if (!safetensors_parse(&file, data, size, "fuzz", &error)) return 0;
    for (size_t i = 0; i < file.count; i++) safetensors_crc32(&file, &file.tensors[i]);
    safetensors_close(&file);
    return 0;
}
