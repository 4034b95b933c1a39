// arena.h - one allocation of one kind of memory, made before step 0, handed out front to back.
//
// In measuring mode nothing is allocated and arena_take only counts, so the code that allocates also answers `lisa
// plan`. An arena taken in the same order with the same sizes therefore needs exactly the measured bytes.
#pragma once
#include "base/error.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ARENA_ALIGNMENT 256
#define ARENA_USES      16 // purposes that takes can be counted by

typedef struct Arena {
    Backend *backend; // NULL in measuring mode
    MemoryKind kind;
    unsigned char *memory;     // NULL in measuring mode
    size_t capacity;           // bytes allocated; SIZE_MAX in measuring mode
    size_t used;               // bytes taken so far, padding included
    size_t peak;               // the largest `used` so far: what a measured arena must hold
    bool overflow;             // a take did not fit or a size overflowed; every later take returns NULL too
    int use;                   // what is taken from here on is counted under this number, below ARENA_USES
    size_t by_use[ARENA_USES]; // bytes by which takes for that use raised `peak`; together they are `peak`
} Arena;

// An arena that only counts.
void arena_measure(Arena *arena, MemoryKind kind);
// Allocates `bytes`; false with a message that names what `purpose` needs. Free with arena_free.
bool arena_create(Arena *arena, Backend *backend, MemoryKind kind, size_t bytes, const char *purpose, Error *error);
void arena_free(Arena *arena); // also fine on a measuring or zeroed arena

// Room for count elements of size bytes, aligned to ARENA_ALIGNMENT, contents undefined.
// Measuring: returns a fake non-NULL pointer that must not be followed. Otherwise NULL only on overflow.
void *arena_take(Arena *arena, int64_t count, size_t size);

// Scratch that lives for one phase: everything taken after the mark is given back at once.
size_t arena_mark(const Arena *arena);
void arena_reset(Arena *arena, size_t mark);

#ifdef __cplusplus
}
#endif
