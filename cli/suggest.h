// suggest.h - the nearest of a set of names, for "did you mean".
#pragma once
#include <stddef.h>

typedef struct Suggestion {
    const char *name; // what was typed
    const char *best; // the nearest candidate so far, NULL when none is near; not NUL-terminated
    int best_length;
    int best_distance;
} Suggestion;

void suggestion_start(Suggestion *suggestion, const char *name);
// Compares a candidate of `length` characters, which must outlive the suggestion. `-` equals `_`, case is ignored.
void suggestion_try(Suggestion *suggestion, const char *candidate, size_t length);
