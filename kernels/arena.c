// arena.c - see arena.h.
#include "kernels/arena.h"

void arena_measure(Arena *arena, MemoryKind kind) {
    *arena = (Arena){.kind = kind, .capacity = SIZE_MAX};
}

bool arena_create(Arena *arena, Backend *backend, MemoryKind kind, size_t bytes, const char *purpose, Error *error) {
    *arena = (Arena){.backend = backend, .kind = kind, .capacity = bytes};
    if (bytes == 0) return true;
    void *memory;
    if (!backend->allocate(backend, kind, bytes, &memory, error)) return error_context(error, "%s", purpose);
    arena->memory = memory;
    return true;
}

void arena_free(Arena *arena) {
    if (arena->memory) arena->backend->release(arena->backend, arena->kind, arena->memory);
    *arena = (Arena){0};
}

void *arena_take(Arena *arena, int64_t count, size_t size) {
    size_t bytes, end;
    if (arena->overflow || count < 0 || !size_multiply((size_t)count, size, &bytes) ||
        !size_add(bytes, ARENA_ALIGNMENT - 1, &bytes) ||
        !size_add(arena->used, bytes / ARENA_ALIGNMENT * ARENA_ALIGNMENT, &end) || end > arena->capacity) {
        arena->overflow = true;
        return NULL;
    }
    // measuring hands out addresses from ARENA_ALIGNMENT on, so that none is NULL
    uintptr_t place = arena->memory ? (uintptr_t)arena->memory + arena->used : ARENA_ALIGNMENT + arena->used;
    arena->used = end;
    if (end > arena->peak) {
        arena->by_use[arena->use] += end - arena->peak;
        arena->peak = end;
    }
    return (void *)place;
}

size_t arena_mark(const Arena *arena) {
    return arena->used;
}

void arena_reset(Arena *arena, size_t mark) {
    arena->used = mark;
}
