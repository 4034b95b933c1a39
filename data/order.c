// order.c - see order.h.
#include "data/order.h"
#include "base/random.h"

void epoch_order(int64_t *order, int64_t sequences, uint64_t seed, int64_t epoch, bool shuffle) {
    if (shuffle) {
        random_permutation(random_key(seed, RANDOM_SHUFFLE, (uint64_t)epoch, 0), order, sequences);
        return;
    }
    for (int64_t i = 0; i < sequences; i++) order[i] = i;
}

int64_t steps_per_epoch(int64_t sequences, int64_t batch_size) {
    return sequences / batch_size + (sequences % batch_size != 0);
}

StepPlace step_place(int64_t step, int64_t sequences, int64_t batch_size) {
    int64_t steps = steps_per_epoch(sequences, batch_size);
    int64_t first = step % steps * batch_size, left = sequences - first;
    return (StepPlace){step / steps, first, left < batch_size ? left : batch_size};
}
