// absent.c - stands in for the CUDA backend in a build that was made without nvcc.
#include "kernels/cuda/cards.h"
#include "kernels/kernels.h"

static bool absent(Error *error) {
    error_set(error, "this lisa was built without CUDA");
    return error_hint(error, "install the CUDA toolkit (nvcc), then run make again, or use --device cpu");
}

Backend *backend_cuda_create(int device, int threads, Error *error) {
    (void)device, (void)threads;
    absent(error);
    return NULL;
}

int cuda_build_version(void) {
    return 0;
}

const char *cuda_build_architectures(void) {
    return "";
}

int cuda_card_count(void) {
    return 0;
}

void cuda_list_cards(CardList *list) {
    *list = (CardList){0};
}

bool cuda_check_card(int card, Error *error) {
    (void)card;
    return absent(error);
}

bool cuda_measure_link(int card, double *to_card, double *to_host, Error *error) {
    (void)card, (void)to_card, (void)to_host;
    return absent(error);
}
