/*
 * Saving the prefix cache to a file and taking it in again. Both run on the caller's thread while the engine computes;
 * the engine thread gives each of them short moments between steps.
 *
 * Saving lists the nodes, then copies one page after another; a node is kept from being given up only while its bytes
 * are copied, not while the copy goes to the disk. What is given up before its turn is left out, with all below it.
 *
 * Restoring reads the file into private pages, which nobody sees, and makes nodes of them only once the last byte has
 * been checked: all of a file is taken in, as far as pages are free, or nothing. A record whose node the tree has
 * already stands for that node.
 */
#include "engine/engine.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/status.h"

#include <stdio.h>
#include <string.h>

static void clear_pages(sluice_engine *e, void *arg) {
    (void)arg;
    pages_clear(e->pages);
}

void sluice_engine_clear_cache(sluice_engine *e) {
    (void)engine_call(e, clear_pages, NULL);
}

#if SLUICE_WITH_HASH

#include "engine/state_file.h"

#define BATCH_BYTES (8u << 20) /* of pages read before the engine thread is asked for room */
#define BATCH_MAX   64u
#define INSERTS     256u /* nodes made between two steps: well under a millisecond */

static sluice_status make_header(const sluice_engine *e, struct state_header *out, sluice_error *err) {
    const char *fingerprint = e->model->info.fingerprint, *format = e->caps->page_format;
    *out = (struct state_header){.page_bytes = e->caps->page_bytes};
    if (!fingerprint || strlen(fingerprint) != sizeof out->fingerprint - 1) {
        return fail(err, SLUICE_E_UNSUPPORTED,
                    "the cache cannot be saved: the model %s has no fingerprint to bind it to", e->model->info.name);
    }
    if (!e->ops->page_save || !e->ops->page_load || !format || strlen(format) >= sizeof out->page_format) {
        return fail(err, SLUICE_E_UNSUPPORTED, "the cache cannot be saved: backend %s does not give its pages out",
                    e->caps->name);
    }
    strcpy(out->fingerprint, fingerprint);
    strcpy(out->page_format, format);
    return SLUICE_OK;
}

static sluice_status closing(sluice_error *err) {
    return fail(err, SLUICE_E_CANCELLED, "the engine is closing");
}

static sluice_status no_memory(const char *what, sluice_error *err) {
    return fail(err, SLUICE_E_NOMEM, "out of memory for %s the cache", what);
}

static void fill_info(sluice_state_info *info, uint32_t n_pages, uint64_t n_bytes) {
    if (info) {
        *info =
            (sluice_state_info){.n_pages = n_pages, .n_tokens = (uint64_t)n_pages * KV_PAGE_TOKENS, .n_bytes = n_bytes};
    }
}

/* ---- Saving ------------------------------------------------------------------------------------------------ */

struct save {
    struct state_writer *writer;
    uint32_t *nodes;  /* [n_nodes] parents first */
    uint32_t *number; /* [pages] of the record that a node became; STATE_ROOT: none */
    uint8_t *page;    /* [page_bytes] */
    uint32_t n_nodes, n_records;
};

static void mark_pages(sluice_engine *e, void *arg) {
    struct save *s = arg;
    s->n_nodes = pages_mark(e->pages, s->nodes);
}

/* Copies a node and writes the copy. A failure of the backend or the disk ends the save. */
static sluice_status save_node(sluice_engine *e, struct save *s, uint32_t node, sluice_error *err) {
    uint32_t parent;
    const int32_t *there;
    int32_t tokens[KV_PAGE_TOKENS];
    if (!pages_begin_write(e->pages, node, &parent, &there)) {
        return SLUICE_OK;
    }
    memcpy(tokens, there, sizeof tokens);
    sluice_status status = e->ops->page_save(e->backend, node, s->page, err);
    pages_end_write(e->pages, node);
    TRY(status);
    uint32_t above = parent == PAGE_NONE ? STATE_ROOT : s->number[parent];
    TRY(state_writer_put(s->writer, above, tokens, s->page, err));
    s->number[node] = s->n_records++;
    return SLUICE_OK;
}

static sluice_status save_nodes(sluice_engine *e, struct save *s, sluice_error *err) {
    if (!engine_call(e, mark_pages, s)) {
        return closing(err);
    }
    sluice_status status = SLUICE_OK;
    for (uint32_t i = 0; i < s->n_nodes && status == SLUICE_OK; i++) {
        status = save_node(e, s, s->nodes[i], err);
    }
    pages_unmark(e->pages);
    return status;
}

