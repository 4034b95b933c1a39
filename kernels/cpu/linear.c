// linear.c - the three matrix products of a linear layer, over OpenBLAS' sgemm, and their bf16 weights.
//
// A product is cut into tiles of the output; a thread takes a tile, widens the piece of the weight it needs to float
// in its own panel and calls the single-threaded sgemm. The cut depends on the shape alone. A tile sums over the whole
// inner extent itself, in ascending order, so tokens in the same place of equally long calls get equal bits.
// A few tokens (generation) are bound by reading the weight, not by arithmetic: they take bf16 rows as they are.
#include "kernels/cpu/vector_math.h"
#include <cblas.h>

#define TILE_ROWS    512       // rows of the output in a tile: widening a weight costs 1 / (2 x this) of the product
#define TILE_COLUMNS 1536      // columns of the output in a tile: sgemm packs the rows' operand anew for each
#define TILE_DEPTH   288       // inner extent that is widened at once
#define TILE_MINIMUM 64        // a tile is not cut below this
#define TILES_WANTED 8         // fewer leave threads idle at the end; more, and smaller ones, make sgemm pack more
#define TILES_SMALL  4         // the same for a small output, where packing weighs more
#define SMALL_OUTPUT (1 << 20) // elements
#define FEW_TOKENS   8         // up to here the weight is not widened to a panel
#define ROWS_TASK    64        // weight rows of a task when there are few tokens

_Static_assert(TILE_COLUMNS *TILE_DEPTH <= PANEL_FLOATS, "a tile's weights fill at most the panel");

// One of the three products; only the pointers that it uses are set.
typedef struct Linear {
    CpuBackend *cpu;
    float *out;           // [rows, columns] of the product
    const float *left;    // x or dout
    const float *right;   // x, for the weight gradient
    const bf16 *weight;   // [n, k]
    const bf16 *bias;     // [n] or NULL
    const float *add;     // [T, n] or NULL
    float *bias_gradient; // [n] or NULL
    int64_t tokens, n, k;
    int64_t stride;                  // of the rows of out (forward) or dout (backward), and of add
    int64_t tile_rows, tile_columns; // of the output
    int64_t column_tiles;
} Linear;

typedef struct Tile {
    int64_t row, rows, column, columns;
} Tile;

// Splits an extent into equal parts of at most `most`, each a multiple of 16 (sgemm's register tile) but the last.
static int64_t even_part(int64_t extent, int64_t most) {
    int64_t parts = (extent + most - 1) / most;
    return round_up((extent + parts - 1) / parts, 16);
}

// Chooses the tile of a [rows, columns] output and returns the number of tiles.
static int64_t cut_tiles(Linear *l, int64_t rows, int64_t columns) {
    int64_t height = TILE_ROWS, width = TILE_COLUMNS;
    int64_t wanted = rows * columns < SMALL_OUTPUT ? TILES_SMALL : TILES_WANTED;
    for (;;) {
        l->tile_rows = even_part(rows, height);
        l->tile_columns = even_part(columns, width);
        l->column_tiles = (columns + l->tile_columns - 1) / l->tile_columns;
        int64_t tiles = (rows + l->tile_rows - 1) / l->tile_rows * l->column_tiles;
        bool smallest = l->tile_rows < 2 * TILE_MINIMUM && l->tile_columns < 2 * TILE_MINIMUM;
        if (tiles >= wanted || smallest) return tiles;
        if (2 * l->tile_rows > l->tile_columns) {
            height = l->tile_rows / 2;
        } else {
            width = l->tile_columns / 2;
        }
    }
}

static Tile tile_at(const Linear *l, int64_t index, int64_t rows, int64_t columns) {
    Tile tile = {.row = index / l->column_tiles * l->tile_rows, .column = index % l->column_tiles * l->tile_columns};
    tile.rows = rows - tile.row < l->tile_rows ? rows - tile.row : l->tile_rows;
    tile.columns = columns - tile.column < l->tile_columns ? columns - tile.column : l->tile_columns;
    return tile;
}

CPU_INLINE void widen_panel_body(float *panel, const bf16 *weight, int64_t rows, int64_t columns, int64_t stride) {
    for (int64_t r = 0; r < rows; r++) vector_widen(panel + r * columns, weight + r * stride, columns);
}
CPU_KERNEL(widen_panel, (float *panel, const bf16 *weight, int64_t rows, int64_t columns, int64_t stride),
           (panel, weight, rows, columns, stride))

// Adds the bias and rounds: what CUDA does in the epilogue of its product.
static void finish_rows(const Linear *l, Tile tile, int64_t stride) {
    for (int64_t t = tile.row; t < tile.row + tile.rows; t++) {
        float *row = l->out + t * stride + tile.column;
        for (int64_t j = 0; l->bias && j < tile.columns; j++) row[j] += bf16_to_float(l->bias[tile.column + j]);
        cpu_round(l->cpu, row, tile.columns);
    }
}

// ---- forward -----------------------------------------------------------------------------------------------------

static void forward_tile(void *context, int64_t index, int worker) {
    const Linear *l = context;
    Tile tile = tile_at(l, index, l->tokens, l->n);
    float *out = l->out + tile.row * l->stride + tile.column;
    if (l->add && l->add != l->out) {
        const float *add = l->add + tile.row * l->stride + tile.column;
        for (int64_t t = 0; t < tile.rows; t++)
            memcpy(out + t * l->stride, add + t * l->stride, (size_t)tile.columns * sizeof *out);
    }
    float *panel = l->cpu->panels + (int64_t)worker * PANEL_FLOATS;
    int64_t depth = even_part(l->k, TILE_DEPTH);
    for (int64_t i = 0; i < l->k; i += depth) {
        if (depth > l->k - i) depth = l->k - i;
        widen_panel(l->cpu->instructions)(panel, l->weight + tile.column * l->k + i, tile.columns, depth, l->k);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tile.rows, (int)tile.columns, (int)depth, 1.0f,
                    l->left + tile.row * l->k + i, (int)l->k, panel, (int)depth, i || l->add ? 1.0f : 0.0f, out,
                    (int)l->stride);
    }
    finish_rows(l, tile, l->stride);
}

