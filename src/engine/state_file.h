/*
 * The prefix cache as a file. Little-endian:
 *   header   magic "sluice state\n", version, tokens per page, page_bytes, model fingerprint, page format;
 *            SHA-256 of it
 *   records  one per page, parents before children: the parent's record number + 1 (0: the root), the page's tokens,
 *            its bytes; SHA-256 of these and of the record's number
 *   end      a record that says how many there were; so a file cut off between records is seen to be
 * A file is written beside its place (path.tmp, which one writer at a time holds a lock on) and renamed over it when
 * complete and synced. Only its owner may read it: it holds what people asked.
 */
#ifndef ENGINE_STATE_FILE_H
#define ENGINE_STATE_FILE_H

#include "base/hash.h"
#include "base/limits.h"

#define STATE_ROOT UINT32_MAX /* as a record's parent */

struct state_header {
    char fingerprint[65]; /* of the model */
    char page_format[32]; /* the backend's name for what page bytes mean */
    uint64_t page_bytes;  /* of one record's page */
};

struct state_writer;

/* SLUICE_E_BUSY: another writer is at it. */
sluice_status state_writer_open(const char *path, const struct state_header *header, struct state_writer **out,
                                sluice_error *err);
/* parent: number of an earlier record (0, 1, ...) or STATE_ROOT. tokens: [KV_PAGE_TOKENS]. After a failure only
 * state_writer_abandon is left. */
sluice_status state_writer_put(struct state_writer *w, uint32_t parent, const int32_t *tokens, const void *page,
                               sluice_error *err);
/* Syncs and renames; the writer is freed in any case. n_bytes may be NULL. */
sluice_status state_writer_finish(struct state_writer *w, uint64_t *n_bytes, sluice_error *err);
/* Gives up: the temporary file is removed. */
void state_writer_abandon(struct state_writer *w);

struct state_reader;

/* Opens and checks the header. SLUICE_E_IO: cannot be read (not there, no permission); SLUICE_E_FORMAT: no state file,
 * or damaged; SLUICE_E_UNSUPPORTED: another version, model, page format. The sentence says which and what differs. */
sluice_status state_reader_open(const char *path, const struct state_header *expected, struct state_reader **out,
                                sluice_error *err);
/* The next record, checked; *end is set instead behind the last one. tokens[KV_PAGE_TOKENS], page[page_bytes]. Token
 * ids are checked against n_vocab, the parent against the records so far. */
sluice_status state_reader_next(struct state_reader *r, uint32_t n_vocab, uint32_t *parent, int32_t *tokens, void *page,
                                bool *end, sluice_error *err);
uint64_t state_reader_bytes(const struct state_reader *r);
void state_reader_free(struct state_reader *r);

/* Renames a refused file to path.refused (replacing an older one). */
void state_set_aside(const char *path);

#endif
