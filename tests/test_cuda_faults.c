// The checkers of the emulation: every planted fault is reported with its kind, sound kernels are not.
#include "tests/cuda_faults.h"
#include "tests/emulator/emulator.h"
#include "tests/support.h"
#include <string.h>

// Whether the fault's kind is one of "kind|kind".
static bool reported_as(const char *kinds) {
    const char *error = emulator_first_error();
    size_t length = strcspn(error, ":");
    while (*kinds) {
        size_t kind = strcspn(kinds, "|");
        if (kind == length && strncmp(kinds, error, kind) == 0) return true;
        kinds += kind + (kinds[kind] == '|');
    }
    return false;
}

static void expect(const CudaFault *fault, const char *kinds) {
    if (!kinds) return;
    emulator_clear_errors();
    fault->run();
    if (*kinds == '\0') {
        if (emulator_errors()) fail_msg("%s: reported without reason: %s", fault->name, emulator_first_error());
    } else if (!reported_as(kinds)) {
        fail_msg("%s: expected %s, reported: \"%s\"", fault->name, kinds, emulator_first_error());
    } else if (strstr(emulator_first_error(), " thread (") && !strstr(emulator_first_error(), "cuda_faults.cu:")) {
        fail_msg("%s: the message lacks the line: \"%s\"", fault->name, emulator_first_error());
    }
}

static void test_planted(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    static const EmulatorThreadOrder orders[] = {THREADS_FORWARD, THREADS_REVERSE, THREADS_RANDOM};
    emulator_quiet(true);
    for (int order = 0; order < 3; order++) {
        emulator_thread_order(orders[order], 5);
        for (int i = 0; i < cuda_fault_count; i++) {
            const CudaFault *fault = &cuda_faults[i];
            expect(fault, emulator_checked() ? fault->checked : fault->fast);
        }
    }
    emulator_thread_order(THREADS_FORWARD, 0);
    emulator_clear_errors();
    emulator_quiet(false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
