// suggest.c - edit distance in which two swapped neighbours count as one mistake (optimal string alignment).
#include "cli/suggest.h"
#include <ctype.h>
#include <string.h>

#define LENGTH_MAX 48 // longer names are not compared

static int fold(char c) {
    return c == '-' ? '_' : tolower((unsigned char)c);
}

static int least_of(int a, int b) {
    return a < b ? a : b;
}

// Both at most LENGTH_MAX long. Boreham & Damerau's recurrence over prefixes, three rows at a time.
static int edit_distance(const char *a, int a_length, const char *b, int b_length) {
    int rows[3][LENGTH_MAX + 1];
    for (int j = 0; j <= b_length; j++) rows[0][j] = j;
    for (int i = 1; i <= a_length; i++) {
        int *row = rows[i % 3];
        const int *last = rows[(i + 2) % 3];
        const int *before = rows[(i + 1) % 3]; // two rows up
        row[0] = i;
        for (int j = 1; j <= b_length; j++) {
            int differs = fold(a[i - 1]) != fold(b[j - 1]);
            row[j] = least_of(least_of(last[j] + 1, row[j - 1] + 1), last[j - 1] + differs);
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]))
                row[j] = least_of(row[j], before[j - 2] + 1);
        }
    }
    return rows[a_length % 3][b_length];
}

void suggestion_start(Suggestion *suggestion, const char *name) {
    // A third of the letters may be wrong, at least two.
    int length = (int)strnlen(name, LENGTH_MAX + 1);
    int tolerated = length / 3 < 2 ? 2 : length / 3;
    *suggestion = (Suggestion){.name = name, .best_distance = tolerated + 1};
}

void suggestion_try(Suggestion *suggestion, const char *candidate, size_t length) {
    size_t name_length = strlen(suggestion->name);
    if (length > LENGTH_MAX || name_length > LENGTH_MAX) return;
    int distance = edit_distance(suggestion->name, (int)name_length, candidate, (int)length);
    if (distance >= suggestion->best_distance || distance >= (int)name_length) return;
    suggestion->best = candidate;
    suggestion->best_length = (int)length;
    suggestion->best_distance = distance;
}
