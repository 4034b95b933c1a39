// schedule.c - see schedule.h.
#include "train/schedule.h"
#include <math.h>

int64_t schedule_warmup_steps(const TrainSettings *settings, int64_t steps) {
    if (settings->lr_scheduler_type == SCHEDULE_CONSTANT) return 0;
    if (settings->warmup_steps >= 0) return settings->warmup_steps;
    return (int64_t)ceil(settings->warmup_ratio * (double)steps);
}

double schedule_learning_rate(const TrainSettings *settings, int64_t step, int64_t steps) {
    int64_t warmup = schedule_warmup_steps(settings, steps);
    double peak = settings->learning_rate;
    if (step < warmup) return peak * (double)step / (double)(warmup > 1 ? warmup : 1);
    double rest = (double)(steps - warmup > 1 ? steps - warmup : 1);
    double progress = (double)(step - warmup) / rest; // 0 after warm-up, 1 at the end
    switch (settings->lr_scheduler_type) {
    case SCHEDULE_COSINE:
        return peak * fmax(0, 0.5 * (1 + cos(3.14159265358979323846 * progress)));
    case SCHEDULE_LINEAR:
        return peak * fmax(0, 1 - progress);
    case SCHEDULE_CONSTANT:
    case SCHEDULE_CONSTANT_WITH_WARMUP:
        break;
    }
    return peak;
}
