// reports.c - see reports.h.
#include "train/reports.h"

void reports_take(ReportRing *ring, Backend *backend, Arena *pinned) {
    *ring = (ReportRing){.backend = backend, .told = arena_take(pinned, STEPS_IN_FLIGHT, sizeof(ToldNumbers))};
}

bool reports_open(ReportRing *ring, Error *error) {
    for (int i = 0; i < STEPS_IN_FLIGHT; i++) {
        ring->arrived[i] = ring->backend->event_create(ring->backend, error);
        if (!ring->arrived[i]) return false;
    }
    return true;
}

void reports_free(ReportRing *ring) {
    for (int i = 0; i < STEPS_IN_FLIGHT; i++)
        if (ring->arrived[i]) ring->backend->event_free(ring->backend, ring->arrived[i]);
    *ring = (ReportRing){0};
}

int64_t reports_owed(const ReportRing *ring) {
    return ring->queued - ring->reported;
}

void reports_queue(ReportRing *ring, const StepReport *known, const double *loss, const StepNumbers *numbers) {
    Backend *b = ring->backend;
    int64_t place = ring->queued++ % STEPS_IN_FLIGHT;
    ToldNumbers *told = &ring->told[place];
    ring->known[place] = *known;
    b->copy(b, &told->loss, loss, sizeof *loss, NULL);
    b->copy(b, &told->numbers, numbers, sizeof *numbers, NULL);
    b->event_record(b, ring->arrived[place], NULL);
}

bool reports_next(ReportRing *ring, StepReport *report, Error *error) {
    Backend *b = ring->backend;
    int64_t place = ring->reported % STEPS_IN_FLIGHT;
    b->event_synchronize(b, ring->arrived[place]);
    if (!b->check(b, error)) return false;
    const ToldNumbers *told = &ring->told[place];
    *report = ring->known[place];
    report->loss = told->loss / (double)report->targets;
    report->grad_norm = (double)told->numbers.norm;
    report->skipped = told->numbers.skip != 0;
    ring->reported++;
    return true;
}
