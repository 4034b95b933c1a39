// detect.h - what a data file holds, from its content.
#pragma once
#include "base/error.h"
#include "data/records.h"

// Finds the format of a file and what its records' parts are called, from the keys of its first record; a file whose
// name says text is FORMAT_PLAIN. Errors: formats that are not read (Parquet, CSV, archives; with the line that
// converts them), an empty file, malformed JSON, keys that belong to no format.
bool data_detect(const char *path, DataFormat *format, RecordKeys *keys, Error *error);
// Refuses, by name, the formats that are not read.
bool data_check_readable(const char *path, Error *error);
// Whether the file is taken for plain text by its name (.txt, .md, .text, also with .gz).
bool data_is_plain_name(const char *path);
