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

bool training_is_noticed(SameTraining training, const void *context, int order) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(120);
        emulator_end_at_fault();
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(2);
        queue_order(order);
        _exit(!training(context));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

// n: the wait that is left out.
static bool noticed(SameTraining training, const void *context, int order, long n) {
    emulator_skip_event_wait(n);
    bool seen = training_is_noticed(training, context, order);
    emulator_skip_event_wait(0);
    return seen;
}

void assert_every_wait_needed(SameTraining training, const void *context, long waits) {
    for (int order = 0; order < ORDERS; order++) assert_false(training_is_noticed(training, context, order));
    for (long n = 1; n <= waits; n++) {
        bool seen = false;
        for (int order = 0; !seen && order < ORDERS_IN_ALL; order++) seen = noticed(training, context, order, n);
        if (!seen) fail_msg("wait %ld of %ld can be left out and nothing changes", n, waits);
    }
}
