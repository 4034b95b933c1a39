// host_updates.c - see host_updates.h.
#include "train/host_updates.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct HostUpdates {
    Backend *host;
    HostUpdate *list; // [room]
    int room;
    int count; // queued since the list was empty
    int done;  // of them
    bool stop, started;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

static void *run(void *argument) {
    HostUpdates *u = argument;
    pthread_mutex_lock(&u->mutex);
    for (;;) {
        while (u->done == u->count && !u->stop) pthread_cond_wait(&u->changed, &u->mutex);
        if (u->done == u->count) break; // to stop, when all is done
        const HostUpdate *next = &u->list[u->done];
        pthread_mutex_unlock(&u->mutex);
        slot_update(next->slot, next->slot->weights, next->slot->host_gradient, &next->step, &next->rows);
        pthread_mutex_lock(&u->mutex);
        u->done++;
        pthread_cond_broadcast(&u->changed);
    }
    pthread_mutex_unlock(&u->mutex);
    return NULL;
}

// The thread leaves signals to the main thread.
static bool start(HostUpdates *u, Error *error) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    u->started = pthread_create(&u->thread, NULL, run, u) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return u->started || error_set(error, "cannot start the thread that updates weights in host memory");
}

HostUpdates *host_updates_create(int threads, int room, Error *error) {
    HostUpdates *u = calloc(1, sizeof *u);
    HostUpdate *list = calloc((size_t)room, sizeof *list);
    if (!u || !list) {
        free(u);
        free(list);
        error_memory(error, "the list of updates", (size_t)room * sizeof *list);
        return NULL;
    }
    u->list = list;
    u->room = room;
    pthread_mutex_init(&u->mutex, NULL);
    pthread_cond_init(&u->changed, NULL);
    u->host = backend_cpu_create(threads, false, error);
    if (u->host && start(u, error)) return u;
    host_updates_free(u);
    return NULL;
}

void host_updates_free(HostUpdates *u) {
    if (!u) return;
    pthread_mutex_lock(&u->mutex);
    u->stop = true;
    pthread_cond_broadcast(&u->changed);
    pthread_mutex_unlock(&u->mutex);
    if (u->started) pthread_join(u->thread, NULL);
    pthread_cond_destroy(&u->changed);
    pthread_mutex_destroy(&u->mutex);
    if (u->host) u->host->destroy(u->host);
    free(u->list);
    free(u);
}

Backend *host_updates_backend(const HostUpdates *u) {
    return u->host;
}

void host_updates_add(HostUpdates *u, const HostUpdate *update) {
    pthread_mutex_lock(&u->mutex);
    if (u->done == u->count) u->done = u->count = 0;
    u->list[u->count++] = *update;
    pthread_cond_broadcast(&u->changed);
    pthread_mutex_unlock(&u->mutex);
}

// Whether an update of the slot (NULL: any) is not done yet.
static bool is_queued(const HostUpdates *u, const Slot *slot) {
    for (int i = u->done; i < u->count; i++)
        if (!slot || u->list[i].slot == slot) return true;
    return false;
}

void host_updates_wait(HostUpdates *u, const Slot *slot) {
    pthread_mutex_lock(&u->mutex);
    while (is_queued(u, slot)) pthread_cond_wait(&u->changed, &u->mutex);
    pthread_mutex_unlock(&u->mutex);
}
