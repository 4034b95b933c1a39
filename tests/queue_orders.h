// queue_orders.h - a training on a card whose streams are queues, in other orders of their work and with a wait left
// out, for tests.
#pragma once
#include <stdbool.h>

// The emulated card's queues from now on: order 0 is early, 1 late, the rest random.
void queue_order(int order);

// A training of the test's: true when it comes to the end that the test expects.
typedef bool (*SameTraining)(const void *context);

// Whether the training, in a process of its own and with the queues in this order, comes to another end, is reported by
// the emulator, or does not end at all. What a kernel does with what has not arrived may be anything, a crash too.
bool training_is_noticed(SameTraining training, const void *context, int order);

// Fails the test unless the training is the same in every order, and unless it is noticed (by another end, or by the
// emulator) when any one of its `waits` waits of a stream for an event is left out. Each is tried in a process of its
// own; one whose checks fail goes on with the test program from here, so this is to be a program's last test.
void assert_every_wait_needed(SameTraining training, const void *context, long waits);
