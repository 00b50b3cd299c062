/*
 * Whether what is measured still computes the model: the divergence of our own engine from plain F32 (`sluice kld` in a process
 * of its own, same binary and device), or, of a foreign server, how often its greedy token and its twenty likeliest tokens are the reference's.
 */
#include "bench/bench.h"

#include "base/hash.h"
#include "base/status.h"
#include "bench/child.h"
#include "bench/target_json.h"
#include "tools/quality.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FOREIGN_POSITIONS 32u
#define FOREIGN_TOP       20u
#define FOREIGN_GREEDY                                                                                                 \
    0.90 /* share of greedy tokens that must agree: near ties fall either way under another rounding */

static bool file_sha256(const char *path, char out[65]) {
    char block[1 << 14];
    uint8_t sum[HASH_BYTES];
    size_t n;
    struct hash *h = hash_new();
    FILE *f = h ? fopen(path, "re") : NULL;
    while (f && (n = fread(block, 1, sizeof block, f)) > 0) {
        hash_add(h, block, n);
    }
    bool ok = f && !ferror(f) && hash_take(h, sum);
    if (f) {
        fclose(f);
    }
    hash_free(h);
    if (ok) {
        hash_hex(sum, out);
    }
    return ok;
}

/* "model.gguf" has its reference in "model.reference", unless one is named. */
static void reference_path(const struct bench_options *o, char *out, size_t cap) {
    size_t n = o->model_path ? strlen(o->model_path) : 0;
    if (o->reference) {
        snprintf(out, cap, "%s", o->reference);
    } else if (n > 5 && strcmp(o->model_path + n - 5, ".gguf") == 0) {
        snprintf(out, cap, "%.*s.reference", (int)(n - 5), o->model_path);
    } else {
        out[0] = '\0';
    }
}

static void say(struct run_quality *q, const char *reason) {
    snprintf(q->reason, sizeof q->reason, "%.190s", reason);
}

/* ---- Our own engine */

sluice_status bench_quality_own(struct bench *b, const char *self, sluice_error *err) {
    char path[4096];
    struct run_quality *q = &b->quality;
    struct buf text = {0};
    bool cut = false;
    sluice_error why = {0};
    reference_path(b->options, path, sizeof path);
    FILE *f = path[0] ? fopen(path, "re") : NULL;
    if (!f) {
        say(q, b->options->reference ? "the reference cannot be opened"
                                     : "there is no reference beside the model (sluice kld --make)");
        return b->options->reference ? fail(err, SLUICE_E_IO, "%s: cannot be opened", path) : SLUICE_OK;
    }
    fclose(f);
    const char *const argv[] = {self, "kld", "--json", "-m", b->options->model_path, "--reference", path, NULL};
    sluice_status status =
        child_capture((char *const *)argv, b->options->stop, b->suite.raw_seconds, &text, &cut, &why);
    struct json_object *o =
        status == SLUICE_OK && text.data ? json_parse_text(text.data, strcspn(text.data, "\n")) : NULL;
    double n = json_member_number(o, "positions", NAN);
    if (o && n > 0 && file_sha256(path, q->reference_sha256)) {
        q->kind = "kl";
        q->tokens = (uint32_t)n;
        q->kl_mean = json_member_number(o, "kl_mean", NAN);
        q->kl_p999 = json_member_number(o, "kl_p999", NAN);
        q->top1 = json_member_number(o, "top1_agreement", NAN);
        struct quality_result r = {.kl_mean = q->kl_mean, .top1_agreement = q->top1};
        quality_judge(&r, q->reason, sizeof q->reason);
        q->qualified = q->reason[0] == '\0';
    } else {
        say(q, cut                   ? "the comparison with the reference took too long for this suite"
               : status == SLUICE_OK ? "the comparison gave no result"
                                     : why.text);
    }
    json_object_put(o);
    buf_free(&text);
    return status == SLUICE_E_CANCELLED || status == SLUICE_E_NOMEM ? fail(err, status, "%s", why.text) : SLUICE_OK;
}

/* ---- A foreign server */

/* The id of a candidate: "id": 5, or vLLM's "token_id:5" in place of its text; -1 where the server gives texts alone. */
static int64_t candidate_id(struct json_object *o) {
    struct json_object *id = json_member(o, "id", json_type_int);
    struct json_object *token = json_member(o, "token", json_type_string);
    long long v = -1;
    if (id) {
        return json_object_get_int64(id);
    }
    return token && sscanf(json_object_get_string(token), "token_id:%lld", &v) == 1 ? v : -1;
}

/* Ids in the order of their probability from a completion with logprobs. Two forms: llama-server's content[0].top_logprobs
 * [{id}], and the older top_logprobs[0] {"token_id:5": -0.1}. Returns how many. */
