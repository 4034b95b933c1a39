// parity.c - see parity.h.
#include "tests/parity.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Parity parity;

int parity_open(void **state) {
    (void)state;
    Error error = {0};
    parity.cuda = backend_cuda_create(0, 1, &error);
    check(parity.cuda != NULL, &error);
    parity.rounded = backend_cpu_create(1, true, &error);
    check(parity.rounded != NULL, &error);
    parity.exact = backend_cpu_create(1, false, &error);
    check(parity.exact != NULL, &error);
    return 0;
}

int parity_close(void **state) {
    (void)state;
    Error error = {0};
    bool good = parity.cuda->check(parity.cuda, &error);
    parity.cuda->destroy(parity.cuda);
    parity.rounded->destroy(parity.rounded);
    parity.exact->destroy(parity.exact);
    if (good && !emulator_errors()) return 0;
    fprintf(stderr, "%s\n%ld faults in kernels: %s\n", error.text, emulator_errors(), emulator_first_error());
    exit(EXIT_FAILURE); // a program passes in spite of what fails in a group's teardown
}

// ---- moving data -------------------------------------------------------------------------------------------------

void *device_empty(Backend *b, size_t size) {
    Error error = {0};
    void *memory;
    check(b->allocate(b, MEMORY_DEVICE, size, &memory, &error), &error);
    return memory;
}

void *device_bytes(Backend *b, const void *bytes, size_t size) {
    void *memory = device_empty(b, size);
    b->copy(b, memory, bytes, size, NULL);
    b->synchronize(b, NULL);
    return memory;
}

void *device_floats(Backend *b, const float *values, int64_t count) {
    return device_bytes(b, values, (size_t)count * sizeof *values);
}

void *device_weights(Backend *b, const float *values, int64_t count) {
    bf16 *rounded = malloc((size_t)count * sizeof *rounded + 1);
    assert_non_null(rounded);
    for (int64_t i = 0; i < count; i++) rounded[i] = bf16_from_float(values[i]);
    void *memory = device_bytes(b, rounded, (size_t)count * sizeof *rounded);
    free(rounded);
    return memory;
}

void *device_activations(Backend *b, const float *values, int64_t count) {
    if (b->activation == TYPE_BF16) return device_weights(b, values, count);
    float *rounded = malloc((size_t)count * sizeof *rounded + 1);
    assert_non_null(rounded);
    for (int64_t i = 0; i < count; i++) rounded[i] = bf16_to_float(bf16_from_float(values[i]));
    void *memory = device_floats(b, rounded, count);
    free(rounded);
    return memory;
}

void *device_element(const Backend *b, void *activations, int64_t index) {
    return (unsigned char *)activations + (size_t)index * b->activation_size;
}

void device_free(Backend *b, void *memory) {
    b->release(b, MEMORY_DEVICE, memory);
}

float *random_values(uint64_t key, int64_t count, float scale) {
    float *values = malloc((size_t)count * sizeof *values + 1);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) values[i] = noise(key, (uint64_t)i) * scale;
    return values;
}

float *random_bf16_values(uint64_t key, int64_t count, float scale) {
    float *values = random_values(key, count, scale);
    for (int64_t i = 0; i < count; i++) values[i] = bf16_to_float(bf16_from_float(values[i]));
    return values;
}

// ---- results -----------------------------------------------------------------------------------------------------

void results_free(Results *results) {
    for (int i = 0; i < results->count; i++) free(results->values[i]);
    *results = (Results){0};
}

// Room for one more output of count floats.
static float *add_result(Results *results, int64_t count) {
    assert_true(results->count < PARITY_RESULTS);
    float *values = malloc((size_t)count * sizeof *values + 1);
    assert_non_null(values);
    results->sizes[results->count] = count;
    return results->values[results->count++] = values;
}

static void download(Backend *b, void *to, const void *device, size_t bytes) {
    b->copy(b, to, device, bytes, NULL);
    b->synchronize(b, NULL);
}

void take_floats(Results *results, Backend *b, const void *device, int64_t count) {
    download(b, add_result(results, count), device, (size_t)count * sizeof(float));
}

void take_bits(Results *results, Backend *b, const void *device, int64_t count) {
    take_floats(results, b, device, count);
}

