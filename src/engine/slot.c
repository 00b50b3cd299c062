/*
 * What a running request holds: its page table and its place in the prefix tree.
 *
 * Pages [0, n_filed) are spelled by the path to `node`. Normally they are that path's own pages. Where another request
 * computed the same page first, the tree has its page and this request keeps its own, private one: swapping them in the
 * middle of a sequence could show on a backend whose prompt and generated classes differ.
 */
#include "engine/engine.h"

#include "base/clock.h"

void slot_count(sluice_engine *e, struct slot *s, uint32_t first, uint32_t end, bool found) {
    sluice_request *r = s->request;
    if (first == end) { /* what lies before is not counted yet if a step under way computes it */
        return;
    }
    uint32_t fresh = first > r->n_counted ? first : r->n_counted;
    if (fresh > end) {
        fresh = end;
    }
    uint32_t prompt_end = end < r->n_prompt ? end : r->n_prompt;
    uint32_t prompt = prompt_end > fresh ? prompt_end - fresh : 0;
    if (found) {
        r->timings.cache_n += prompt;
        atomic_store(&r->cached, r->timings.cache_n);
        atomic_fetch_add(&e->count.cached_tokens, prompt);
    } else {
        r->timings.prompt_n += prompt;
        atomic_fetch_add(&e->count.prompt_tokens, prompt);
        atomic_fetch_add(&e->count.recomputed_tokens, fresh - first);
    }
    r->n_counted = end > r->n_counted ? end : r->n_counted;
    atomic_store(&s->seen_prompt_done, prompt_end);
}

void slot_leap(sluice_engine *e, struct slot *s) {
    sluice_request *r = s->request;
    bool at_boundary = s->n_past == s->n_filed * KV_PAGE_TOKENS && s->n_done == s->n_past;
    while (at_boundary && !r->no_cache && s->n_past + KV_PAGE_TOKENS < r->n_tokens) {
        uint32_t child = pages_child(e->pages, s->node, r->tokens + s->n_past);
        if (child == PAGE_NONE) {
            break;
        }
        pages_descend(e->pages, child);
        while (s->n_pages > s->n_filed) {
            pages_give(e->pages, s->pages[--s->n_pages]);
        }
        s->pages[s->n_pages++] = child;
        s->node = child;
        s->n_filed++;
        s->n_past = s->n_done = s->n_filed * KV_PAGE_TOKENS;
        s->resume = true;
    }
}

bool slot_reserve(sluice_engine *e, struct slot *s, uint32_t n) {
    uint32_t need = plan_pages(n);
    while (s->n_pages < need) {
        uint32_t page = pages_take(e->pages);
        if (page == PAGE_NONE) {
            return false;
        }
        s->pages[s->n_pages++] = page;
    }
    return true;
}

void slot_file(sluice_engine *e, struct slot *s) {
    sluice_request *r = s->request;
    while (!r->no_cache && (s->n_filed + 1) * KV_PAGE_TOKENS <= s->n_done) {
        const int32_t *tokens = r->tokens + s->n_filed * KV_PAGE_TOKENS;
        s->node = pages_insert(e->pages, s->node, tokens, s->pages[s->n_filed]);
        s->n_twins += s->node != s->pages[s->n_filed++];
        pages_descend(e->pages, s->node);
    }
}

void slot_assign(sluice_engine *e, struct slot *s, sluice_request *r) {
    s->request = r;
    s->epoch++;
    s->node = PAGE_NONE;
    s->n_filed = s->n_twins = s->n_past = s->n_done = s->n_due = 0;
    s->resume = s->drafts_due = s->may_draft = false;
    if (s->index) {
        draft_index_reset(s->index);
        draft_record_reset(&s->drafts);
        s->match = 0;
    }
    atomic_store(&s->seen_prompt, r->n_prompt);
    atomic_store(&s->seen_prompt_done, 0);
    atomic_store(&s->seen_generated, request_generated(r));
    atomic_store(&s->seen_id, r->id);
    slot_leap(e, s);
}

void slot_release(sluice_engine *e, struct slot *s) {
    for (uint32_t i = 0; i < s->n_pages; i++) {
        pages_give(e->pages, s->pages[i]);
    }
    s->n_pages = 0;
    pages_release(e->pages, s->node);
    s->node = PAGE_NONE;
    s->request = NULL;
    s->epoch++;
    atomic_store(&s->seen_id, 0);
}
