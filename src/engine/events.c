#include "engine/events.h"

#include "base/mem.h"
#include "base/status.h"

#include <stdatomic.h>
#include <string.h>

#define CHUNK_BYTES 4064 /* about 100 tokens without logprobs; with the header one 4 KiB allocation */

struct event_chunk {
    struct event_chunk *_Atomic next;
    atomic_size_t written; /* bytes that the reader may look at */
    size_t cap;
    _Alignas(8) char bytes[];
};

struct event_record {
    uint32_t n_text, n_top;
    int32_t token;
    float logprob;
    /* sluice_token_prob top[n_top]; char text[n_text]; padding to 8 */
};

static struct event_chunk *chunk_new(size_t cap) {
    struct event_chunk *c = mem_alloc(sizeof *c + cap);
    if (c) {
        atomic_init(&c->next, NULL);
        atomic_init(&c->written, 0);
        c->cap = cap;
    }
    return c;
}

static size_t record_bytes(uint32_t n_text, uint32_t n_top) {
    size_t bytes = sizeof(struct event_record) + n_top * sizeof(sluice_token_prob) + n_text;
    return (bytes + 7) & ~(size_t)7;
}

sluice_status events_init(struct events *q, sluice_error *err) {
    struct event_chunk *first = chunk_new(CHUNK_BYTES);
    if (!first) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the events of a request");
    }
    q->head = q->tail = first;
    q->read_at = 0;
    atomic_init(&q->recycled, NULL);
    return SLUICE_OK;
}

void events_free(struct events *q) {
    while (q->head) {
        struct event_chunk *next = atomic_load(&q->head->next);
        mem_free(q->head);
        q->head = next;
    }
    mem_free(atomic_load(&q->recycled));
    atomic_store(&q->recycled, NULL);
}

/* A chunk with room for `need` bytes behind the present one. */
static struct event_chunk *extend(struct events *q, size_t need) {
    struct event_chunk *c = NULL;
    if (need <= CHUNK_BYTES) {
        c = atomic_exchange(&q->recycled, NULL);
        if (c) {
            atomic_store_explicit(&c->next, NULL, memory_order_relaxed);
            atomic_store_explicit(&c->written, 0, memory_order_relaxed);
        }
    }
    if (!c) {
        c = chunk_new(need > CHUNK_BYTES ? need : CHUNK_BYTES);
    }
    return c;
}

sluice_status events_put(struct events *q, const struct sample *sample, const char *text, size_t n_text,
                         sluice_error *err) {
    struct event_record record = {
        .n_text = (uint32_t)n_text, .n_top = sample->n_top, .token = sample->token, .logprob = sample->logprob};
    size_t need = record_bytes(record.n_text, record.n_top);
    struct event_chunk *c = q->tail;
    size_t at = atomic_load_explicit(&c->written, memory_order_relaxed);
    if (need > c->cap - at) {
        c = extend(q, need);
        if (!c) {
            return fail(err, SLUICE_E_NOMEM, "out of memory for the events of a request");
        }
        at = 0;
    }
    char *p = c->bytes + at;
    memcpy(p, &record, sizeof record);
    p += sizeof record;
    memcpy(p, sample->top, record.n_top * sizeof sample->top[0]);
    p += record.n_top * sizeof sample->top[0];
    if (n_text > 0) {
        memcpy(p, text, n_text);
    }
    atomic_store_explicit(&c->written, at + need, memory_order_release);
    if (c != q->tail) {
        atomic_store_explicit(&q->tail->next, c, memory_order_release);
        q->tail = c;
    }
    return SLUICE_OK;
}

/* Gives a read chunk back for reuse, or frees it if one is already on its way or it has a size of its own. */
static void give_back(struct events *q, struct event_chunk *c) {
    if (c->cap == CHUNK_BYTES) {
        c = atomic_exchange(&q->recycled, c);
    }
    mem_free(c);
}

bool events_take(struct events *q, sluice_event *event) {
    struct event_chunk *c = q->head;
    /* next before written: once a next chunk is seen, nothing more is written to this one */
    struct event_chunk *next = atomic_load_explicit(&c->next, memory_order_acquire);
    if (q->read_at == atomic_load_explicit(&c->written, memory_order_acquire)) {
        if (!next) {
            return false;
        }
        q->head = next;
        q->read_at = 0;
        give_back(q, c);
        c = next; /* a chunk is linked with its first record in place */
    }
    struct event_record record;
    const char *p = c->bytes + q->read_at;
    memcpy(&record, p, sizeof record);
    p += sizeof record;
    event->token = record.token;
    event->logprob = record.logprob;
    event->n_top = record.n_top;
    memcpy(event->top, p, record.n_top * sizeof event->top[0]);
    event->text = p + record.n_top * sizeof event->top[0];
    event->text_len = record.n_text;
    q->read_at += record_bytes(record.n_text, record.n_top);
    return true;
}
