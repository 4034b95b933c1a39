// signals.c - see signals.h. The stop flag is one of the program's two global variables.
#include "cli/signals.h"
#include <stddef.h>

static volatile sig_atomic_t stop_flag;

static void ask_to_stop(int number) {
    if (stop_flag) {
        signal(number, SIG_DFL); // delivered again when this handler returns
        raise(number);
        return;
    }
    stop_flag = number;
}

void signals_catch(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = ask_to_stop, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) sigaction(numbers[i], &action, NULL);
    // A reader of our output that went away (`| tee` gets Ctrl-C too), or a limit on the size of files, is an error of
    // the write and must not end the process before it has saved.
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

const volatile sig_atomic_t *signals_stop_flag(void) {
    return &stop_flag;
}