static sluice_status save_all(sluice_engine *e, const char *path, struct save *s, sluice_state_info *info,
                              sluice_error *err) {
    struct state_header header;
    uint32_t n_pages = pages_count(e->pages).total;
    uint64_t n_bytes;
    TRY(make_header(e, &header, err));
    s->nodes = mem_alloc(n_pages * sizeof *s->nodes);
    s->number = mem_alloc(n_pages * sizeof *s->number);
    s->page = mem_alloc(e->caps->page_bytes);
    if (!s->nodes || !s->number || !s->page) {
        return no_memory("saving", err);
    }
    memset(s->number, 0xff, n_pages * sizeof *s->number); /* STATE_ROOT */
    TRY(state_writer_open(path, &header, &s->writer, err));
    TRY(save_nodes(e, s, err));
    struct state_writer *writer = s->writer;
    s->writer = NULL;
    TRY(state_writer_finish(writer, &n_bytes, err));
    fill_info(info, s->n_records, n_bytes);
    return SLUICE_OK;
}

sluice_status sluice_engine_save(sluice_engine *e, const char *path, sluice_state_info *info, sluice_error *err) {
    struct save s = {0};
    if (atomic_exchange(&e->saving, true)) {
        return fail(err, SLUICE_E_BUSY, "this engine's cache is being saved already; try again later");
    }
    sluice_status status = save_all(e, path, &s, info, err);
    state_writer_abandon(s.writer);
    mem_free(s.nodes);
    mem_free(s.number);
    mem_free(s.page);
    atomic_store(&e->saving, false);
    return status;
}

/* ---- Restoring --------------------------------------------------------------------------------------------- */

/* A record in a private page, to become a node. */
struct fresh {
    uint32_t record, parent; /* record numbers */
    bool own;                /* its node is the page that we filled */
    int32_t tokens[KV_PAGE_TOKENS];
};

struct restore {
    struct state_reader *reader;
    /* of each record so far: a node that we hold, our private page, or PAGE_NONE: not taken in */
    uint32_t *where;
    uint32_t n_records, cap_records;
    struct fresh *fresh;
    uint32_t n_fresh, cap_fresh;

    struct fresh batch[BATCH_MAX]; /* read, not yet placed */
    bool placed[BATCH_MAX];        /* in a page of our own */
    uint8_t *pages;                /* [batch_max][page_bytes] */
    uint32_t n_batch, batch_max;
    uint32_t n_inserted; /* fresh ones that are nodes now */
    uint32_t n_taken_in;
};

/* Makes room for n more of what *array holds. */
static bool grow(void *array, uint32_t n, uint32_t *cap, size_t elem_bytes, uint32_t more) {
    if (more <= *cap - n) {
        return true;
    }
    uint32_t bigger = *cap < BATCH_MAX ? 2 * BATCH_MAX : 2 * *cap;
    void *old;
    memcpy(&old, array, sizeof old);
    void *grown = bigger > *cap ? mem_realloc(old, bigger * elem_bytes) : NULL;
    if (!grown) {
        return false;
    }
    memcpy(array, &grown, sizeof grown);
    *cap = bigger;
    return true;
}

static uint32_t place_of(const struct restore *r, uint32_t record) {
    return record == STATE_ROOT ? PAGE_NONE : r->where[record];
}

/* Finds a node or a free page for each record of the batch. */
static void place_batch(sluice_engine *e, void *arg) {
    struct restore *r = arg;
    for (uint32_t i = 0; i < r->n_batch; i++) {
        const struct fresh *f = &r->batch[i];
        uint32_t parent = place_of(r, f->parent);
        uint32_t *where = &r->where[f->record];
        *where = PAGE_NONE;
        r->placed[i] = false;
        if (f->parent != STATE_ROOT && parent == PAGE_NONE) {
            continue;
        }
        if (f->parent == STATE_ROOT || pages_is_node(e->pages, parent)) {
            *where = pages_child(e->pages, parent, f->tokens);
        }
        if (*where != PAGE_NONE) {
            pages_hold(e->pages, *where);
        } else {
            *where = pages_take_free(e->pages);
            r->placed[i] = *where != PAGE_NONE;
        }
    }
}

static void insert_some(sluice_engine *e, void *arg) {
    struct restore *r = arg;
    uint32_t end = r->n_fresh - r->n_inserted < INSERTS ? r->n_fresh : r->n_inserted + INSERTS;
    for (; r->n_inserted < end; r->n_inserted++) {
        struct fresh *f = &r->fresh[r->n_inserted];
        uint32_t page = r->where[f->record];
        uint32_t node = pages_insert(e->pages, place_of(r, f->parent), f->tokens, page);
        pages_hold(e->pages, node);
        pages_give(e->pages, page); /* ignored if it is the node; else a request was there first */
        r->where[f->record] = node;
        f->own = node == page;
    }
}

/* Of everything that restoring has: nodes become cached, as far as the cache's budget goes, pages that are none become
 * free. */
static void let_go(sluice_engine *e, void *arg) {
    struct restore *r = arg;
    for (uint32_t i = 0; i < r->n_records; i++) {
        if (r->where[i] == PAGE_NONE) {
            continue;
        }
        if (pages_is_node(e->pages, r->where[i])) {
            pages_release(e->pages, r->where[i]);
        } else {
            pages_give(e->pages, r->where[i]);
        }
    }
    for (uint32_t i = 0; i < r->n_inserted; i++) {
        r->n_taken_in += r->fresh[i].own && pages_is_node(e->pages, r->where[r->fresh[i].record]);
    }
}

