#include "server/workers.h"

#include "base/mem.h"
#include "base/status.h"

#include <pthread.h>
#include <string.h>

#define N_WORKERS 2

struct workers {
    void (*run)(struct worker_item *item);
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct worker_item *first, **last;
    bool finish;
    int n_threads;
    pthread_t threads[N_WORKERS];
};

static void *work(void *ctx) {
    struct workers *w = ctx;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->first && !w->finish) {
            pthread_cond_wait(&w->more, &w->lock);
        }
        struct worker_item *item = w->first;
        if (!item) {
            break;
        }
        w->first = item->next;
        if (!w->first) {
            w->last = &w->first;
        }
        pthread_mutex_unlock(&w->lock);
        w->run(item); /* item may be gone when this returns */
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

sluice_status workers_start(void (*run)(struct worker_item *item), struct workers **out, sluice_error *err) {
    struct workers *w = mem_calloc(1, sizeof *w);
    *out = NULL;
    if (!w) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the server's threads");
    }
    w->run = run;
    w->last = &w->first;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    while (w->n_threads < N_WORKERS) {
        int e = pthread_create(&w->threads[w->n_threads], NULL, work, w);
        if (e != 0) {
            workers_free(w);
            return fail(err, SLUICE_E_IO, "cannot start a server thread: %s", strerror(e));
        }
        w->n_threads++;
    }
    *out = w;
    return SLUICE_OK;
}

bool workers_submit(struct workers *w, struct worker_item *item) {
    item->next = NULL;
    pthread_mutex_lock(&w->lock);
    bool ok = !w->finish;
    if (ok) {
        *w->last = item;
        w->last = &item->next;
        pthread_cond_signal(&w->more);
    }
    pthread_mutex_unlock(&w->lock);
    return ok;
}

void workers_finish(struct workers *w) {
    pthread_mutex_lock(&w->lock);
    w->finish = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    for (int i = 0; i < w->n_threads; i++) {
        pthread_join(w->threads[i], NULL);
    }
    w->n_threads = 0;
}

void workers_free(struct workers *w) {
    if (w) {
        workers_finish(w);
        pthread_cond_destroy(&w->more);
        pthread_mutex_destroy(&w->lock);
        mem_free(w);
    }
}
