/* Suites: which workloads are sent how often, how many at a time, with which state of the prefix cache. */
#ifndef BENCH_SUITE_H
#define BENCH_SUITE_H

#include "bench/workload.h"

#include <stdbool.h>
#include <stddef.h>

enum cache_mode { CACHE_NONE, CACHE_COLD, CACHE_WARM };
enum arrival { ARRIVAL_NONE, ARRIVAL_CLOSED, ARRIVAL_POISSON };

extern const char *const cache_names[];   /* "none", "cold", "warm" */
extern const char *const arrival_names[]; /* "none", "closed", "poisson" */

/* What one row is made of. */
struct cell {
    const struct workload *workload;
    uint32_t prompt_tokens, max_tokens;
    uint32_t concurrency;   /* closed loop: requests of a round; open loop: the most that may run at a time */
    uint32_t warmups, runs; /* rounds; open loop: requests */
    uint32_t warmup_tokens; /* of answer in a warm-up; 0 = as in a run */
    enum cache_mode cache;
    enum arrival arrival;
    double rate_rps; /* open loop */
    bool is_depth;   /* the prompt is the matter: its length is the row's depth, its prefill stands against the limit */
    bool stand_in;   /* made only where the cell before it was left out */
    bool warm_where_time; /* warm-ups are left out where time is short: the request that counts the prompt warms too */
};

#define SUITE_CELLS_MAX 32

struct suite {
    const char *name;
    const char *about;
    struct cell cells[SUITE_CELLS_MAX];
    uint32_t n_cells;
    double seconds;     /* after its start runs are cut so that it ends; 0 = all are made */
    bool open_loop;     /* after the cells: Poisson arrivals at shares of the capacity that they showed */
    double raw_seconds; /* for engine-only tests and for probes; 0 = as long as they take */
    double probe_seconds;
};

struct suite_options {
    const char *name;         /* "quick", "page", "depth" or "load" */
    uint32_t context;         /* tokens; 0 = unknown */
    uint32_t slots;           /* 0 = unknown */
    uint32_t max_concurrency; /* of the load suite; 0 = twice the slots, 16 where they are unknown */
};

/* false for another name. */
bool suite_get(const struct suite_options *options, struct suite *out);
/* The widest concurrency: what a server started for the suite gets as slots. */
uint32_t suite_width(const struct suite *s);
/* "agent/c4/cold", "depth4096/c1/cold", "agent/2.5rps/cold/natural" */
void cell_key(const struct cell *c, bool natural_stop, char *out, size_t cap);

#endif
