// sources.h - the files of a data set: names, paths and globs resolved, formats known, nothing read yet.
#pragma once
#include "data/records.h"

typedef struct DataSource {
    char *path;
    DataFormat format; // never FORMAT_AUTO
    RecordKeys keys;
    int entry;     // files of one entry of the list share its number
    int64_t limit; // records taken of its entry at most; 0: all
} DataSource;

typedef struct DataSources {
    DataSource *items; // [count], at least one, in the order given; files of a glob sorted by name
    int64_t count;
    json_t *info; // dataset_info.json, which the keys borrow from; NULL when there is none
} DataSources;

// Resolves `names` (settings->dataset or eval_dataset): entries separated by commas, each a name in dataset_info.json,
// a file or folder, or a glob, relative to where we are or to settings->dataset_dir. Errors: an entry that is none of
// these, and those of dataset_info.h and detect.h.
bool data_sources_open(DataSources *sources, const char *names, const DataSettings *settings, Error *error);
void data_sources_free(DataSources *sources);
// Whether every file holds texts (FORMAT_PLAIN, FORMAT_TEXT); whether one holds conversations; or one is of a format.
bool data_sources_are_texts(const DataSources *sources);
bool data_sources_have_chats(const DataSources *sources);
bool data_sources_have(const DataSources *sources, DataFormat format);
