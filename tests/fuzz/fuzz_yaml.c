// fuzz_yaml.c - options from any bytes as a YAML file.
#include "cli/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Error error;
    Options options;
    if (!options_defaults(&options, &error)) return 0;
    options_parse_yaml(&options, COMMAND_TRAIN, (const char *)data, size, "fuzz", &error);
    options_free(&options);
    return 0;
}
