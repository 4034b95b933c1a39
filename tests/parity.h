// parity.h - holding an operation of the CUDA backend against the CPU backend and an fp64 reference.
//
// A test writes one function that runs the operation on any backend and appends what it gave to a list of results; the
// rest is here. The rule: the CUDA result may lose at most `factor` times what the CPU backend loses against fp64 when
// it rounds every operation's output to bf16, plus 1e-5 of the largest reference value.
#pragma once
#include "base/buffer.h"
#include "kernels/kernels.h"
#include "tests/emulator/emulator.h"
#include "tests/support.h"

#define PARITY_FORWARD  2.0 // factor of the rule for results
#define PARITY_GRADIENT 3.0 // and for gradients

// The backends of a test program.
typedef struct Parity {
    Backend *cuda;    // the emulated card, or the real one
    Backend *rounded; // the CPU backend, outputs rounded to bf16
    Backend *exact;   // the CPU backend in float
} Parity;
extern Parity parity; // between the two

// Set-up and tear-down of the program's group of tests. The latter ends the program as failed when the emulation has
// reported anything.
int parity_open(void **state);
int parity_close(void **state);

// ---- moving data -------------------------------------------------------------------------------------------------

// Device memory holding these values; free with device_free. Activations are in the backend's element type, weights
// bf16; both round the floats to bf16 whatever the backend, so that all of them start from the same numbers.
void *device_activations(Backend *b, const float *values, int64_t count);
void *device_weights(Backend *b, const float *values, int64_t count);
void *device_floats(Backend *b, const float *values, int64_t count);
void *device_bytes(Backend *b, const void *bytes, size_t size);
void *device_empty(Backend *b, size_t size); // undefined contents
void *device_element(const Backend *b, void *activations, int64_t index);
void device_free(Backend *b, void *memory);

// Uniform values in [-scale, scale), already bf16 numbers. Caller's memory.
float *random_bf16_values(uint64_t key, int64_t count, float scale);
float *random_values(uint64_t key, int64_t count, float scale); // any floats

// ---- results -----------------------------------------------------------------------------------------------------

#define PARITY_RESULTS 8

// What an operation gave, as floats, one array per output.
typedef struct Results {
    int count;
    float *values[PARITY_RESULTS];
    int64_t sizes[PARITY_RESULTS];
} Results;
void results_free(Results *results);
void take_activations(Results *results, Backend *b, const void *device, int64_t count); // copies device memory out
void take_weights(Results *results, Backend *b, const void *device, int64_t count);
void take_floats(Results *results, Backend *b, const void *device, int64_t count);
void take_bits(Results *results, Backend *b, const void *device, int64_t count); // 32-bit words, compared as bits

// Uploads, runs one operation (or a few), takes its results, frees its memory.
typedef void ParityRun(void *context, Backend *b, Results *results);

// Runs it on the CUDA backend in three thread orders, and fails unless all bits are equal; the results of the first.
void parity_run_orders(ParityRun *run, void *context, Results *results);

// All of it: the orders, the rounding CPU backend, and the rule for output i against reference[i] with factors[i].
// factor 0: within 1e-5 x max|reference| (fp32 outputs). A NULL reference is not compared.
void parity_check(const char *what, ParityRun *run, void *context, double *const *references, const double *factors,
                  int outputs);

// For operations that give equal bits on all backends: the orders, and the results of the float CPU backend.
void parity_check_equal(const char *what, ParityRun *run, void *context);

// The rule alone.
void check_rule(const char *what, const float *cuda, const float *rounded, const double *reference, int64_t count,
                double factor);

// Fails the test when reads of tiles (ldmatrix) had to be repeated for a bank conflict: a property of speed that needs
// no card. least: so many rows of 8 have been read at least. Skips the test on a real card.
void parity_assert_no_bank_conflicts(long least);