static uint32_t read_candidates(struct json_object *answer, int64_t ids[FOREIGN_TOP]) {
    struct json_object *choices = json_member(answer, "choices", json_type_array);
    struct json_object *choice =
        choices && json_object_array_length(choices) ? json_object_array_get_idx(choices, 0) : NULL;
    struct json_object *logprobs = json_member(choice, "logprobs", json_type_object);
    struct json_object *content = json_member(logprobs, "content", json_type_array);
    struct json_object *tops = json_member(logprobs, "top_logprobs", json_type_array);
    double lp[FOREIGN_TOP];
    uint32_t n = 0;
    if (content && json_object_array_length(content)) {
        struct json_object *top = json_member(json_object_array_get_idx(content, 0), "top_logprobs", json_type_array);
        for (size_t i = 0; top && i < json_object_array_length(top) && n < FOREIGN_TOP; i++) {
            int64_t id = candidate_id(json_object_array_get_idx(top, i));
            if (id >= 0) {
                ids[n++] = id;
            }
        }
        return n;
    }
    struct json_object *first = tops && json_object_array_length(tops) ? json_object_array_get_idx(tops, 0) : NULL;
    if (!json_object_is_type(first, json_type_object)) {
        return 0;
    }
    json_object_object_foreach(first, key, value) {
        long long id;
        if (n < FOREIGN_TOP && sscanf(key, "token_id:%lld", &id) == 1) {
            uint32_t at = n++;
            double v = json_object_get_double(value);
            for (; at > 0 && lp[at - 1] < v; at--) {
                lp[at] = lp[at - 1];
                ids[at] = ids[at - 1];
            }
            lp[at] = v;
            ids[at] = id;
        }
    }
    return n;
}

static uint32_t ask(struct bench *b, const struct quality_reference *r, uint32_t pos, int64_t ids[FOREIGN_TOP]) {
    struct buf body = {0}, reply = {0};
    long http = 0;
    uint32_t n = 0;
    buf_puts(&body, "{\"model\":");
    buf_json_string(&body, b->target.model, strlen(b->target.model));
    buf_puts(&body, ",\"prompt\":[");
    for (uint32_t i = 0; i <= pos; i++) {
        buf_printf(&body, i ? ",%d" : "%d", r->tokens[i]);
    }
    buf_printf(&body, "],\"max_tokens\":1,\"temperature\":0,\"logprobs\":%u,\"return_tokens_as_token_ids\":true}",
               FOREIGN_TOP);
    if (!body.failed &&
        client_fetch(b->target.client, "/v1/completions", body.data, &reply, &http, NULL) == SLUICE_OK && http == 200 &&
        reply.data) {
        struct json_object *o = json_parse_text(reply.data, reply.len);
        n = read_candidates(o, ids);
        json_object_put(o);
    }
    b->target.setup_requests++;
    buf_free(&body);
    buf_free(&reply);
    return n;
}

static double overlap(const struct quality_reference *r, uint32_t pos, const int64_t *ids, uint32_t n) {
    uint32_t same = 0;
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < n && k < r->top; k++) {
            same += ids[i] == r->ids[(size_t)pos * r->top + k];
        }
    }
    return (double)same / n;
}

sluice_status bench_quality_foreign(struct bench *b, sluice_error *err) {
    struct run_quality *q = &b->quality;
    struct quality_reference r;
    if (!b->options->reference) {
        say(q, "a foreign server is compared with a reference only when one is given (--reference)");
        return SLUICE_OK;
    }
    TRY(quality_read(b->options->reference, &r, err));
    uint32_t n = r.n < FOREIGN_POSITIONS ? r.n : FOREIGN_POSITIONS;
    uint32_t seen = 0, greedy = 0, least = FOREIGN_TOP;
    double top = 0;
    for (uint32_t i = 0; i < n && !(b->options->stop && atomic_load(b->options->stop)); i++) {
        int64_t ids[FOREIGN_TOP];
        uint32_t pos = (uint32_t)((uint64_t)(i + 1) * r.n / n) - 1;
        uint32_t got = ask(b, &r, pos, ids);
        if (got == 0) {
            break;
        }
        seen++;
        least = got < least ? got : least;
        greedy += ids[0] == r.ids[(size_t)pos * r.top];
        top += overlap(&r, pos, ids, got);
    }
    if (seen < n || !file_sha256(b->options->reference, q->reference_sha256)) {
        say(q, "the server gives no ids of its likeliest tokens at /v1/completions, so it could not be compared");
    } else {
        q->kind =
            least == FOREIGN_TOP ? "top20" : "greedy"; /* some servers give fewer candidates than were asked for */
        q->tokens = seen;
        q->top1 = (double)greedy / seen;
        q->top20 = top / seen;
        q->qualified = q->top1 >= FOREIGN_GREEDY;
        if (!q->qualified) {
            snprintf(q->reason, sizeof q->reason,
                     "its greedy token agrees with the reference at %.0f%% of %u positions", 100 * q->top1, seen);
        }
    }
    quality_free(&r);
    return SLUICE_OK;
}

void bench_put_quality(struct buf *l, const struct run_quality *q) {
    bool kl = q->kind && strcmp(q->kind, "kl") == 0;
    line_open(l, "quality", '{');
    line_put_bool(l, "qualified", q->qualified);
    line_put_text(l, "reason", q->qualified ? NULL : q->reason);
    line_put_text(l, "kind", q->kind);
    line_put_text(l, "reference_sha256", q->kind ? q->reference_sha256 : NULL);
    line_put_count(l, "tokens", q->kind ? (int64_t)q->tokens : -1);
    line_put_number(l, "kl_mean", kl ? q->kl_mean : NAN);
    line_put_number(l, "kl_p999", kl ? q->kl_p999 : NAN);
    line_put_number(l, "top1_agreement", q->kind ? q->top1 : NAN);
    if (q->kind && strcmp(q->kind, "top20") == 0) {
        line_put_number(l, "top20_agreement", q->top20);
    }
    line_close(l, '}');
}
