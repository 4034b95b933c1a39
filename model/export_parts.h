// export_parts.h - what the files of the GGUF export share.
#pragma once
#include "model/export.h"
#include "model/source_parts.h"

// One tensor of the file to write.
typedef struct ExportTensor {
    StoredTensor from;        // where its values are read
    const GgmlTypeInfo *type; // what they become
    int64_t rows, columns;    // a vector has one row
    int order;                // > 0: rows of heads of this size, to be brought to GGUF's order
    bool copied;              // the bytes are taken as they are
    const float *values;      // values that stand in no file (rope factors); NULL otherwise
    char name[GGUF_NAME_MAX + 1];
} ExportTensor;

// Where the conversion has got to.
typedef struct ExportStream {
    GgufWriter *writer;
    ThreadPool *threads;
    ExportProgress *progress;
    void *context;
    uint64_t done, total; // bytes written
} ExportStream;

// Converts one tensor and writes it.
bool export_convert(ExportStream *stream, const ExportTensor *tensor, Error *error);

// CRC-32 of a block's weights, tensor after tensor.
uint32_t export_block_checksum(const ModelSource *source, int block, const bf16 *weights);
