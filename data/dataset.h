// dataset.h - from the files of a data set to its tokens, on all threads.
#pragma once
#include "base/threads.h"
#include "data/batch.h"
#include "data/sources.h"

#define BAD_RECORDS_SHOWN 20

// What turns a record's words into tokens. Both functions are called from many threads at once.
typedef struct RecordEncoder {
    const void *context;
    // A conversation or prompt with completion. RECORD_BAD when nothing of it can be trained.
    RecordResult (*encode)(const void *context, const Record *record, EncodedChat *encoded, Error *error);
    // Appends the ids of a part of a text.
    bool (*encode_text)(const void *context, const char *text, size_t size, TextPlace place, TokenList *ids,
                        Error *error);
    int32_t text_bos, text_eos; // what texts start and end with; -1: nothing
} RecordEncoder;

// What was read.
typedef struct RecordCounts {
    int64_t records; // bad ones included
    int64_t bad;
    int64_t tokens; // of the good ones
} RecordCounts;

// Called on the calling thread now and then; what is known so far.
typedef void LoadProgress(void *context, const RecordCounts *counts);

typedef struct LoadRequest {
    const DataSources *sources;
    const DataSettings *settings;
    bool share_blocks; // texts share blocks
    const RecordEncoder *encoder;
    ThreadPool *pool;
    LoadProgress *progress; // may be NULL
    void *progress_context;
} LoadRequest;

// Reads, checks and tokenises every record, in the order of the files. Texts become blocks of cutoff_len tokens. The
// first BAD_RECORDS_SHOWN bad records are shown as warnings with file, line and reason; all files are read to count
// them, then they are an error unless skip_bad_records is set.
// Errors: also malformed JSON, an unreadable file, no usable record at all.
bool dataset_load(const LoadRequest *request, Dataset *dataset, RecordCounts *counts, Error *error);
