// word_table.c - see word_table.h.
#include "tokenizer/word_table.h"
#include <stdlib.h>
#include <string.h>

// Multiply and fold of eight bytes at a time.
static size_t hash_bytes(const char *bytes, size_t size) {
    uint64_t hash = size * UINT64_C(0x9e3779b97f4a7c15);
    while (size > 0) {
        uint64_t part = 0;
        size_t take = size < 8 ? size : 8;
        memcpy(&part, bytes, take);
        hash = (hash ^ part) * UINT64_C(0xd6e8feb86659fd93);
        hash ^= hash >> 32;
        bytes += take;
        size -= take;
    }
    return (size_t)hash;
}

void word_table_free(WordTable *table) {
    free(table->slots);
    *table = (WordTable){0};
}

static void insert(WordSlot *slots, size_t mask, const Buffer *pool, WordSlot entry) {
    size_t slot = hash_bytes(pool->data + entry.offset, entry.size) & mask;
    while (slots[slot].id >= 0) slot = (slot + 1) & mask;
    slots[slot] = entry;
}

static bool grow(WordTable *table, const Buffer *pool, Error *error) {
    size_t capacity = table->slots ? 2 * (table->mask + 1) : 1024;
    WordSlot *slots = malloc(capacity * sizeof *slots);
    if (!slots) return error_memory(error, "vocabulary table", capacity * sizeof *slots);
    for (size_t i = 0; i < capacity; i++) slots[i] = (WordSlot){0, 0, -1};
    for (size_t i = 0; table->slots && i <= table->mask; i++) {
        if (table->slots[i].id >= 0) insert(slots, capacity - 1, pool, table->slots[i]);
    }
    free(table->slots);
    table->slots = slots;
    table->mask = capacity - 1;
    return true;
}

bool word_table_add(WordTable *table, const Buffer *pool, uint32_t offset, uint32_t size, int32_t id, Error *error) {
    if ((!table->slots || 2 * table->count > table->mask) && !grow(table, pool, error)) return false;
    insert(table->slots, table->mask, pool, (WordSlot){offset, size, id});
    table->count++;
    if (size > table->longest) table->longest = size;
    return true;
}

int32_t word_table_find(const WordTable *table, const Buffer *pool, const char *bytes, size_t size) {
    if (!table->slots || size > table->longest) return -1;
    for (size_t slot = hash_bytes(bytes, size);; slot++) {
        const WordSlot *entry = &table->slots[slot & table->mask];
        if (entry->id < 0) return -1;
        if (entry->size == size && !memcmp(pool->data + entry->offset, bytes, size)) return entry->id;
    }
}
