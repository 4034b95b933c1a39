// dataset_info.h - LLaMA-Factory's dataset_info.json: names for data files and for the keys of their records.
#pragma once
#include "base/error.h"
#include "data/records.h"

// One entry. Strings are borrowed from it.
typedef struct DatasetInfo {
    const char *file_name; // relative to the folder of dataset_info.json
    DataFormat formatting; // FORMAT_AUTO: the entry says nothing, the file's content decides
    RecordKeys keys;       // with formatting
    int64_t num_samples;   // the first so many records; 0: all
} DatasetInfo;

// Reads one entry. where: "path: name", for errors.
// Errors: an entry without a local file (hub, script), preference data, wrong types, an unknown formatting.
bool dataset_info_read(const json_t *entry, const char *where, DatasetInfo *info, Error *error);
