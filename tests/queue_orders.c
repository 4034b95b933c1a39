// queue_orders.c - see queue_orders.h.
#include "tests/queue_orders.h"
#include "tests/emulator/emulator.h"
#include "tests/support.h"
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define ORDERS        6
#define ORDERS_IN_ALL 48 // when a fault shows in few of them

void queue_order(int order) {
    emulator_queue_order(order == 0 ? QUEUES_EARLY : order == 1 ? QUEUES_LATE : QUEUES_RANDOM, (uint64_t)order);
}

// Whether the training, in a process of its own, comes to another end or is reported when its n-th wait is left out;
// n 0: none is. What a kernel does with indices that have not arrived may be anything, a crash too.
static bool noticed(SameTraining training, const void *context, int order, long n) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(120);
        emulator_end_at_fault();
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(2);
        queue_order(order);
        emulator_skip_event_wait(n);
        _exit(!training(context));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

void assert_every_wait_needed(SameTraining training, const void *context, long waits) {
    for (int order = 0; order < ORDERS; order++) assert_false(noticed(training, context, order, 0));
    for (long n = 1; n <= waits; n++) {
        bool seen = false;
        for (int order = 0; !seen && order < ORDERS_IN_ALL; order++) seen = noticed(training, context, order, n);
        if (!seen) fail_msg("wait %ld of %ld can be left out and nothing changes", n, waits);
    }
}
