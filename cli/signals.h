// signals.h - Ctrl-C and its relatives: the first asks a run to finish its step and save, the second leaves at once.
#pragma once
#include <signal.h>

// From now on SIGINT, SIGTERM and SIGHUP set the flag below; a second signal ends the process as if none were caught.
// SIGPIPE and SIGXFSZ become errors of the write that met them.
void signals_catch(void);
// 0, or the number of the signal that asked the run to stop. The run looks at it between steps.
const volatile sig_atomic_t *signals_stop_flag(void);
