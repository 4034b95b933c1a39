// word_table.h - a hash table from byte strings to ids. The strings lie in a pool of the owner's.
#pragma once
#include "base/buffer.h"
#include <stdint.h>

typedef struct WordSlot {
    uint32_t offset; // of the bytes in the pool
    uint32_t size;   // bytes
    int32_t id;      // -1 where the slot is free
} WordSlot;

// Open addressing with linear probing, at most half full. {0} is an empty table.
typedef struct WordTable {
    WordSlot *slots; // [mask + 1], NULL while empty
    size_t mask;
    size_t count;
    size_t longest; // bytes of the longest string
} WordTable;

void word_table_free(WordTable *table);
// Adds pool[offset .. offset + size), which must not be in the table yet.
bool word_table_add(WordTable *table, const Buffer *pool, uint32_t offset, uint32_t size, int32_t id, Error *error);
int32_t word_table_find(const WordTable *table, const Buffer *pool, const char *bytes, size_t size); // -1 if not there
