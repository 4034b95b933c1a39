// threads.c - see threads.h.
//
// Workers sleep on a condition between loops. The caller posts a loop by raising `generation`; indices are handed out
// by an atomic counter, and the loop ends when the last worker has left it, so `task` and `context` may live on the
// caller's stack.
#include "base/threads.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define THREADS_MAX 1024
#define SPINS       2000 // looks at the counter before sleeping: loops follow each other within microseconds

typedef struct Worker {
    ThreadPool *pool;
    pthread_t thread;
    int index; // 1 .. size-1; 0 is the calling thread
} Worker;

struct ThreadPool {
    int size;
    Worker *workers; // [size - 1]
    int started;     // threads that exist
    pthread_mutex_t mutex;
    pthread_cond_t posted;   // generation changed or stop
    pthread_cond_t finished; // busy fell to 0
    atomic_uint generation;  // number of loops posted
    atomic_int busy;         // workers still inside the current loop
    bool stop;
    ThreadTask *task;
    void *context;
    int64_t count;
    atomic_int_fast64_t next; // the next index to hand out
};

static void take_indices(ThreadPool *pool, int worker) {
    for (;;) {
        int64_t index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (index >= pool->count) return;
        pool->task(pool->context, index, worker);
    }
}

static void wait_for_loop(ThreadPool *pool, unsigned seen) {
    for (int spin = 0; spin < SPINS; spin++)
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) return;
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->posted, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

static void *worker_main(void *argument) {
    Worker *worker = argument;
    ThreadPool *pool = worker->pool;
    for (unsigned seen = 0;; seen++) {
        wait_for_loop(pool, seen);
        if (pool->stop) return NULL;
        take_indices(pool, worker->index);
        if (atomic_fetch_sub_explicit(&pool->busy, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&pool->mutex);
            pthread_cond_signal(&pool->finished);
            pthread_mutex_unlock(&pool->mutex);
        }
    }
}

static void post(ThreadPool *pool) {
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->busy, pool->size - 1);
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_release);
    pthread_cond_broadcast(&pool->posted);
    pthread_mutex_unlock(&pool->mutex);
}

void thread_pool_run(ThreadPool *pool, int64_t count, ThreadTask *task, void *context) {
    if (count <= 0) return;
    if (pool->size == 1 || count == 1) {
        for (int64_t index = 0; index < count; index++) task(context, index, 0);
        return;
    }
    pool->task = task;
    pool->context = context;
    pool->count = count;
    atomic_store(&pool->next, 0);
    post(pool);
    take_indices(pool, 0);
    for (int spin = 0; spin < SPINS; spin++)
        if (atomic_load_explicit(&pool->busy, memory_order_acquire) == 0) return;
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(&pool->busy) != 0) pthread_cond_wait(&pool->finished, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

static int processors(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

ThreadPool *thread_pool_create(int threads, Error *error) {
    if (threads == 0) threads = processors();
    if (threads < 1 || threads > THREADS_MAX) {
        error_usage(error, "threads: %d is out of range (1 to %d)", threads, THREADS_MAX);
        return NULL;
    }
    ThreadPool *pool = calloc(1, sizeof *pool);
    Worker *workers = calloc((size_t)threads, sizeof *workers);
    if (!pool || !workers) {
        error_memory(error, "the thread pool", (size_t)threads * sizeof *workers);
        free(pool);
        free(workers);
        return NULL;
    }
    pool->size = threads;
    pool->workers = workers;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->posted, NULL);
    pthread_cond_init(&pool->finished, NULL);
    for (int i = 0; i < threads - 1; i++) {
        workers[i] = (Worker){.pool = pool, .index = i + 1};
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0) {
            error_set(error, "cannot start thread %d of %d", i + 2, threads);
            error_hint(error, "use fewer threads: -t 4");
            thread_pool_free(pool);
            return NULL;
        }
        pool->started++;
    }
    return pool;
}

void thread_pool_free(ThreadPool *pool) {
    if (!pool) return;
    pthread_mutex_lock(&pool->mutex);
    pool->stop = true;
    atomic_fetch_add(&pool->generation, 1);
    pthread_cond_broadcast(&pool->posted);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->started; i++) pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->posted);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->workers);
    free(pool);
}

int thread_pool_size(const ThreadPool *pool) {
    return pool->size;
}
