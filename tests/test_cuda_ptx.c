// The primitives that the CUDA kernels are made of, against what the host computes: matrix loads and products,
// asynchronous copies, warp functions, rounding. To be run first on a new card.
#include "base/numbers.h"
#include "tests/cuda_ptx.h"
#include "tests/emulator/emulator.h"
#include "tests/support.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 32 };

static const EmulatorThreadOrder ORDERS[] = {THREADS_FORWARD, THREADS_REVERSE, THREADS_RANDOM};

// Which element of an 8 x 8 matrix a lane holds in the low half of its register; the high half has the next column.
static int lane_row(int lane) {
    return lane / 4;
}
static int lane_column(int lane) {
    return lane % 4 * 2;
}

static void test_ldmatrix(void **state) {
    (void)state;
    uint16_t tile[16][16];
    for (int r = 0; r < 16; r++)
        for (int c = 0; c < 16; c++) tile[r][c] = (uint16_t)(256 * r + c);
    for (int transposed = 0; transposed < 2; transposed++) {
        uint32_t registers[LANES][4];
        assert_true(cuda_try_ldmatrix(registers[0], tile[0], transposed));
        for (int lane = 0; lane < LANES; lane++)
            for (int i = 0; i < 4; i++) {
                int top = i % 2 * 8, left = i / 2 * 8, r = lane_row(lane), c = lane_column(lane);
                uint16_t low = transposed ? tile[top + c][left + r] : tile[top + r][left + c];
                uint16_t high = transposed ? tile[top + c + 1][left + r] : tile[top + r][left + c + 1];
                assert_int_equal(registers[lane][i], low | (uint32_t)high << 16);
            }
    }
}

static uint32_t pack(float low, float high) {
    return bf16_from_float(low) | (uint32_t)bf16_from_float(high) << 16;
}

// Small whole numbers, so that every sum is exact in any order.
static void test_mma(void **state) {
    (void)state;
    float a[16][16], b[16][8], c[16][8];
    uint32_t left[LANES][4], right[LANES][2];
    float d[LANES][4];
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) a[i][j] = (float)((i * 7 + j * 3) % 11 - 5);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 8; j++) b[i][j] = (float)((i * 5 + j * 13) % 9 - 4), c[i][j] = (float)(i * 8 + j);
    for (int lane = 0; lane < LANES; lane++) {
        int r = lane_row(lane), k = lane_column(lane);
        for (int i = 0; i < 4; i++) {
            const float *at = &a[r + i % 2 * 8][k + i / 2 * 8];
            left[lane][i] = pack(at[0], at[1]);
            d[lane][i] = c[r + i / 2 * 8][k + i % 2];
        }
        for (int i = 0; i < 2; i++) right[lane][i] = pack(b[k + 8 * i][r], b[k + 8 * i + 1][r]);
    }
    assert_true(cuda_try_mma(d[0], left[0], right[0]));
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < 4; i++) {
            int r = lane_row(lane) + i / 2 * 8, column = lane_column(lane) + i % 2;
            float sum = c[r][column];
            for (int k = 0; k < 16; k++) sum += a[r][k] * b[k][column];
            assert_true(d[lane][i] == sum);
        }
}

static void test_cp_async(void **state) {
    (void)state;
    uint8_t in[2 * LANES][16], out[LANES][16], late[LANES][16];
    int bytes[LANES];
    for (int i = 0; i < 2 * LANES * 16; i++) in[i / 16][i % 16] = (uint8_t)(i % 251 + 1);
    for (int lane = 0; lane < LANES; lane++) bytes[lane] = lane % 5 * 4;
    assert_true(cuda_try_cp_async(out[0], in[0], bytes));
    for (int lane = 0; lane < LANES; lane++)
        for (int i = 0; i < 16; i++) assert_int_equal(out[lane][i], i < bytes[lane] ? in[lane][i] : 0);

    assert_true(cuda_try_cp_async_groups(out[0], late[0], in[0]));
    for (int lane = 0; lane < LANES; lane++) {
        int next = (lane + 1) % LANES; // what a neighbour copied
        assert_memory_equal(out[lane], in[next], 16);
        assert_memory_equal(late[lane], in[LANES + next], 16);
    }
}

