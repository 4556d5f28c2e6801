// Threads that wait for files in the loop's place. They come when there is work and nobody free to do it, and stay until the
// loop ends. The loop is woken by its eventfd when something is done, once for all that it has not taken yet.
//
// Operations that are under way at once have no order, as on a ring: whoever wants one starts the second when the first has
// completed. Where the kernel gives no thread, the loop's own does the work, and waits.
#include "epoll.h"

#include <signal.h>
#include <stdlib.h>

static void put_done(struct epoll *epoll, struct job *job) {
    struct job *before = atomic_load_explicit(&epoll->pool.done, memory_order_relaxed);
    do
        job->next = before;
    while (!atomic_compare_exchange_weak_explicit(&epoll->pool.done, &before, job,
                                                  memory_order_release, memory_order_relaxed));
    if (before == NULL)
        sc_epoll_wake(&epoll->base, NULL);
}

// With the lock held, as on return. NULL: the pool ends, and nothing is left to do.
static struct job *next_job(struct pool *pool) {
    while (pool->first == NULL && !pool->ending) {
        pool->idle++;
        pthread_cond_wait(&pool->work, &pool->lock);
        pool->idle--;
    }
    struct job *job = pool->first;
    if (job != NULL) {
        pool->waiting--;
        pool->first = job->next;
        if (pool->first == NULL)
            pool->last = NULL;
    }
    return job;
}

static void *thread_main(void *argument) {
    struct epoll *epoll = argument;
    struct pool *pool = &epoll->pool;
    pthread_setname_np(pthread_self(), "stream-files");
    pthread_mutex_lock(&pool->lock);
    struct job *job;
    while ((job = next_job(pool)) != NULL) {
        pthread_mutex_unlock(&pool->lock);
        sc_epoll_job_run(job);
        put_done(epoll, job);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

// Signals are for the threads that the program has for them.
static bool start_thread(struct epoll *epoll) {
    struct pool *pool = &epoll->pool;
    pthread_attr_t attributes;
    sigset_t all;
    sigfillset(&all);
    if (pthread_attr_init(&attributes) != 0)
        return false;
    bool started =
        pthread_attr_setstacksize(&attributes, SC_EPOLL_THREAD_STACK) == 0 &&
        pthread_attr_setsigmask_np(&attributes, &all) == 0 &&
        pthread_create(&pool->threads[pool->count], &attributes, thread_main, epoll) == 0;
    pthread_attr_destroy(&attributes);
    pool->count += started;
    return started;
}

int sc_epoll_pool_open(struct epoll *epoll) {
    int rc = pthread_mutex_init(&epoll->pool.lock, NULL);
    if (rc == 0 && (rc = pthread_cond_init(&epoll->pool.work, NULL)) != 0)
        pthread_mutex_destroy(&epoll->pool.lock);
    epoll->pool.open = rc == 0;
    return -rc;
}

void sc_epoll_pool_close(struct epoll *epoll) {
    struct pool *pool = &epoll->pool;
    if (!pool->open)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    sc_epoll_pool_take(epoll); // Of a loop that is broken: nobody is told.
}

void sc_epoll_pool_put(struct epoll *epoll, struct job *job) {
    struct pool *pool = &epoll->pool;
    pthread_mutex_lock(&pool->lock);
    bool free = pool->idle > pool->waiting;
    if (!free && pool->count < SC_EPOLL_THREADS_MAX && !start_thread(epoll) && pool->count == 0) {
        pthread_mutex_unlock(&pool->lock);
        sc_epoll_job_run(job);
        put_done(epoll, job);
        return;
    }
    job->next = NULL;
    if (pool->last == NULL)
        pool->first = job;
    else
        pool->last->next = job;
    pool->last = job;
    pool->waiting++;
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}

void sc_epoll_pool_take(struct epoll *epoll) {
    struct job *job = atomic_exchange_explicit(&epoll->pool.done, NULL, memory_order_acquire);
    struct job *first = NULL;
    while (job != NULL) { // The last one came first.
        struct job *next = job->next;
        job->next = first;
        first = job;
        job = next;
    }
    while (first != NULL) {
        struct job *next = first->next;
        sc_epoll_finish(epoll, sc_tag(SC_KIND_FILE, (uint64_t)(uintptr_t)first->op),
                        (int32_t)first->result, 0);
        first->next = epoll->spare_jobs;
        epoll->spare_jobs = first;
        first = next;
    }
}
