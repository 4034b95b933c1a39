// chunk.h - some records of one file at a time: read in order, then encoded on all threads. Inside data/ only.
#pragma once
#include "data/dataset.h"
#include "data/json_stream.h"
#include "data/plain_stream.h"

#define CHUNK_UNITS 1024
#define CHUNK_BYTES ((size_t)4 << 20) // a chunk is full after so many bytes of text

// One record, or one piece of a plain text, and what became of it.
typedef struct Unit {
    size_t start, size; // its bytes in the chunk's text
    JsonPlace place;    // of its first byte in the file
    TextPlace text;     // of a plain piece
    RecordKind kind;
    RecordResult result;
    Error *error;        // why it is not good; the unit's own, allocated when needed
    EncodedChat encoded; // the tokens; of a text, only encoded.tokens
} Unit;

// An open file of a data set.
typedef struct RecordFile {
    const DataSource *source;
    JsonStream *json;   // or
    PlainStream *plain; // the one that is not NULL
    bool started;       // a plain piece was read
} RecordFile;

typedef struct Chunk {
    const RecordEncoder *encoder;
    const DataSource *source;
    Buffer text;
    Unit *units; // [CHUNK_UNITS]
    int64_t count;
    Record *records; // [threads] one per worker
    int threads;
} Chunk;

bool record_file_open(RecordFile *file, const DataSource *source, Error *error);
void record_file_close(RecordFile *file);

bool chunk_create(Chunk *chunk, const RecordEncoder *encoder, int threads, Error *error);
void chunk_free(Chunk *chunk);
// Fills the chunk with at most `limit` next records; count is 0 at the end of the file.
bool chunk_read(Chunk *chunk, RecordFile *file, int64_t limit, Error *error);
// Encodes every unit.
void chunk_encode(Chunk *chunk, ThreadPool *pool);
