// on_card.cc - emulator.h for test programs that run on a real card: nothing is emulated, so nothing can be ordered,
// broken or found wrong here.
#include "tests/emulator/emulator.h"

bool emulator_present(void) {
    return false;
}
bool emulator_checked(void) {
    return false;
}
void emulator_thread_order(EmulatorThreadOrder, uint64_t) {
}
void emulator_queue_order(EmulatorQueueOrder, uint64_t) {
}
long emulator_errors(void) {
    return 0;
}
const char *emulator_first_error(void) {
    return "";
}
void emulator_clear_errors(void) {
}
void emulator_quiet(bool) {
}
void emulator_end_at_fault(void) {
}
void emulator_memory_limit(size_t) {
}
void emulator_pinned_limit(size_t) {
}
size_t emulator_device_peak(void) {
    return 0;
}
long emulator_allocations(void) {
    return 0;
}
long emulator_event_waits(void) {
    return 0;
}
void emulator_skip_event_wait(long) {
}
void emulator_fail_launch(long, int) {
}
void emulator_card(int, int, int, int) {
}
void emulator_ldmatrix(long *phases, long *conflicts) {
    *phases = *conflicts = 0;
}
