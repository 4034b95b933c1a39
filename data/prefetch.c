// prefetch.c - see prefetch.h.
#include "data/prefetch.h"
#include "data/order.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

// The micro-batches of one step.
typedef struct StepBatches {
    MicroBatch *batches; // [capacity of the prefetch]
    int64_t count;
    bool ready; // filled, not yet given back
} StepBatches;

struct Prefetch {
    PrefetchPlan plan;
    int64_t capacity;     // micro-batches that the largest step needs
    int64_t *order;       // [sequences] of `epoch`
    int64_t epoch;        // -1: none yet
    StepBatches steps[2]; // step s lies in steps[s % 2]
    int64_t given;        // the step that prefetch_next gives out next
    bool holding;         // the caller has the step before it
    bool stop, started;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

// The sequences of a step; order is made anew when its epoch begins.
static const int64_t *step_sequences(Prefetch *prefetch, int64_t step, int64_t *count) {
    const PrefetchPlan *plan = &prefetch->plan;
    StepPlace place = step_place(step, plan->dataset->sequences, plan->batch_size);
    if (place.epoch != prefetch->epoch)
        epoch_order(prefetch->order, plan->dataset->sequences, plan->seed, place.epoch, plan->shuffle);
    prefetch->epoch = place.epoch;
    *count = place.count;
    return prefetch->order + place.first;
}

static void fill(Prefetch *prefetch, int64_t step) {
    StepBatches *out = &prefetch->steps[step % 2];
    int64_t count;
    const int64_t *sequences = step_sequences(prefetch, step, &count);
    out->count = 0;
    for (int64_t i = 0; i < count; i++) {
        MicroBatch *last = out->count ? &out->batches[out->count - 1] : NULL;
        if (last && micro_batch_add(last, prefetch->plan.dataset, sequences[i])) continue;
        if (last) micro_batch_finish(last);
        micro_batch_clear(&out->batches[out->count]);
        micro_batch_add(&out->batches[out->count++], prefetch->plan.dataset, sequences[i]);
    }
    micro_batch_finish(&out->batches[out->count - 1]);
}

static void *run(void *argument) {
    Prefetch *prefetch = argument;
    for (int64_t step = prefetch->plan.first_step; step < prefetch->plan.steps; step++) {
        StepBatches *out = &prefetch->steps[step % 2];
        pthread_mutex_lock(&prefetch->mutex);
        while (out->ready && !prefetch->stop) pthread_cond_wait(&prefetch->changed, &prefetch->mutex);
        bool stop = prefetch->stop;
        pthread_mutex_unlock(&prefetch->mutex);
        if (stop) break;
        fill(prefetch, step);
        pthread_mutex_lock(&prefetch->mutex);
        out->ready = true;
        pthread_cond_signal(&prefetch->changed);
        pthread_mutex_unlock(&prefetch->mutex);
    }
    return NULL;
}

void prefetch_next(Prefetch *prefetch, const MicroBatch **batches, int64_t *count) {
    *batches = NULL;
    *count = 0;
    pthread_mutex_lock(&prefetch->mutex);
    if (prefetch->holding) prefetch->steps[(prefetch->given - 1) % 2].ready = false;
    prefetch->holding = prefetch->given < prefetch->plan.steps;
    pthread_cond_signal(&prefetch->changed);
    if (prefetch->holding) {
        StepBatches *step = &prefetch->steps[prefetch->given++ % 2];
        while (!step->ready) pthread_cond_wait(&prefetch->changed, &prefetch->mutex);
        *batches = step->batches;
        *count = step->count;
    }
    pthread_mutex_unlock(&prefetch->mutex);
}

// Micro-batches of the step that needs most.
static int64_t largest_step(Prefetch *prefetch) {
    const PrefetchPlan *plan = &prefetch->plan;
    int64_t largest = 0;
    for (int64_t step = plan->first_step; step < plan->steps; step++) {
        int64_t count;
        const int64_t *sequences = step_sequences(prefetch, step, &count);
        int64_t needed = micro_batches_needed(plan->dataset, sequences, count, plan->tokens);
        if (needed > largest) largest = needed;
    }
    return largest;
}

static bool make_batches(Prefetch *prefetch, Error *error) {
    for (int i = 0; i < 2; i++) {
        StepBatches *step = &prefetch->steps[i];
        step->batches = calloc((size_t)prefetch->capacity + 1, sizeof *step->batches);
        if (!step->batches)
            return error_memory(error, "micro-batches", (size_t)prefetch->capacity * sizeof(MicroBatch));
        for (int64_t m = 0; m < prefetch->capacity; m++)
            if (!micro_batch_create(&step->batches[m], prefetch->plan.tokens, error)) return false;
    }
    return true;
}

// The thread leaves signals to the main thread.
static bool start(Prefetch *prefetch, Error *error) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    prefetch->started = pthread_create(&prefetch->thread, NULL, run, prefetch) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return prefetch->started || error_set(error, "cannot start the thread that prepares batches");
}

Prefetch *prefetch_create(const PrefetchPlan *plan, Error *error) {
    Prefetch *prefetch = calloc(1, sizeof *prefetch);
    size_t size = (size_t)plan->dataset->sequences * sizeof *prefetch->order;
    int64_t *order = malloc(size + 1);
    if (!prefetch || !order) {
        error_memory(error, "the order of the sequences", size);
        free(prefetch);
        free(order);
        return NULL;
    }
    *prefetch = (Prefetch){.plan = *plan, .order = order, .epoch = -1, .given = plan->first_step};
    pthread_mutex_init(&prefetch->mutex, NULL);
    pthread_cond_init(&prefetch->changed, NULL);
    prefetch->capacity = largest_step(prefetch);
    if (make_batches(prefetch, error) && start(prefetch, error)) return prefetch;
    prefetch_free(prefetch);
    return NULL;
}

void prefetch_free(Prefetch *prefetch) {
    if (!prefetch) return;
    pthread_mutex_lock(&prefetch->mutex);
    prefetch->stop = true;
    pthread_cond_signal(&prefetch->changed);
    pthread_mutex_unlock(&prefetch->mutex);
    if (prefetch->started) pthread_join(prefetch->thread, NULL);
    for (int i = 0; i < 2; i++) {
        for (int64_t m = 0; prefetch->steps[i].batches && m < prefetch->capacity; m++)
            micro_batch_free(&prefetch->steps[i].batches[m]);
        free(prefetch->steps[i].batches);
    }
    pthread_cond_destroy(&prefetch->changed);
    pthread_mutex_destroy(&prefetch->mutex);
    free(prefetch->order);
    free(prefetch);
}
