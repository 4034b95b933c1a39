// clock.h - how long things take.
#pragma once
#include <stdint.h>

// Seconds on a clock that never goes back; only differences mean something.
double clock_seconds(void);

// Sorts the times and returns the middle one (of an even number the later of the two); count >= 1.
double clock_median(double *seconds, int64_t count);
