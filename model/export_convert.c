// export_convert.c - one tensor from its file into a GGUF file: rows are read, put in order and quantised by threads,
// a chunk of some MiB at a time.
#include "model/export_parts.h"
#include <math.h>
#include <stdlib.h>

#define CHUNK_BYTES      ((size_t)16 << 20) // written at once
#define PIECE_ELEMENTS   65536              // about what a thread takes at once
#define SEGMENT_ELEMENTS 4096               // floats on a thread's stack; a multiple of every block size

#define F16_MAX 65504.0f

// Some rows of a tensor on their way.
typedef struct Chunk {
    const ExportTensor *tensor;
    int64_t rows, columns; // of the tensor; a vector whose elements change places is a column
    int64_t first, end;    // rows of the chunk
    int64_t piece_rows;
    float most;         // |value| that the type holds
    unsigned char *out; // the chunk's bytes
    size_t row_bytes;   // of out
    bool *bad;          // [threads] a value was no finite number, or larger
} Chunk;

// Row 2 j + t of a head in a GGUF file is row t D/2 + j of Hugging Face's.
static int64_t hugging_face_row(int64_t row, int head_dim) {
    int64_t head = row / head_dim, within = row % head_dim, half = head_dim / 2;
    return head * head_dim + within % 2 * half + within / 2;
}

static void convert_row(const Chunk *chunk, int64_t row, unsigned char *out, bool *bad) {
    const ExportTensor *tensor = chunk->tensor;
    const GgmlTypeInfo *from = tensor->from.type, *to = tensor->type;
    int64_t place = tensor->order ? hugging_face_row(row, tensor->order) : row;
    const unsigned char *bytes = tensor->from.map->data + tensor->from.offset +
                                 (size_t)(place * (chunk->columns / from->block)) * from->block_bytes;
    if (from->type == to->type) {
        memcpy(out, bytes, chunk->row_bytes);
        return;
    }
    float segment[SEGMENT_ELEMENTS];
    for (int64_t first = 0; first < chunk->columns; first += SEGMENT_ELEMENTS) {
        int64_t count = chunk->columns - first < SEGMENT_ELEMENTS ? chunk->columns - first : SEGMENT_ELEMENTS;
        from->read(segment, bytes + (size_t)(first / from->block) * from->block_bytes, count / from->block);
        for (int64_t i = 0; i < count; i++)
            if (!(fabsf(segment[i]) <= chunk->most)) *bad = true;
        ggml_quantise(to->type, out + (size_t)(first / to->block) * to->block_bytes, segment, count / to->block);
    }
}

static void convert_piece(void *context, int64_t index, int worker) {
    const Chunk *chunk = context;
    int64_t first = chunk->first + index * chunk->piece_rows, end = first + chunk->piece_rows;
    for (int64_t row = first; row < end && row < chunk->end; row++)
        convert_row(chunk, row, chunk->out + (size_t)(row - chunk->first) * chunk->row_bytes, &chunk->bad[worker]);
}

static bool hand_on(ExportStream *stream, const void *bytes, size_t size, Error *error) {
    if (!gguf_write(stream->writer, bytes, size, error)) return false;
    stream->done += size;
    if (stream->progress) stream->progress(stream->context, stream->done, stream->total);
    return true;
}

// The bytes of the file, or of values, as they are.
static bool copy_bytes(ExportStream *stream, const unsigned char *bytes, size_t size, Error *error) {
    for (size_t done = 0; done < size;) {
        size_t part = size - done < CHUNK_BYTES ? size - done : CHUNK_BYTES;
        if (!hand_on(stream, bytes + done, part, error)) return false;
        done += part;
    }
    return true;
}

static bool not_representable(const ExportTensor *tensor, Error *error) {
    error_set(error, "tensor \"%s\" holds a value that %s cannot hold: it is no finite number, or larger than %g",
              tensor->name, tensor->type->name, (double)F16_MAX);
    return error_hint(error, "try --outtype bf16; a weight that is no finite number comes of damage or of a training "
                             "run that diverged");
}

static bool convert_chunks(ExportStream *stream, Chunk *chunk, int64_t chunk_rows, Error *error) {
    int threads = thread_pool_size(stream->threads);
    for (chunk->first = 0; chunk->first < chunk->rows; chunk->first = chunk->end) {
        chunk->end = chunk->rows - chunk->first < chunk_rows ? chunk->rows : chunk->first + chunk_rows;
        int64_t pieces = (chunk->end - chunk->first + chunk->piece_rows - 1) / chunk->piece_rows;
        thread_pool_run(stream->threads, pieces, convert_piece, chunk);
        for (int i = 0; i < threads; i++)
            if (chunk->bad[i]) return not_representable(chunk->tensor, error);
        if (!hand_on(stream, chunk->out, (size_t)(chunk->end - chunk->first) * chunk->row_bytes, error)) return false;
    }
    return true;
}

bool export_convert(ExportStream *stream, const ExportTensor *tensor, Error *error) {
    const StoredTensor *from = &tensor->from;
    if (tensor->values)
        return copy_bytes(stream, (const unsigned char *)(const void *)tensor->values,
                          (size_t)tensor->columns * sizeof *tensor->values, error);
    bool ok, column = tensor->order && tensor->rows == 1, plain = tensor->type->block == 1;
    if (tensor->copied) {
        ok = copy_bytes(stream, from->map->data + from->offset, from->bytes, error);
    } else {
        Chunk chunk = {.tensor = tensor,
                       .rows = column ? tensor->columns : tensor->rows,
                       .columns = column ? 1 : tensor->columns,
                       .most = plain && tensor->type->type != GGML_F16 ? INFINITY : F16_MAX};
        chunk.row_bytes = (size_t)(chunk.columns / tensor->type->block) * tensor->type->block_bytes;
        chunk.piece_rows = (PIECE_ELEMENTS + chunk.columns - 1) / chunk.columns;
        int64_t chunk_rows = (int64_t)(CHUNK_BYTES / chunk.row_bytes) + 1;
        if (chunk_rows > chunk.rows) chunk_rows = chunk.rows;
        chunk.out = malloc((size_t)chunk_rows * chunk.row_bytes);
        chunk.bad = calloc((size_t)thread_pool_size(stream->threads), sizeof *chunk.bad);
        ok = (chunk.out && chunk.bad && convert_chunks(stream, &chunk, chunk_rows, error)) ||
             ((!chunk.out || !chunk.bad) && error_memory(error, tensor->name, (size_t)chunk_rows * chunk.row_bytes));
        free(chunk.out);
        free(chunk.bad);
    }
    file_map_forget(from->map, from->offset, from->bytes);
    return ok;
}
