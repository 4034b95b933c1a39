// phases.c - see phases.h.
#include "train/phases.h"
#include <stdlib.h>

void phase_clock_create(PhaseClock *clock, Backend *backend) {
    *clock = (PhaseClock){.backend = backend};
}

void phase_clock_free(PhaseClock *clock) {
    for (int64_t i = 0; i < clock->room; i++)
        if (clock->marks[i].event) clock->backend->event_free(clock->backend, clock->marks[i].event);
    free(clock->marks);
    *clock = (PhaseClock){0};
}

void phase_clock_clear(PhaseClock *clock) {
    clock->count = clock->steps = 0;
}

// Room for one more mark; the first steps make the events, later ones find them.
static PhaseMark *next_mark(PhaseClock *clock) {
    if (clock->count == clock->room) {
        int64_t room = clock->room ? 2 * clock->room : 64;
        PhaseMark *marks = realloc(clock->marks, (size_t)room * sizeof *marks);
        if (!marks) {
            clock->failed = !error_memory(&clock->error, "the marks of a step", (size_t)room * sizeof *marks);
            return NULL;
        }
        for (int64_t i = clock->room; i < room; i++) marks[i] = (PhaseMark){0};
        clock->marks = marks;
        clock->room = room;
    }
    PhaseMark *mark = &clock->marks[clock->count];
    if (!mark->event) mark->event = clock->backend->event_create(clock->backend, &clock->error);
    if (!mark->event) clock->failed = true;
    return mark->event ? mark : NULL;
}

static void mark_here(PhaseClock *clock, Phase phase, bool step) {
    PhaseMark *mark = clock->failed ? NULL : next_mark(clock);
    if (!mark) return;
    mark->phase = phase;
    mark->step = step;
    clock->backend->event_record(clock->backend, mark->event, NULL);
    clock->count++;
}

void phase_step(PhaseClock *clock) {
    mark_here(clock, PHASE_OTHER, true);
    clock->steps++;
}

void phase_start(PhaseClock *clock, Phase phase) {
    if (!clock || clock->count == 0 || clock->marks[clock->count - 1].phase == phase) return;
    mark_here(clock, phase, false);
}

bool phase_clock_read(const PhaseClock *clock, int64_t step, double seconds[PHASE_COUNT], Error *error) {
    Backend *b = clock->backend;
    for (int phase = 0; phase < PHASE_COUNT; phase++) seconds[phase] = 0;
    if (clock->failed) {
        *error = clock->error;
        return false;
    }
    if (step < 0 || step + 1 >= clock->steps) return error_set(error, "step %lld was not measured", (long long)step);
    int64_t begun = -1;
    for (int64_t i = 0; i + 1 < clock->count; i++) {
        const PhaseMark *mark = &clock->marks[i];
        begun += mark->step;
        if (begun == step) seconds[mark->phase] += b->event_seconds(b, mark->event, mark[1].event);
    }
    return b->check(b, error);
}
