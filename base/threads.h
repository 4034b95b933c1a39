// threads.h - a pool of threads that share the indices of one loop at a time.
//
// The only threads that compute: OpenBLAS is kept at one thread and called from here, so the two never compete.
#pragma once
#include "base/error.h"
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ThreadPool ThreadPool;

// The body of a loop: called once for each index in [0, count), on any thread; worker is in [0, threads).
typedef void ThreadTask(void *context, int64_t index, int worker);

// threads >= 1, the calling thread included; 0 takes one per processor of this process' affinity mask.
ThreadPool *thread_pool_create(int threads, Error *error);
void thread_pool_free(ThreadPool *pool); // NULL is allowed
int thread_pool_size(const ThreadPool *pool);

// Runs the loop and returns when every index is done. Not to be called from inside a task.
void thread_pool_run(ThreadPool *pool, int64_t count, ThreadTask *task, void *context);

#ifdef __cplusplus
}
#endif
