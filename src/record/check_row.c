/* The rules of a row beside its metrics, and those of a single request. */
#include "record/check.h"
#include "record/figures.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

#define TIME_SLACK_MS   0.002 /* two times that were rounded apart */
#define SHARE_SLACK     6e-4  /* shares are written with at least four digits behind the point */
#define TEMPLATE_TOKENS 16    /* shared by any two requests where a row does not say how many */

static bool apart(double a, double b, double relative, double absolute) {
    return fabs(a - b) > relative * fmax(fabs(a), fabs(b)) + absolute;
}

#define WRONG(x, ...) check_add((x)->check, FINDING_WRONG, (x)->line->number, (x)->row, __VA_ARGS__)

/* ---- Samples ----------------------------------------------------------------------------------------------------- */

static void check_token_times(const struct check_context *x, struct json_object *s) {
    struct json_object *times = record_get(s, "token_ms");
    size_t n = times ? json_object_array_length(times) : 0;
    double first = record_number(s, "first_token_ms"), end = record_number(s, "end_ms");
    double output = record_number(s, "output_tokens");
    if (n == 0) {
        return;
    }
    double before = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        double t = json_object_get_double(json_object_array_get_idx(times, i));
        if (t < before || t < first - TIME_SLACK_MS || t > end + TIME_SLACK_MS) {
            WRONG(x, "token_ms[%zu] is %.3f: %s", i, t,
                  t < before ? "before the token before it" : "outside first_token_ms to end_ms");
            return;
        }
        before = t;
    }
    if (!isnan(output) && output != (double)n) {
        WRONG(x, "token_ms has %zu times for %.0f output tokens", n, output);
    }
}

void check_sample(const struct check_context *x) {
    static const char *const order[] = {"first_byte_ms", "first_token_ms", "last_token_ms", "end_ms"};
    struct json_object *s = x->line->tree;
    const char *earlier = NULL;
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        double t = record_number(s, order[i]);
        if (isnan(t)) {
            continue;
        }
        if (earlier && t < record_number(s, earlier) - TIME_SLACK_MS) {
            WRONG(x, "%s (%.3f) lies before %s (%.3f)", order[i], t, earlier, record_number(s, earlier));
        }
        earlier = order[i];
    }
    if (record_number(s, "first_content_ms") < record_number(s, "first_token_ms") - TIME_SLACK_MS) {
        WRONG(x, "first_content_ms (%.3f) lies before first_token_ms (%.3f)", record_number(s, "first_content_ms"),
              record_number(s, "first_token_ms"));
    }
    if (record_number(s, "intended_ms") > record_number(s, "send_ms") + TIME_SLACK_MS) {
        WRONG(x, "sent at %.3f, before it was meant to be (%.3f)", record_number(s, "send_ms"),
              record_number(s, "intended_ms"));
    }
    if (record_number(s, "reasoning_tokens") > record_number(s, "output_tokens")) {
        WRONG(x, "%.0f reasoning tokens among %.0f output tokens", record_number(s, "reasoning_tokens"),
              record_number(s, "output_tokens"));
    }
    if (record_true(s, "ok") == (record_text(s, "error") != NULL)) {
        WRONG(x, record_true(s, "ok") ? "a request that went well has an error text"
                                      : "a request failed without an error text");
    }
    if (record_true(s, "ok") && record_true(s, "refused")) {
        WRONG(x, "a request is both ok and refused");
    }
    check_token_times(x, s);
}

/* ---- Cache ------------------------------------------------------------------------------------------------------- */

/* What the samples' counts say: 1 as the row's cache state claims, 0 not, -1 nothing was reported. */
static int counts_agree(const struct check_context *x, struct json_object **samples, size_t n, bool cold,
                        double *worst) {
    double template = record_number(x->line->tree, "template_tokens");
    int agree = -1;
    template = isnan(template) ? TEMPLATE_TOKENS : template;
    for (size_t i = 0; i < n; i++) {
        double cached = record_number(samples[i], "cached_tokens"), prompt = record_number(samples[i], "prompt_tokens");
        if (record_true(samples[i], "warmup") || !record_true(samples[i], "ok")) {
            continue;
        }
        if (isnan(cached)) {
            return -1;
        }
        bool good = cold ? cached <= template : cached >= prompt / 2;
        if (agree != 0) {
            *worst = cached;
        }
        agree = good && agree != 0;
    }
    return agree;
}

