// cards.h - what the CUDA part of this program was built for, and what it finds on the machine. Plain C; a build
// without nvcc has none of it and says so (absent.c).
#pragma once
#include "base/error.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CARDS_MAX 16 // more are not listed

typedef struct Card {
    char name[128];
    int major, minor;     // compute capability
    uint64_t free_bytes;  // 0: not known
    uint64_t total_bytes; // of its memory
} Card;

typedef struct CardList {
    int driver; // the newest CUDA that the driver supports, as CUDA counts: 13000 is 13.0; 0: there is no driver
    int count;
    Card cards[CARDS_MAX];
} CardList;

// The version of the CUDA toolkit that the program was built with, as above; 0: without CUDA.
int cuda_build_version(void);
// The machine code in it: "sm_80+sm_89+compute_89" (compute: PTX, for newer cards); "" when the build does not know.
const char *cuda_build_architectures(void);

// Cards that CUDA can use: 0 when there is no driver, or one that is too old.
int cuda_card_count(void);
// The first of them. Looking at a card's free memory takes some tenths of a second.
void cuda_list_cards(CardList *list);

// Whether this program can run on the card; the message names what stands in the way: no driver or one that is too old
// (with both versions), no such card, a card below compute capability 8.0, or one that the program was not built for.
bool cuda_check_card(int card, Error *error);

// Bytes per second of copies between pinned host memory and the card: the best of a few copies of 64 MiB each way.
bool cuda_measure_link(int card, double *to_card, double *to_host, Error *error);

// ---- without a card

// Whether code for these architectures (as above) runs on a card of this compute capability.
bool architectures_cover(const char *architectures, int major, int minor);

#ifdef __cplusplus
}
#endif
