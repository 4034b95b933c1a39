// clock.h - how long things take.
#pragma once

// Seconds on a clock that never goes back; only differences mean something.
double clock_seconds(void);