static void test_exp2(void **state) {
    (void)state;
    enum { COUNT = 512 };
    float in[COUNT], out[COUNT];
    for (int i = 0; i < COUNT; i++) in[i] = (float)(i - COUNT / 2) * 0.49f;
    in[0] = -INFINITY, in[1] = 0.0f, in[2] = -200.0f;
    assert_true(cuda_try_exp2(out, in, COUNT));
    assert_true(out[0] == 0.0f && out[1] == 1.0f && out[2] == 0.0f);
    for (int i = 3; i < COUNT; i++) {
        double expected = exp2((double)in[i]), allowed = 2.5e-7 * expected;
        if (expected < 1.2e-38) allowed = 1.2e-38; // denormals are zero
        assert_true(fabs((double)out[i] - expected) <= allowed);
    }
}

static int expected_lane(int which, int lane) {
    int group = lane & ~7;
    switch (which) {
    case SHUFFLE_XOR_5:
        return lane ^ 5;
    case SHUFFLE_DOWN_3:
        return lane + 3 < 32 ? lane + 3 : lane;
    case SHUFFLE_UP_3:
        return lane >= 3 ? lane - 3 : lane;
    case SHUFFLE_FROM_9:
        return 9;
    case SHUFFLE_FROM_9_OF_8:
        return group + 1;
    case SHUFFLE_DOWN_3_OF_8:
        return lane % 8 + 3 < 8 ? lane + 3 : lane;
    case SHUFFLE_UP_3_OF_8:
        return lane % 8 >= 3 ? lane - 3 : lane;
    default: // SHUFFLE_XOR_8_OF_8: an earlier group can be read, a later one cannot
        return (lane ^ 8) < lane ? lane ^ 8 : lane;
    }
}

static void test_warp_functions(void **state) {
    (void)state;
    int results[WARP_CASES][LANES];
    for (int order = 0; order < 3; order++) {
        emulator_thread_order(ORDERS[order], 3);
        assert_true(cuda_try_warp(results[0]));
        for (int lane = 0; lane < LANES; lane++) {
            for (int which = 0; which <= SHUFFLE_XOR_8_OF_8; which++)
                assert_int_equal(results[which][lane], 100 + expected_lane(which, lane));
            assert_int_equal(results[BALLOT_THIRDS][lane], 0x49249249);
            assert_int_equal(results[ANY_31][lane], 1);
            assert_int_equal(results[ALL_BELOW_31][lane], 0);
        }
    }
    emulator_thread_order(THREADS_FORWARD, 0);
}

// Bits are equal to the host's, whatever the compiler contracts.
static void test_arithmetic(void **state) {
    (void)state;
    enum { COUNT = 1000 };
    float in[COUNT];
    uint32_t results[COUNT][5];
    for (int i = 0; i < COUNT; i++) in[i] = 2.0f + noise(1, (uint64_t)i) * (i % 2 ? 1.5f : 1e-3f);
    for (int i = 0; i < 16; i++) in[i] = float_from_bits(0x3f800000u + 0x4000u * (uint32_t)i); // ties of the rounding
    in[16] = INFINITY, in[17] = float_from_bits(0x7f7fffffu), in[18] = 0.0f;
    assert_true(cuda_try_arithmetic(results[0], in, COUNT));
    for (int i = 0; i < COUNT; i++) {
        float x = in[i];
        assert_int_equal(results[i][0], bf16_from_float(x));
        assert_int_equal(results[i][1], float_bits(sqrtf(x)));
        assert_int_equal(results[i][2], float_bits(1.0f / x));
        assert_int_equal(results[i][3], float_bits(fmaf(x, x, -1.0f)));
        assert_int_equal(results[i][4], pack(x, -x));
    }
    in[0] = NAN;
    assert_true(cuda_try_arithmetic(results[0], in, 1));
    assert_true(isnan(bf16_to_float((bf16)results[0][0])));
}

static void test_atomics(void **state) {
    (void)state;
    for (int order = 0; order < 3; order++) {
        int sum = 0;
        emulator_thread_order(ORDERS[order], 9);
        assert_true(cuda_try_atomics(&sum, 5));
        assert_int_equal(sum, 5 * 64);
    }
    emulator_thread_order(THREADS_FORWARD, 0);
}

static void test_no_faults(void **state) {
    (void)state;
    if (emulator_errors()) fail_msg("%s", emulator_first_error());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ldmatrix),       cmocka_unit_test(test_mma),
        cmocka_unit_test(test_cp_async),       cmocka_unit_test(test_exp2),
        cmocka_unit_test(test_warp_functions), cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_atomics),        cmocka_unit_test(test_no_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