static void check_cache(const struct check_context *x, struct json_object **samples, size_t n,
                        const struct figures *f) {
    struct json_object *row = x->line->tree;
    bool cold = record_is(row, "cache", "cold"), warm = record_is(row, "cache", "warm");
    const char *state = record_text(row, "cache_state"), *reason = record_text(row, "cache_reason");
    double worst = 0;
    if (!cold && !warm) {
        if (record_is(row, "cache_state", "verified") && record_is(row, "cache", "unknown")) {
            WRONG(x, "the cache is unknown, and its state verified");
        }
        return;
    }
    if (!state) {
        WRONG(x, "a %s row without a cache state", cold ? "cold" : "warm");
        return;
    }
    if (strcmp(state, "verified") != 0 && !reason) {
        WRONG(x, "the cache state is %s, and no reason is given", state);
    }
    if (strcmp(state, "invalid") == 0 && record_is(record_get(row, "verdict"), "state", "clean")) {
        WRONG(x, "the cache state is invalid, and the row's verdict clean");
    }
    if (f->n_samples == 0) {
        return;
    }
    int agree = counts_agree(x, samples, n, cold, &worst);
    if (strcmp(state, "verified") == 0 && agree != 1) {
        if (agree < 0) {
            WRONG(x, "the row is marked as verified %s, and a request has no count of cached tokens",
                  cold ? "cold" : "warm");
        } else if (cold) {
            WRONG(x,
                  "a cold row: a request had %.0f tokens in the cache, more than the template before its nonce; the "
                  "row is invalid, and says verified",
                  worst);
        } else {
            WRONG(x, "a warm row: a request had only %.0f tokens in the cache; the row is invalid, and says verified",
                  worst);
        }
    }
    if (strcmp(state, "unverified") == 0 && agree == 0) {
        WRONG(x, "the row is marked as unverified, and its counts show that it is not %s (%.0f tokens in the cache)",
              cold ? "cold" : "warm", worst);
    }
}

/* ---- Batching, limit, energy, quality, verdict ------------------------------------------------------------------- */

static double median_of(struct json_object *row, const char *metric) {
    return record_number(record_get(record_get(row, "metrics"), metric), "median");
}

static void check_batching(const struct check_context *x) {
    struct json_object *row = x->line->tree;
    const char *batching = record_text(row, "batching");
    double c = record_number(row, "concurrency"), streams = median_of(row, "streams_decoding");
    bool closed = record_is(row, "arrival", "closed");
    if (strcmp(batching, "single") == 0 && closed && c > 1) {
        WRONG(x, "batching is \"single\" at concurrency %.0f", c);
    }
    if (strcmp(batching, "queued") == 0 && c == 1 && closed) {
        WRONG(x, "batching is \"queued\" with one request at a time");
    }
    if (isnan(streams)) {
        return;
    }
    if (strcmp(batching, "queued") == 0 && streams > 1.5) {
        WRONG(x, "batching is \"queued\", and %.2f streams decode at the same time", streams);
    }
    if (strcmp(batching, "batched") == 0 && streams < 1.25) {
        WRONG(x, "batching is \"batched\", and only %.2f streams decode at the same time: they wait in a queue",
              streams);
    }
}

static void check_limit(const struct check_context *x, const char *key) {
    struct json_object *row = x->line->tree, *limit = record_get(row, key);
    double measured = record_number(limit, "measured"), share = record_number(limit, "share");
    if (!limit || isnan(share)) {
        return;
    }
    bool read = record_is(limit, "kind", "read"), raw = record_is(row, "test", "raw");
    bool many = record_number(row, "concurrency") > 1;
    const char *name = raw ? "tok_s" : !read ? "prefill_tok_s" : many ? "aggregate_tok_s" : "decode_tok_s";
    double rate = median_of(row, name);
    double per_token = record_number(limit, read ? "bytes_per_token" : "ops_per_token");
    double own = per_token * rate / (read ? 1e9 : 1e12) / measured;
    if (isnan(own) || !(measured > 0)) {
        WRONG(x, "%s: a share of %.4f without %s, %s and a measured limit", key, share,
              read ? "bytes_per_token" : "ops_per_token", name);
    } else if (apart(share, own, 1e-4, SHARE_SLACK)) {
        WRONG(x, "%s: share %.4f; %g %s per token at %.4g tok/s (%s) are %.4f of %g %s", key, share, per_token,
              read ? "bytes" : "operations", rate, name, own, measured, read ? "GB/s" : "Tops/s");
    }
    const char *unit = record_text(limit, "unit");
    if (unit && strcmp(unit, read ? "GB/s" : "Tops/s") != 0) {
        WRONG(x, "%s: the unit is %s, and shares are taken of %s", key, unit, read ? "GB/s" : "Tops/s");
    }
}

static void check_window(const struct check_context *x, struct json_object *energy, struct json_object *window) {
    static const char *const keys[][2] = {
        {"prompt_token", "j_per_prompt_token"}, {"output_token", "j_per_output_token"}, {"request", "j_per_request"}};
    double joules = record_number(window, "joules"), count = record_number(window, "count");
    double idle = record_number(energy, "idle_w"), net = record_number(energy, "net_j_per_output_token");
    for (size_t i = 0; i < 3; i++) {
        if (!record_is(window, "what", keys[i][0])) {
            continue;
        }
        double said = record_number(energy, keys[i][1]), own = count > 0 ? joules / count : NAN;
        if (isnan(said) != isnan(own) || apart(said, own, 1e-4, 1e-9)) {
            WRONG(x, "energy: %s is %g; %g J over %.0f are %g", keys[i][1], said, joules, count, own);
        }
        double own_net = count > 0 ? (joules - idle * record_number(window, "seconds")) / count : NAN;
        if (i == 1 && !isnan(net) && (isnan(own_net) || apart(net, own_net, 1e-4, 1e-9))) {
            WRONG(x, "energy: net_j_per_output_token is %g; less the idle draw of %g W it is %g", net, idle, own_net);
        }
    }
}