/* Gives the batch's records their places and fills the private ones. */
static sluice_status take_batch(sluice_engine *e, struct restore *r, sluice_error *err) {
    if (!grow(&r->fresh, r->n_fresh, &r->cap_fresh, sizeof *r->fresh, r->n_batch) ||
        !grow(&r->where, r->n_records, &r->cap_records, sizeof *r->where, r->n_batch)) {
        return no_memory("restoring", err);
    }
    if (!engine_call(e, place_batch, r)) {
        return closing(err);
    }
    r->n_records += r->n_batch;
    for (uint32_t i = 0; i < r->n_batch; i++) {
        const struct fresh *f = &r->batch[i];
        if (r->placed[i]) {
            r->fresh[r->n_fresh++] = *f;
            TRY(e->ops->page_load(e->backend, r->where[f->record], r->pages + i * e->caps->page_bytes, err));
        }
    }
    return SLUICE_OK;
}

static sluice_status read_batch(sluice_engine *e, struct restore *r, bool *end, sluice_error *err) {
    *end = false;
    for (r->n_batch = 0; r->n_batch < r->batch_max; r->n_batch++) {
        struct fresh *f = &r->batch[r->n_batch];
        TRY(state_reader_next(r->reader, e->model->info.n_vocab, &f->parent, f->tokens,
                              r->pages + r->n_batch * e->caps->page_bytes, end, err));
        if (*end) {
            break;
        }
        f->record = r->n_records + r->n_batch;
    }
    return SLUICE_OK;
}

static sluice_status read_all(sluice_engine *e, const char *path, const struct state_header *header, struct restore *r,
                              sluice_error *err) {
    uint64_t fit = BATCH_BYTES / (header->page_bytes + 1) + 1;
    r->batch_max = fit < BATCH_MAX ? (uint32_t)fit : BATCH_MAX;
    r->pages = mem_alloc(r->batch_max * header->page_bytes);
    if (!r->pages) {
        return no_memory("restoring", err);
    }
    TRY(state_reader_open(path, header, &r->reader, err));
    bool end = false;
    while (!end) {
        TRY(read_batch(e, r, &end, err));
        TRY(take_batch(e, r, err));
    }
    return SLUICE_OK;
}

static sluice_status insert_all(sluice_engine *e, struct restore *r, sluice_error *err) {
    while (r->n_inserted < r->n_fresh) {
        if (!engine_call(e, insert_some, r)) {
            return closing(err);
        }
    }
    return SLUICE_OK;
}

/* Out of the way of the next save and of the next start, and told so. */
static void refuse_file(const char *path, sluice_error *err) {
    state_set_aside(path);
    if (err) {
        size_t n = strlen(err->text);
        snprintf(err->text + n, sizeof err->text - n, "; the file was set aside with .refused behind its name");
    }
}

static sluice_status restore(sluice_engine *e, const char *path, struct restore *r, sluice_state_info *info,
                             sluice_error *err) {
    struct state_header header;
    TRY(make_header(e, &header, err));
    sluice_status status = read_all(e, path, &header, r, err);
    if (status == SLUICE_E_FORMAT || status == SLUICE_E_UNSUPPORTED) {
        refuse_file(path, err);
    }
    status = status == SLUICE_OK ? insert_all(e, r, err) : status;
    if (!engine_call(e, let_go, r)) { /* it takes its pages with it */
        return status == SLUICE_OK ? closing(err) : status;
    }
    if (status == SLUICE_OK) {
        fill_info(info, r->n_taken_in, state_reader_bytes(r->reader));
    }
    return status;
}

sluice_status sluice_engine_restore(sluice_engine *e, const char *path, sluice_state_info *info, sluice_error *err) {
    struct restore *r = mem_calloc(1, sizeof *r);
    if (!r) {
        return no_memory("restoring", err);
    }
    sluice_status status = restore(e, path, r, info, err);
    state_reader_free(r->reader);
    mem_free(r->where);
    mem_free(r->fresh);
    mem_free(r->pages);
    mem_free(r);
    return status;
}

#else

sluice_status sluice_engine_save(sluice_engine *e, const char *path, sluice_state_info *info, sluice_error *err) {
    (void)e, (void)info;
    return fail(err, SLUICE_E_UNSUPPORTED,
                "the cache cannot be saved to %s: this build was made without libraries (make engine)", path);
}

sluice_status sluice_engine_restore(sluice_engine *e, const char *path, sluice_state_info *info, sluice_error *err) {
    (void)e, (void)info;
    return fail(err, SLUICE_E_UNSUPPORTED,
                "the cache cannot be restored from %s: this build was made without libraries (make engine)", path);
}

#endif
