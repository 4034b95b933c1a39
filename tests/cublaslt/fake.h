// fake.h - what a test can see of the stand-in for cuBLASLt, and how it makes it fail.
#pragma once

typedef struct FakeCublasLt {
    long heuristics;      // questions for an algorithm
    long multiplications; // done
    long live;            // handles and descriptors that were made and not destroyed
    int create_status;    // of the next calls of these functions
    int heuristic_status;
    int multiply_status;
} FakeCublasLt;

extern FakeCublasLt fake_cublaslt; // in the shared object