static void check_energy(const struct check_context *x) {
    struct json_object *energy = record_get(x->line->tree, "energy");
    if (!energy) {
        return;
    }
    bool valid = record_true(energy, "valid");
    size_t reasons = json_object_array_length(record_get(energy, "reasons"));
    double seconds = record_number(energy, "window_s");
    if (valid == (reasons > 0)) {
        WRONG(x, valid ? "energy is valid, and has reasons against it" : "energy is not valid, and no reason is given");
    }
    if (valid && !(seconds >= 5)) {
        WRONG(x, "energy is valid with a window of %g s; counters need at least 5 s", seconds);
    }
    if (record_number(energy, "net_j_per_output_token") > record_number(energy, "j_per_output_token")) {
        WRONG(x, "energy: net of the idle draw a token takes %g J, more than the %g J with it",
              record_number(energy, "net_j_per_output_token"), record_number(energy, "j_per_output_token"));
    }
    struct json_object *windows = record_get(energy, "windows");
    for (size_t i = 0; windows && i < json_object_array_length(windows); i++) {
        check_window(x, energy, json_object_array_get_idx(windows, i));
    }
}

static void check_quality(const struct check_context *x) {
    struct json_object *quality = record_get(x->line->tree, "quality");
    const char *reason = record_text(quality, "reason");
    if (record_true(quality, "qualified")) {
        if (!record_text(quality, "kind")) {
            WRONG(x, "the row is qualified, and does not say by what");
        }
    } else if (!reason) {
        WRONG(x, "the row is not qualified, and no reason is given");
    } else {
        check_add(x->check, FINDING_UNQUALIFIED, x->line->number, x->row, "%s", reason);
    }
}

static void check_verdict(const struct check_context *x) {
    struct json_object *row = x->line->tree, *verdict = record_get(row, "verdict");
    struct json_object *reasons = record_get(verdict, "reasons");
    size_t n = json_object_array_length(reasons);
    bool clean = record_is(verdict, "state", "clean"), noisy = record_is(verdict, "state", "noisy");
    if (clean == (n > 0)) {
        WRONG(x, clean ? "the verdict is clean, and has reasons against it"
                       : "the verdict is not clean, and no reason is given");
    }
    if (record_number(row, "failed") > 0 && !record_text(row, "error")) {
        WRONG(x, "%.0f requests failed, and the row does not say why", record_number(row, "failed"));
    }
    for (size_t i = 0; i < n && !clean && !record_get(row, "printed");
         i++) { /* printed rows: what is wrong is found anew */
        check_add(x->check, noisy ? FINDING_NOISY : FINDING_INVALID, x->line->number, x->row, "%s",
                  json_object_get_string(json_object_array_get_idx(reasons, i)));
    }
    if (record_is(row, "cache_state", "unverified")) {
        const char *reason = record_text(row, "cache_reason");
        check_add(x->check, FINDING_UNVERIFIED, x->line->number, x->row, "%s",
                  reason ? reason : "the server reports no count of cached tokens");
    }
}

/* Answers of a fixed length have that length, or the row says that it is no measurement. */
static void check_work(const struct check_context *x, struct json_object **samples, size_t n) {
    struct json_object *row = x->line->tree, *natural = record_get(row, "natural_stop");
    double wanted = record_number(row, "max_tokens");
    if (!record_is(row, "test", "api") || !natural || json_object_get_boolean(natural) || isnan(wanted) ||
        !record_is(record_get(row, "verdict"), "state", "clean")) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double output = record_number(samples[i], "output_tokens");
        if (!record_true(samples[i], "warmup") && record_true(samples[i], "ok") && !isnan(output) && output != wanted) {
            WRONG(x, "answers of %.0f tokens were asked for, one has %.0f, and the verdict is clean", wanted, output);
            return;
        }
    }
}

void check_row_rules(const struct check_context *x, struct json_object **samples, size_t n, const struct figures *f) {
    check_cache(x, samples, n, f);
    check_batching(x);
    check_limit(x, "limit");
    check_limit(x, "other_limit");
    const char *kind = record_text(record_get(x->line->tree, "limit"), "kind");
    if (kind && record_is(record_get(x->line->tree, "other_limit"), "kind", kind)) {
        WRONG(x, "limit and other_limit are of the same kind");
    }
    check_energy(x);
    check_quality(x);
    check_verdict(x);
    check_work(x, samples, n);
}
