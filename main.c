// main.c - the command table and nothing that computes.
#include "version.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        printf("lisa %s\n", LISA_COMMIT);
        return 0;
    }
    fprintf(stderr, "usage: lisa --version\n");
    return 2;
}
