// progress.c - see progress.h.
#include "cli/progress.h"
#include "base/log.h"
#include "base/numbers.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LAYERS_SHOWN 6 // more are counted

// The parts of the line, in its order.
typedef enum {
    PART_STEP,
    PART_LOSS,
    PART_NORM,
    PART_RATE,
    PART_LAYERS,
    PART_SPEED,
    PART_MEMORY,
    PART_LEFT,
    PARTS
} Part;

// What is left out first when the line is too long.
static const Part dispensable[] = {PART_MEMORY, PART_RATE, PART_NORM, PART_LAYERS, PART_SPEED, PART_LEFT};

const char *format_duration(char text[32], double seconds) {
    int64_t whole = seconds < 0 ? 0 : seconds > 1e9 ? (int64_t)1e9 : (int64_t)(seconds + 0.5);
    long long hours = whole / 3600, minutes = whole / 60 % 60, rest = whole % 60;
    if (hours)
        snprintf(text, 32, "%lld:%02lld:%02lld h", hours, minutes, rest);
    else if (minutes)
        snprintf(text, 32, "%lld:%02lld min", minutes, rest);
    else
        snprintf(text, 32, "%lld s", rest);
    return text;
}

static void write_layers(char *part, size_t size, const Progress *progress) {
    if (progress->layer_count > LAYERS_SHOWN) {
        snprintf(part, size, "%d layers", progress->layer_count);
        return;
    }
    size_t used = (size_t)snprintf(part, size, "%s", progress->layer_count ? "layers" : "no layer");
    for (int i = 0; i < progress->layer_count; i++)
        used += (size_t)snprintf(part + used, size - used, " %d", progress->layers[i]);
}

static void write_parts(char parts[PARTS][96], const Progress *progress) {
    char size[16], time[32];
    snprintf(parts[PART_STEP], 96, "step %lld/%lld", (long long)progress->step, (long long)progress->steps);
    snprintf(parts[PART_LOSS], 96, "loss %.4f", progress->loss);
    snprintf(parts[PART_NORM], 96, "norm %.3g", progress->gradient_norm);
    snprintf(parts[PART_RATE], 96, "lr %.3g", progress->learning_rate);
    write_layers(parts[PART_LAYERS], 96, progress);
    snprintf(parts[PART_SPEED], 96, "%.0f tokens/s", progress->tokens_per_second);
    snprintf(parts[PART_MEMORY], 96, "%s", format_bytes(size, progress->memory));
    if (progress->seconds_left < 0)
        parts[PART_LEFT][0] = 0;
    else
        snprintf(parts[PART_LEFT], 96, "%s left", format_duration(time, progress->seconds_left));
}

const char *progress_line(char text[PROGRESS_SIZE], const Progress *progress, int width) {
    char parts[PARTS][96];
    write_parts(parts, progress);
    size_t dropped = 0, count = sizeof dispensable / sizeof dispensable[0];
    for (;;) {
        size_t used = 0;
        text[0] = 0;
        for (int i = 0; i < PARTS && used < PROGRESS_SIZE; i++)
            if (parts[i][0])
                used += (size_t)snprintf(text + used, PROGRESS_SIZE - used, "%s%s", used ? " | " : "", parts[i]);
        if ((used <= (size_t)width && used < PROGRESS_SIZE) || dropped == count) break;
        parts[dispensable[dropped++]][0] = 0;
    }
    if (width < PROGRESS_SIZE) text[width] = 0; // what cannot be left out is cut
    return text;
}

void progress_show(const Progress *progress) {
    char text[PROGRESS_SIZE];
    struct winsize window;
    if (!isatty(STDERR_FILENO)) {
        log_note("%s", progress_line(text, progress, PROGRESS_SIZE - 1));
        return;
    }
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1;
    log_progress(progress_line(text, progress, known ? window.ws_col - 1 : 79));
}
