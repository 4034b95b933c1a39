// progress.h - the line that shows how a training run is doing.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct Progress {
    int64_t step;  // optimizer steps done
    int64_t steps; // of the whole run
    double loss;
    double gradient_norm;
    double learning_rate;
    const int *layers; // [layer_count] active decoder layers, ascending
    int layer_count;
    double tokens_per_second;
    uint64_t memory;     // bytes in use
    double seconds_left; // negative: not known yet
} Progress;

#define PROGRESS_SIZE 256

// Writes the line to text, at most `width` characters: what matters least is left out until it fits. Returns text.
const char *progress_line(char text[PROGRESS_SIZE], const Progress *progress, int width);
// Shows it: rewritten in place on a terminal, else as one line of the log.
void progress_show(const Progress *progress);
// "41 s", "12:03 min", "3:05:00 h": the time a person would say; at most 31 characters into text, which is returned.
const char *format_duration(char text[32], double seconds);
