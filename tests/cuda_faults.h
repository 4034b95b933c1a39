// cuda_faults.h - kernels with one fault each, and their sound twins, to prove the checkers of the emulation.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CudaFault {
    const char *name;
    const char *checked; // the kind of fault the checked build reports; "" for a sound kernel
    const char *fast;    // the same of the fast build, "" where it cannot see the fault, NULL where it may crash
    void (*run)(void);   // launches it and copies its result back
} CudaFault;

extern const CudaFault cuda_faults[];
extern const int cuda_fault_count;

#ifdef __cplusplus
}
#endif
