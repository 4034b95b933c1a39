// source_load.c - bringing the stored values into the block store: every byte is read once, rows are shared by threads.
#include "model/source_parts.h"
#include <stddef.h>
#include <string.h>

#define PIECE_ELEMENTS   65536 // about what a thread takes at once
#define SEGMENT_ELEMENTS 4096  // floats on a thread's stack; a multiple of every block size

// Rows of one tensor on their way into a block.
typedef struct Transfer {
    const StoredTensor *stored;
    bf16 *to;     // row r lies at to + r * columns
    int64_t rows; // a vector in GGUF's head order is a column, so that its elements can change places
    int64_t columns;
    int64_t piece_rows;
    int64_t first_piece; // number of this tensor's first piece among the block's
} Transfer;

typedef struct BlockTransfer {
    Transfer transfers[BLOCK_TENSORS_MAX];
    int count;
    int64_t pieces;
} BlockTransfer;

int64_t source_gguf_row(int64_t row, int head_dim) {
    int64_t head = row / head_dim, within = row % head_dim, half = head_dim / 2;
    return head * head_dim + 2 * (within % half) + within / half;
}

static void load_row(bf16 *to, const unsigned char *from, const GgmlTypeInfo *type, int64_t columns) {
    if (type->type == GGML_BF16) {
        memcpy(to, from, (size_t)columns * sizeof *to);
        return;
    }
    float segment[SEGMENT_ELEMENTS];
    for (int64_t first = 0; first < columns; first += SEGMENT_ELEMENTS) {
        int64_t count = columns - first < SEGMENT_ELEMENTS ? columns - first : SEGMENT_ELEMENTS;
        type->read(segment, from + first / type->block * (int64_t)type->block_bytes, count / type->block);
        for (int64_t i = 0; i < count; i++) to[first + i] = bf16_from_float(segment[i]);
    }
}

static void load_piece(void *context, int64_t index, int worker) {
    (void)worker;
    const BlockTransfer *block = context;
    const Transfer *transfer = block->transfers;
    while (transfer < block->transfers + block->count - 1 && index >= transfer[1].first_piece) transfer++;
    const StoredTensor *stored = transfer->stored;
    const GgmlTypeInfo *type = stored->type;
    int64_t row_bytes = transfer->columns / type->block * (int64_t)type->block_bytes;
    int64_t first = (index - transfer->first_piece) * transfer->piece_rows, end = first + transfer->piece_rows;
    for (int64_t row = first; row < end && row < transfer->rows; row++) {
        int64_t from = stored->interleaved ? source_gguf_row(row, stored->interleaved) : row;
        load_row(transfer->to + row * transfer->columns, stored->map->data + stored->offset + from * row_bytes, type,
                 transfer->columns);
    }
}

// The padding between tensors is zero and stays so. Before the tensors are loaded, because q, k and v (gate and up)
// share a span, and what follows q is k.
static void zero_padding(bf16 *block, int64_t elements, const BlockTensor *tensors, int count) {
    for (int i = 0; i < count; i++) {
        int64_t end = tensors[i].offset + tensors[i].rows * tensors[i].columns;
        int64_t next = end + ARENA_ALIGNMENT / (int64_t)sizeof *block;
        if (next > elements) next = elements;
        memset(block + end, 0, (size_t)(next - end) * sizeof *block);
    }
}

void source_load_block(const ModelSource *source, int block, bf16 *to, ThreadPool *threads) {
    const BlockLayout *layout = &source->layout;
    BlockTensor tensors[BLOCK_TENSORS_MAX];
    BlockTransfer work = {.count = block_tensors(layout, &source->config, block, tensors)};
    for (int i = 0; i < work.count; i++) {
        const StoredTensor *stored = &source->tensors[block * BLOCK_TENSORS_MAX + i];
        bool column = tensors[i].vector && stored->interleaved;
        Transfer *transfer = &work.transfers[i];
        *transfer = (Transfer){.stored = stored,
                               .to = to + tensors[i].offset,
                               .rows = column ? tensors[i].columns : tensors[i].rows,
                               .columns = column ? 1 : tensors[i].columns,
                               .first_piece = work.pieces};
        transfer->piece_rows = (PIECE_ELEMENTS + transfer->columns - 1) / transfer->columns;
        work.pieces += (transfer->rows + transfer->piece_rows - 1) / transfer->piece_rows;
    }
    zero_padding(to, block_elements(layout, block), tensors, work.count);
    thread_pool_run(threads, work.pieces, load_piece, &work);
    for (int i = 0; i < work.count; i++) {
        const StoredTensor *stored = work.transfers[i].stored;
        file_map_forget(stored->map, stored->offset, stored->bytes);
    }
}

int64_t source_largest_block(const ModelSource *source) {
    int64_t largest = 0;
    for (int block = 0; block < block_count(&source->layout); block++) {
        int64_t elements = block_elements(&source->layout, block);
        if (elements > largest) largest = elements;
    }
    return largest;
}

bool source_same_layout(const ModelSource *a, const BlockLayout *b) {
    // all members before `layers` are 64-bit numbers: there is no padding between them
    return a->layout.layers == b->layers && !memcmp(&a->layout, b, offsetof(BlockLayout, layers));
}

bool model_source_load(ModelSource *source, BlockStore *store, ThreadPool *threads,
                       void (*progress)(void *context, int done, int total), void *context, Error *error) {
    int blocks = block_count(&source->layout);
    if (!source->tensors)
        return error_set(error, "%s: only the configuration was opened, there are no weights to load", source->path);
    if (!source_same_layout(source, &store->layout)) {
        error_set(error, "%s: its blocks have other shapes than those of the model in use", source->path);
        return error_hint(error, "it was made from another model: give that one as model_name_or_path, or name another "
                                 "output_dir");
    }
    for (int block = 0; block < blocks; block++) {
        source_load_block(source, block, store_put(store, block), threads);
        store_put_finish(store, block);
        if (progress) progress(context, block + 1, blocks);
    }
    return true;
}
