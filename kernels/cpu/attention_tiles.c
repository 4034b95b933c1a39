// attention_tiles.c - where the tiles of the sequences lie among the slots of a loop.
//
// Sequence s owns the slots from starts[s] / rows + s on. That is at least as many as it has tiles, as
// floor((a + n) / rows) - floor(a / rows) + 1 >= ceil(n / rows), so no two sequences share a slot.
#include "kernels/cpu/attention.h"

static int64_t first_slot(const AttentionShape *shape, int64_t rows, int sequence) {
    return shape->starts[sequence] / rows + sequence;
}

int64_t attention_slots(const AttentionShape *shape, int64_t rows) {
    return shape->sequences ? first_slot(shape, rows, shape->sequences) : 0;
}

bool attention_tile(const AttentionShape *shape, int64_t rows, int64_t slot, AttentionTile *tile) {
    slot = attention_slots(shape, rows) - 1 - slot;
    int low = 0, high = shape->sequences; // the sequence is in [low, high)
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (first_slot(shape, rows, middle) <= slot)
            low = middle;
        else
            high = middle;
    }
    tile->begin = shape->starts[low];
    tile->end = shape->starts[low + 1];
    tile->first = tile->begin + (slot - first_slot(shape, rows, low)) * rows;
    tile->last = tile->first + rows < tile->end ? tile->first + rows : tile->end;
    return tile->first < tile->end;
}
