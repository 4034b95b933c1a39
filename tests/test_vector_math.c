// test_vector_math.c - the arithmetic that the CPU kernels share, on every instruction set this processor has.
#include "tests/support.h"

#include "kernels/cpu/vector_math.h"
#include <stdlib.h>

#define COUNT 4099

CPU_INLINE void exponentials_body(float *out, const float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++) out[i] = vector_exp(x[i]);
}
CPU_KERNEL(exponentials, (float *out, const float *x, int64_t count), (out, x, count))

// out: sum, largest, dot product with bf16.
CPU_INLINE void reductions_body(float *out, const float *x, const bf16 *y, int64_t count) {
    out[0] = vector_sum(x, count);
    out[1] = vector_max(x, count, -INFINITY);
    out[2] = vector_dot_bf16(x, y, count);
}
CPU_KERNEL(reductions, (float *out, const float *x, const bf16 *y, int64_t count), (out, x, y, count))

static InstructionSet best_instructions(void) {
    Error error = {0};
    Backend *b = backend_cpu_create(1, false, &error);
    check(b != NULL, &error);
    InstructionSet best = cpu_backend(b)->instructions;
    b->destroy(b);
    return best;
}

static void check_exponential(float x, float out) {
    double exact = exp(x);
    float expected = (float)exact;
    if (isnan(x)) {
        assert_true(isnan(out));
    } else if (isinf(expected) || expected == 0) {
        assert_true(out == expected);
    } else {
        double unit = nextafterf(expected, INFINITY) - expected;
        if (!(fabs(out - exact) <= 1.1 * unit)) fail_msg("exp(%a) = %a instead of %a", x, out, expected);
    }
}

static void exp_is_right_to_an_ulp_everywhere(void **state) {
    (void)state;
    static const float EDGES[] = {0,     -0.0f,   1,       -1,      88.72283f, 88.72284f, 89,
                                  1e30f, -87.33f, -87.34f, -103.9f, -104,      -1e30f};
    InstructionSet best = best_instructions();
    float x[COUNT], out[COUNT], other[COUNT];
    for (uint32_t round = 0; round < 512; round++) {
        for (uint32_t i = 0; i < COUNT; i++) x[i] = float_from_bits((round * COUNT + i) * 2053u);
        for (size_t i = 0; round == 0 && i < sizeof EDGES / sizeof *EDGES; i++) x[i] = EDGES[i];
        if (round == 0) x[100] = INFINITY, x[101] = -INFINITY, x[102] = NAN;
        exponentials(best)(out, x, COUNT);
        for (int64_t i = 0; i < COUNT; i++) check_exponential(x[i], out[i]);
        for (int set = INSTRUCTIONS_BASE; round % 32 == 0 && set < (int)best; set++) {
            exponentials((InstructionSet)set)(other, x, COUNT);
            for (int64_t i = 0; i < COUNT; i++) assert_true(isnan(x[i]) || float_bits(out[i]) == float_bits(other[i]));
        }
    }
}

static void reductions_are_the_same_bits_on_every_instruction_set(void **state) {
    (void)state;
    static const int64_t COUNTS[] = {0, 1, 7, 8, 9, 31, 32, 33, 100, COUNT};
    InstructionSet best = best_instructions();
    float x[COUNT];
    bf16 y[COUNT];
    for (uint64_t i = 0; i < COUNT; i++) x[i] = noise(1, i), y[i] = bf16_from_float(noise(2, i));
    for (size_t c = 0; c < sizeof COUNTS / sizeof *COUNTS; c++) {
        double sum = 0, dot = 0, magnitude = 1;
        float largest = -INFINITY, out[3], other[3];
        for (int64_t i = 0; i < COUNTS[c]; i++) {
            sum += x[i];
            dot += (double)x[i] * bf16_to_float(y[i]);
            magnitude += fabsf(x[i]);
            largest = fmaxf(largest, x[i]);
        }
        reductions(best)(out, x, y, COUNTS[c]);
        assert_true(fabs(out[0] - sum) <= 1e-6 * magnitude);
        assert_true(out[1] == largest);
        assert_true(fabs(out[2] - dot) <= 1e-6 * magnitude);
        for (int set = INSTRUCTIONS_BASE; set < (int)best; set++) {
            reductions((InstructionSet)set)(other, x, y, COUNTS[c]);
            assert_memory_equal(out, other, sizeof out);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_right_to_an_ulp_everywhere),
        cmocka_unit_test(reductions_are_the_same_bits_on_every_instruction_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
