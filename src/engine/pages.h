/*
 * KV pages, and the prefix tree over them.
 *
 * A page is free, private to one request, or a node of the tree. A node stands for KV_PAGE_TOKENS tokens behind those
 * of its parent; the path from the root spells a prefix whose K, V and conv state need not be computed again. A page is
 * at most one node, so a node's name is its page's number, and no operation here allocates.
 *
 * A request holds the deepest node of its path, and thereby every node above. What nobody holds is cached: it is given
 * up, least recently used first and leaves before their parents, when a page is needed or the cache is over its budget.
 *
 * The engine thread's alone, except where noted.
 */
#ifndef ENGINE_PAGES_H
#define ENGINE_PAGES_H

#include "base/limits.h"
#include "sluice.h"

#define PAGE_NONE UINT32_MAX /* no page; as a node, the root: the empty prefix */

struct pages;

/* cached_max: nodes that may be kept while nobody holds them. */
sluice_status pages_create(uint32_t n_pages, uint32_t cached_max, struct pages **out, sluice_error *err);
void pages_free(struct pages *p); /* p may be NULL */

/* A private page for the caller; the least recently used cached node gives way if none is free. PAGE_NONE: all are in
 * use, or what is cached is being written (see pages_begin_write) and gives way again a moment later. */
uint32_t pages_take(struct pages *p);
/* The same without giving up cached nodes. */
uint32_t pages_take_free(struct pages *p);
/* A private page that is not needed any more. Nodes and free pages are ignored, so a request may give back its whole
 * table before or right after releasing its path (not later: a released node may be another's private page then). */
void pages_give(struct pages *p, uint32_t page);
bool pages_is_node(const struct pages *p, uint32_t page);

/* The child of `parent` (PAGE_NONE: the root) with these tokens [KV_PAGE_TOKENS], or PAGE_NONE. */
uint32_t pages_child(const struct pages *p, uint32_t parent, const int32_t *tokens);
/* One more holder of node and everything above. node may be the root. */
void pages_hold(struct pages *p, uint32_t node);
/* One less. Nodes left without holders become cached, now the most recently used; then the budget is kept. */
void pages_release(struct pages *p, uint32_t node);
/* A holder of child's parent goes on to hold child: pages_hold(child) and pages_release(parent), in constant time. */
void pages_descend(struct pages *p, uint32_t child);
/* Makes a full private page the child of parent and returns it, cached until somebody holds it (call pages_descend
 * before the next take, release or clear). If there is such a child already, that one is returned and the page stays
 * private. Parent is held or the root. */
uint32_t pages_insert(struct pages *p, uint32_t parent, const int32_t *tokens, uint32_t page);

/* Gives up every cached node that is not being written. */
void pages_clear(struct pages *p);

struct pages_count {
    uint32_t total, free, cached; /* cached: nodes without holders */
};
/* From any thread: a recent state, in itself consistent. free + cached is what pages_take can still give (less, for the
 * moment, what is being written). */
struct pages_count pages_count(const struct pages *p);

/* ---- Saving while requests go on ---- */

/* Lists all nodes, parents before children, otherwise least recently used first, held ones last: inserting them anew in
 * this order leaves about the same order of use. out[n_pages]. Marks them as to be written. Returns their number. One
 * list at a time. */
uint32_t pages_mark(struct pages *p, uint32_t *out);
/* From the writing thread, in the list's order: true if the node is still there; it then stays until pages_end_write.
 * Cached or not, it and the nodes above cannot be given up meanwhile, so copy the page's bytes, end, and do slow things
 * with the copy. A node that was given up before had given up all its descendants too; one that is still there has its
 * ancestors in the list before it, all of them begun with success. tokens: [KV_PAGE_TOKENS], valid until the end. */
bool pages_begin_write(struct pages *p, uint32_t node, uint32_t *parent, const int32_t **tokens);
void pages_end_write(struct pages *p, uint32_t node);
/* Takes all marks off: nothing of the list can be begun any more. From any thread, once the list is done with or to
 * break it off; a write under way still needs its end. */
void pages_unmark(struct pages *p);

#endif