// Weight rows first .. last - 1 against every one of a few tokens. A row stays in the first-level cache for them all.
CPU_INLINE void few_tokens_body(const Linear *l, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
        const bf16 *weight = l->weight + r * l->k;
        float bias = l->bias ? bf16_to_float(l->bias[r]) : 0.0f;
        for (int64_t t = 0; t < l->tokens; t++) {
            float add = l->add ? l->add[t * l->stride + r] : 0.0f;
            l->out[t * l->stride + r] = vector_dot_bf16(l->left + t * l->k, weight, l->k) + add + bias;
        }
    }
}
CPU_KERNEL(few_tokens, (const Linear *l, int64_t first, int64_t last), (l, first, last))

static void few_tokens_rows(void *context, int64_t first, int64_t last, int worker) {
    const Linear *l = context;
    (void)worker;
    few_tokens(l->cpu->instructions)(l, first, last);
    for (int64_t t = 0; t < l->tokens; t++) cpu_round(l->cpu, l->out + t * l->stride + first, last - first);
}

void cpu_linear_forward(Backend *b, Activation *out, const Activation *x, const bf16 *weight, const bf16 *bias,
                        const Activation *add, int64_t tokens, int64_t n, int64_t k, int64_t stride, Stream *stream) {
    (void)stream;
    if (tokens <= 0) return;
    Linear l = {.cpu = cpu_backend(b), .out = out, .left = x, .weight = weight, .bias = bias, .add = add};
    l.tokens = tokens, l.n = n, l.k = k, l.stride = stride;
    if (tokens <= FEW_TOKENS) {
        cpu_for_rows(l.cpu, n, ROWS_TASK, few_tokens_rows, &l);
        return;
    }
    int64_t tiles = cut_tiles(&l, tokens, n);
    thread_pool_run(b->threads, tiles, forward_tile, &l);
}

// ---- backward ----------------------------------------------------------------------------------------------------

static void backward_input_tile(void *context, int64_t index, int worker) {
    const Linear *l = context;
    Tile tile = tile_at(l, index, l->tokens, l->k);
    float *out = l->out + tile.row * l->k + tile.column;
    float *panel = l->cpu->panels + (int64_t)worker * PANEL_FLOATS;
    int64_t depth = even_part(l->n, TILE_DEPTH);
    for (int64_t i = 0; i < l->n; i += depth) {
        if (depth > l->n - i) depth = l->n - i;
        widen_panel(l->cpu->instructions)(panel, l->weight + i * l->k + tile.column, depth, tile.columns, l->k);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)tile.rows, (int)tile.columns, (int)depth, 1.0f,
                    l->left + tile.row * l->stride + i, (int)l->stride, panel, (int)tile.columns, i ? 1.0f : 0.0f, out,
                    (int)l->k);
    }
    finish_rows(l, tile, l->k);
}

void cpu_linear_backward_input(Backend *b, Activation *dx, const Activation *dout, const bf16 *weight, int64_t tokens,
                               int64_t n, int64_t k, int64_t stride, Stream *stream) {
    (void)stream;
    if (tokens <= 0) return;
    Linear l = {.cpu = cpu_backend(b), .out = dx, .left = dout, .weight = weight};
    l.tokens = tokens, l.n = n, l.k = k, l.stride = stride;
    int64_t tiles = cut_tiles(&l, tokens, k);
    thread_pool_run(b->threads, tiles, backward_input_tile, &l);
}

static void backward_weight_tile(void *context, int64_t index, int worker) {
    const Linear *l = context;
    (void)worker;
    Tile tile = tile_at(l, index, l->n, l->k);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)tile.rows, (int)tile.columns, (int)l->tokens, 1.0f,
                l->left + tile.row, (int)l->stride, l->right + tile.column, (int)l->k, 1.0f,
                l->out + tile.row * l->k + tile.column, (int)l->k);
}

// The column sums of dout, in double: thousands of terms of both signs.
static void bias_columns(void *context, int64_t first, int64_t last, int worker) {
    const Linear *l = context;
    (void)worker;
    double sums[ROWS_TASK] = {0};
    for (int64_t t = 0; t < l->tokens; t++) {
        for (int64_t j = first; j < last; j++) sums[j - first] += l->left[t * l->stride + j];
    }
    for (int64_t j = first; j < last; j++) l->bias_gradient[j] += (float)sums[j - first];
}

void cpu_linear_backward_weight(Backend *b, float *gradient, float *bias_gradient, const Activation *dout,
                                const Activation *x, int64_t tokens, int64_t n, int64_t k, int64_t stride,
                                Stream *stream) {
    (void)stream;
    if (tokens <= 0) return;
    Linear l = {.cpu = cpu_backend(b), .out = gradient, .left = dout, .right = x, .bias_gradient = bias_gradient};
    l.tokens = tokens, l.n = n, l.k = k, l.stride = stride;
    int64_t tiles = cut_tiles(&l, n, k);
    thread_pool_run(b->threads, tiles, backward_weight_tile, &l);
    if (bias_gradient) cpu_for_rows(l.cpu, n, ROWS_TASK, bias_columns, &l);
}
