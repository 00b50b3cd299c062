#include "bench/suite.h"

#include "bench/client.h"

#include <stdio.h>
#include <string.h>

#define QUICK_WARMUP      16u /* tokens: the connection and the weights are warm after a few */
#define QUICK_SECONDS     37  /* of the 40 that it may take: a server has to be stopped, a last request to end */
#define DEPTH_FIRST       512u
#define DEPTH_LAST        32768u
#define DEPTH_UNKNOWN_MAX 4096u
#define LOAD_ANSWER       200u
#define LOAD_UNKNOWN_MAX  16u
#define PROBE_SECONDS     6 /* long enough for a processor's short-term power budget to run out */

const char *const cache_names[] = {"none", "cold", "warm"};
const char *const arrival_names[] = {"none", "closed", "poisson"};

static struct cell *add_cell(struct suite *s, const struct workload *w, enum cache_mode cache) {
    struct cell *c = &s->cells[s->n_cells++];
    *c = (struct cell){
        .workload = w,
        .prompt_tokens = w->prompt_tokens,
        .max_tokens = w->max_tokens,
        .concurrency = 1,
        .cache = cache,
        .arrival = ARRIVAL_CLOSED,
    };
    return c;
}

/* What says most comes first, for a target that is too slow for all of it: decode rate, prefill with decode, the prefix
 * cache, batching; then what those let one guess. */
static void quick_suite(struct suite *s) {
    static const struct {
        const struct workload *workload;
        enum cache_mode cache;
        uint32_t answer, concurrency;
        bool stand_in;
    } rows[] = {
        {&workload_chat, CACHE_COLD, 100, 1, false},  {&workload_agent, CACHE_COLD, 150, 1, false},
        {&workload_agent, CACHE_WARM, 150, 1, false}, {&workload_agent, CACHE_COLD, 100, 4, false},
        {&workload_chat, CACHE_COLD, 100, 4, true},   {&workload_codegen, CACHE_COLD, 200, 1, false},
        {&workload_rag, CACHE_COLD, 100, 1, false},
    };
    s->about = "within 40 s: the page's workloads cold, the agent warm and at 4; at most 1 warm-up and 3 runs, shorter "
               "answers, short probes, no energy windows; rows that do not fit are named";
    s->seconds = QUICK_SECONDS;
    s->probe_seconds = 1.5;
    s->raw_seconds = 5;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cell *c = add_cell(s, rows[i].workload, rows[i].cache);
        c->max_tokens = rows[i].answer;
        c->concurrency = rows[i].concurrency;
        c->warmups = 1;
        c->runs = 3;
        c->warmup_tokens = QUICK_WARMUP;
        c->warm_where_time = true;
        c->stand_in = rows[i].stand_in;
    }
}

static void page_suite(struct suite *s) {
    static const struct workload *const all[] = {&workload_chat, &workload_codegen, &workload_rag, &workload_agent,
                                                 &workload_agent};
    s->about = "chat, codegen, rag and agent at concurrency 1, agent at 4, each cold and warm; 2 warm-ups, 5 runs";
    for (int i = 0; i < 10; i++) {
        struct cell *c = add_cell(s, all[i / 2], i % 2 ? CACHE_WARM : CACHE_COLD);
        c->concurrency = i >= 8 ? 4 : 1;
        c->warmups = 2;
        c->runs = 5;
    }
}

static void depth_suite(struct suite *s, uint32_t context) {
    s->about = "prompts from 512 tokens up to the context or 32768, 32 tokens of answer; 1 warm-up, 5 runs";
    uint32_t most = context ? context : DEPTH_UNKNOWN_MAX;
    for (uint32_t n = DEPTH_FIRST; n <= DEPTH_LAST; n *= 2) {
        /* the longest leaves room for the answer */
        uint32_t tokens = n + workload_depth.max_tokens <= most ? n : most - workload_depth.max_tokens;
        if (n > DEPTH_FIRST && tokens <= n / 2) {
            break;
        }
        struct cell *c = add_cell(s, &workload_depth, CACHE_COLD);
        c->prompt_tokens = most > 2 * workload_depth.max_tokens ? tokens : most / 2;
        c->is_depth = true;
        c->warmups = 1;
        c->runs = 5;
        if (tokens < n) {
            break;
        }
    }
}

static void load_suite(struct suite *s, const struct suite_options *o) {
    uint32_t most = o->max_concurrency ? o->max_concurrency : o->slots ? 2 * o->slots : LOAD_UNKNOWN_MAX;
    s->about =
        "the agent workload cold, 200 tokens of answer: closed loop at 1, 2, 4 .. requests, then Poisson arrivals at "
        "shares of what that carried; 1 warm-up, 5 rounds";
    s->open_loop = true;
    most = most > CLIENT_STREAMS_MAX ? CLIENT_STREAMS_MAX : most;
    for (uint32_t c = 1;; c = 2 * c < most ? 2 * c : most) {
        struct cell *cell = add_cell(s, &workload_agent, CACHE_COLD);
        cell->max_tokens = LOAD_ANSWER;
        cell->concurrency = c;
        cell->warmups = 1;
        cell->runs = 5;
        if (c >= most) {
            break;
        }
    }
}

bool suite_get(const struct suite_options *o, struct suite *out) {
    *out = (struct suite){.name = o->name, .probe_seconds = PROBE_SECONDS};
    if (strcmp(o->name, "quick") == 0) {
        quick_suite(out);
    } else if (strcmp(o->name, "page") == 0) {
        page_suite(out);
    } else if (strcmp(o->name, "depth") == 0) {
        depth_suite(out, o->context);
    } else if (strcmp(o->name, "load") == 0) {
        load_suite(out, o);
    } else {
        return false;
    }
    return true;
}

uint32_t suite_width(const struct suite *s) {
    uint32_t widest = 1;
    for (uint32_t i = 0; i < s->n_cells; i++) {
        widest = s->cells[i].concurrency > widest ? s->cells[i].concurrency : widest;
    }
    return widest;
}

void cell_key(const struct cell *c, bool natural_stop, char *out, size_t cap) {
    char name[32], load[32];
    if (c->is_depth) {
        snprintf(name, sizeof name, "%.15s%u", c->workload->name, c->prompt_tokens);
    } else {
        snprintf(name, sizeof name, "%.31s", c->workload->name);
    }
    if (c->arrival == ARRIVAL_POISSON) {
        snprintf(load, sizeof load, "%.3grps", c->rate_rps);
    } else {
        snprintf(load, sizeof load, "c%u", c->concurrency);
    }
    snprintf(out, cap, "%s/%s/%s%s", name, load, cache_names[c->cache], natural_stop ? "/natural" : "");
}
