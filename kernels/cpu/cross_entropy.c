// cross_entropy.c - the loss of each row of logits, and its gradient in place of the logits.
//
// A row is read in pieces that fit the first-level cache: the largest element so far and the sum of exponentials below
// it are kept together and rescaled when the largest grows (Milakov & Gimelshein, arXiv 1805.02867), so the loss takes
// one pass over memory. Sums of pieces are added in double.
#include "kernels/cpu/vector_math.h"

#define PIECE 2048 // logits: 8 KiB

typedef struct CrossEntropy {
    CpuBackend *cpu;
    float *logits; // [count, stride]
    float *losses; // [count]
    const int32_t *labels;
    float scale;
    bool gradient;
    int64_t vocabulary, stride;
} CrossEntropy;

// The sum of exp(x - top), with the exponentials summed in lanes.
CPU_INLINE float sum_exponentials(const float *x, int64_t count, float top) {
    float terms[PIECE];
    for (int64_t j = 0; j < count; j++) terms[j] = vector_exp(x[j] - top);
    return vector_sum(terms, count);
}

// The loss of one row; with gradient the row becomes scale * (softmax - onehot), without the padding.
CPU_INLINE void loss_row_body(float *row, float *loss, int64_t vocabulary, int32_t label, float scale, bool gradient) {
    float top = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < vocabulary; i += PIECE) {
        int64_t count = vocabulary - i < PIECE ? vocabulary - i : PIECE;
        float larger = vector_max(row + i, count, top);
        if (larger > top) sum *= exp((double)top - larger);
        top = larger;
        sum += sum_exponentials(row + i, count, top);
    }
    *loss = (float)(log(sum) + ((double)top - row[label]));
    if (!gradient) return;
    float factor = (float)(scale / sum);
    for (int64_t j = 0; j < vocabulary; j++) row[j] = vector_exp(row[j] - top) * factor;
    row[label] -= scale;
}
CPU_KERNEL(loss_row, (float *row, float *loss, int64_t vocabulary, int32_t label, float scale, bool gradient),
           (row, loss, vocabulary, label, scale, gradient))

static void loss_rows(void *context, int64_t first, int64_t last, int worker) {
    const CrossEntropy *c = context;
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        float *row = c->logits + i * c->stride;
        bool ignored = c->labels[i] == LABEL_IGNORED;
        int64_t used = ignored ? 0 : c->vocabulary;
        if (ignored) {
            c->losses[i] = 0;
        } else {
            loss_row(c->cpu->instructions)(row, &c->losses[i], used, c->labels[i], c->scale, c->gradient);
        }
        if (!c->gradient) continue;
        memset(row + used, 0, (size_t)(c->stride - used) * sizeof *row);
        cpu_round(c->cpu, row, used);
    }
}

void cpu_cross_entropy(Backend *b, Activation *logits, float *losses, const int32_t *labels, float scale, bool gradient,
                       int64_t count, int64_t vocabulary, int64_t stride, Stream *stream) {
    (void)stream;
    CrossEntropy c = {cpu_backend(b), logits, losses, labels, scale, gradient, vocabulary, stride};
    cpu_for_rows(c.cpu, count, cpu_rows_per_task(vocabulary), loss_rows, &c);
}
