#include "server/hangup.h"

#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 64

struct hangup_entry {
    uint64_t serial; /* 1, 2, ...: names the entry in epoll, where a freed one's address could come back */
    int fd;
    void *ctx;
    struct hangup_entry *prev, *next;
};

struct hangup {
    void (*gone)(void *ctx);
    int epoll_fd, stop_fd;
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    struct hangup_entry *entries;
    uint64_t last_serial;
};

/* epoll hands back events that were collected before an entry was forgotten: only the list says what still exists. */
static struct hangup_entry *find(const struct hangup *h, uint64_t serial) {
    struct hangup_entry *e = h->entries;
    while (e && e->serial != serial) {
        e = e->next;
    }
    return e;
}

static void *watch(void *ctx) {
    struct hangup *h = ctx;
    struct epoll_event events[EVENTS_AT_ONCE];
    for (;;) {
        int n = epoll_wait(h->epoll_fd, events, EVENTS_AT_ONCE, -1);
        if (n < 0 && errno != EINTR) {
            return NULL;
        }
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == 0) {
                return NULL; /* stop_fd */
            }
            pthread_mutex_lock(&h->lock);
            struct hangup_entry *e = find(h, events[i].data.u64);
            if (e) {
                h->gone(e->ctx); /* under the lock: hangup_forget waits for it */
            }
            pthread_mutex_unlock(&h->lock);
        }
    }
}

static sluice_status open_descriptors(struct hangup *h, sluice_error *err) {
    h->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    h->stop_fd = eventfd(0, EFD_CLOEXEC);
    struct epoll_event stop = {.events = EPOLLIN, .data.u64 = 0};
    if (h->epoll_fd < 0 || h->stop_fd < 0 || epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, h->stop_fd, &stop) != 0) {
        return fail(err, SLUICE_E_IO, "cannot watch connections: %s", strerror(errno));
    }
    return SLUICE_OK;
}

sluice_status hangup_start(void (*gone)(void *ctx), struct hangup **out, sluice_error *err) {
    *out = NULL;
    struct hangup *h = mem_calloc(1, sizeof *h);
    if (!h) {
        return fail(err, SLUICE_E_NOMEM, "no memory to watch connections");
    }
    *h = (struct hangup){.gone = gone, .epoll_fd = -1, .stop_fd = -1};
    pthread_mutex_init(&h->lock, NULL);
    sluice_status s = open_descriptors(h, err);
    if (s == SLUICE_OK) {
        int e = pthread_create(&h->thread, NULL, watch, h);
        h->running = e == 0;
        s = e == 0 ? SLUICE_OK : fail(err, SLUICE_E_IO, "cannot start a server thread: %s", strerror(e));
    }
    if (s != SLUICE_OK) {
        hangup_stop(h);
        return s;
    }
    *out = h;
    return SLUICE_OK;
}

struct hangup_entry *hangup_watch(struct hangup *h, int fd, void *ctx) {
    struct hangup_entry *e = mem_alloc(sizeof *e);
    if (!e) {
        return NULL;
    }
    *e = (struct hangup_entry){.fd = fd, .ctx = ctx};
    pthread_mutex_lock(&h->lock);
    e->serial = ++h->last_serial;
    e->next = h->entries;
    if (e->next) {
        e->next->prev = e;
    }
    h->entries = e;
    pthread_mutex_unlock(&h->lock);
    /* One shot: a hung-up socket would report itself for ever. */
    struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = e->serial};
    if (epoll_ctl(h->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0) {
        e->fd = -1;
        hangup_forget(h, e);
        return NULL;
    }
    return e;
}

void hangup_forget(struct hangup *h, struct hangup_entry *entry) {
    if (!entry) {
        return;
    }
    if (entry->fd >= 0) {
        epoll_ctl(h->epoll_fd, EPOLL_CTL_DEL, entry->fd, NULL);
    }
    pthread_mutex_lock(&h->lock);
    if (entry->prev) {
        entry->prev->next = entry->next;
    } else {
        h->entries = entry->next;
    }
    if (entry->next) {
        entry->next->prev = entry->prev;
    }
    pthread_mutex_unlock(&h->lock);
    mem_free(entry);
}

void hangup_stop(struct hangup *h) {
    if (!h) {
        return;
    }
    if (h->running) {
        uint64_t one = 1;
        while (write(h->stop_fd, &one, sizeof one) < 0 && errno == EINTR) {
        }
        pthread_join(h->thread, NULL);
    }
    if (h->epoll_fd >= 0) {
        close(h->epoll_fd);
    }
    if (h->stop_fd >= 0) {
        close(h->stop_fd);
    }
    pthread_mutex_destroy(&h->lock);
    mem_free(h);
}