void take_weights(Results *results, Backend *b, const void *device, int64_t count) {
    float *values = add_result(results, count);
    bf16 *bits = malloc((size_t)count * sizeof *bits + 1);
    assert_non_null(bits);
    download(b, bits, device, (size_t)count * sizeof *bits);
    for (int64_t i = 0; i < count; i++) values[i] = bf16_to_float(bits[i]);
    free(bits);
}

void take_activations(Results *results, Backend *b, const void *device, int64_t count) {
    if (b->activation == TYPE_BF16)
        take_weights(results, b, device, count);
    else
        take_floats(results, b, device, count);
}

// ---- the rule ----------------------------------------------------------------------------------------------------

void check_rule(const char *what, const float *cuda, const float *rounded, const double *reference, int64_t count,
                double factor) {
    double lost = 0, largest = 0, worst = -1;
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        double error = fabs((double)cuda[i] - reference[i]);
        lost = fmax(lost, fabs((double)rounded[i] - reference[i]));
        largest = fmax(largest, fabs(reference[i]));
        if (!(error <= worst)) worst = error, at = i; // NaN is the worst
    }
    double allowed = factor * lost + 1e-5 * largest;
    if (count && !(worst <= allowed))
        fail_msg("%s: element %lld is %.9g, the reference %.9g: off by %.3g, allowed %.3g (rounding loses %.3g)", what,
                 (long long)at, (double)cuda[at], reference[at], worst, allowed, lost);
}

void parity_run_orders(ParityRun *run, void *context, Results *results) {
    static const EmulatorThreadOrder orders[] = {THREADS_FORWARD, THREADS_REVERSE, THREADS_RANDOM};
    Backend *b = parity.cuda;
    *results = (Results){0};
    for (int i = 0; i < 3; i++) {
        Results again = {0};
        emulator_thread_order(orders[i], 7);
        run(context, b, i ? &again : results);
        Error error = {0};
        check(b->check(b, &error), &error);
        if (emulator_errors()) fail_msg("%ld faults in kernels: %s", emulator_errors(), emulator_first_error());
        for (int j = 0; j < again.count; j++)
            if (memcmp(again.values[j], results->values[j], (size_t)again.sizes[j] * sizeof(float)))
                fail_msg("output %d depends on the order of the threads (order %d)", j, i);
        results_free(&again);
    }
    emulator_thread_order(THREADS_FORWARD, 0);
}

void parity_check(const char *what, ParityRun *run, void *context, double *const *references, const double *factors,
                  int outputs) {
    Results cuda, rounded = {0};
    parity_run_orders(run, context, &cuda);
    run(context, parity.rounded, &rounded);
    assert_int_equal(cuda.count, outputs);
    assert_int_equal(rounded.count, outputs);
    for (int i = 0; i < outputs; i++) {
        char name[160];
        snprintf(name, sizeof name, "%s, output %d", what, i);
        if (references[i])
            check_rule(name, cuda.values[i], rounded.values[i], references[i], cuda.sizes[i], factors[i]);
    }
    results_free(&cuda);
    results_free(&rounded);
}

void parity_check_equal(const char *what, ParityRun *run, void *context) {
    Results cuda, exact = {0};
    parity_run_orders(run, context, &cuda);
    run(context, parity.exact, &exact);
    assert_int_equal(cuda.count, exact.count);
    for (int i = 0; i < cuda.count; i++) {
        assert_int_equal(cuda.sizes[i], exact.sizes[i]);
        for (int64_t j = 0; j < cuda.sizes[i]; j++) {
            float a = cuda.values[i][j], b = exact.values[i][j];
            if (float_bits(a) != float_bits(b))
                fail_msg("%s, output %d: element %lld is %.9g, on the CPU %.9g", what, i, (long long)j, (double)a,
                         (double)b);
        }
    }
    results_free(&cuda);
    results_free(&exact);
}

void parity_assert_no_bank_conflicts(long least) {
    long phases, conflicts;
    if (!emulator_present()) skip();
    emulator_ldmatrix(&phases, &conflicts);
    assert_true(phases > least);
    assert_int_equal(conflicts, 0);
}
