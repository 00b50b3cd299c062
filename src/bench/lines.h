/* Parts that the lines of a bench's record and of a comparison's have in common. */
#ifndef BENCH_LINES_H
#define BENCH_LINES_H

#include "bench/bench.h"

struct lines_memory { /* around the model's load; -1 unknown */
    int64_t before, after;
    int spilled;
};

/* name NULL: an element of an array. own: a server started for the run, whose port says nothing. */
void lines_put_target(struct buf *l, const char *name, const struct target *t, bool own,
                      const struct lines_memory *memory);
/* "model_file": null where nothing is known */
void lines_put_file(struct buf *l, const struct model_facts *f);
void lines_put_sampling(struct buf *l, const struct target *t);
void lines_put_origin(struct buf *l); /* measured */
/* A whole line; raw: a repetition of an engine-only test. */
void lines_put_sample(struct buf *l, const char *row, uint32_t target, bool raw, const struct sample *s);
/* A whole line; counters NULL: none. */
void lines_put_row(struct buf *l, const struct row *row, uint32_t target, const struct energy *counters,
                   const struct run_quality *quality);
/* "noise": null without a watch */
void lines_put_noise(struct buf *l, const struct watch_summary *s);
void lines_put_verdict(struct buf *l, enum verdict state, const char *const *reasons, size_t n);

#endif
