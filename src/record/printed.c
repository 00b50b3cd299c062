#include "record/printed.h"

#include "base/mem.h"
#include "base/status.h"

#include <ctype.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool printed_known(const struct printed *p) {
    return !isnan(p->v);
}

/* Digits behind the point decide what else the number could have been. */
static struct printed parse(const char *text) {
    struct printed p = {NAN, NAN, NAN, text};
    const char *s = text + (*text == '-');
    if (!isdigit((unsigned char)*s)) {
        return p;
    }
    s += strspn(s, "0123456789");
    int decimals = 0;
    if (*s == '.') {
        decimals = (int)strspn(s + 1, "0123456789");
        s += 1 + decimals;
    }
    if (*s == 'e' || *s == 'E') { /* a machine's number, not a printed one */
        decimals = 15;
        s++;
        s += *s == '-' || *s == '+';
        s += strspn(s, "0123456789");
    }
    s += *s == ' ';
    double unit = strcmp(s, "s") == 0 ? 1000 : 1;
    double v = strtod(text, NULL) * unit, half = 0.5 * pow(10, -decimals) * unit;
    return (struct printed){v, v - half, v + half, text};
}

struct printed printed_get(struct json_object *row, const char *name) {
    struct json_object *v = record_get(record_get(row, "printed"), name);
    return parse(v ? json_object_get_string(v) : "");
}

const char *printed_device(const struct record_run *run) {
    struct json_object *env = record_get(run->lines[0].tree, "environment"), *gpus = record_get(env, "gpus");
    const char *name =
        gpus && json_object_array_length(gpus) ? record_text(json_object_array_get_idx(gpus, 0), "name") : NULL;
    name = name ? name : record_text(env, "cpu");
    return name ? name : "";
}

/* "LFM2-8B-A1B" names the active weights in billions; the file's own count is better where it is known. */
static double active_weights(const struct record_run *run) {
    struct json_object *file = record_get(run->lines[0].tree, "model_file");
    double n = record_number(file, "n_params_active");
    const char *name = record_text(file, "repository");
    name = name ? name : record_text(file, "name");
    for (const char *s = name; isnan(n) && s && (s = strstr(s, "-A")); s += 2) {
        char *end;
        double billions = isdigit((unsigned char)s[2]) ? strtod(s + 2, &end) : NAN;
        n = !isnan(billions) && (*end == 'B' || *end == 'b') ? billions * 1e9 : NAN;
    }
    return n > 0 ? n : NAN;
}

static struct printed_row make_row(const struct record_run *run, const struct record_line *line) {
    struct json_object *t = line->tree;
    const char *workload = record_text(t, "workload"), *build = record_text(record_target(run, t), "build");
    struct printed_row r = {
        .run = run,
        .line = line,
        .key = record_text(t, "row"),
        .workload = workload ? workload : "",
        .device = printed_device(run),
        .build = build ? build : "",
        .concurrency = record_number(t, "concurrency"),
        .cap_w = record_number(t, "power_cap_w"),
        .active = active_weights(run),
        .decode = printed_get(t, "decode_tok_s"),
        .client = printed_get(t, "client_tok_s"),
        .prefill = printed_get(t, "prefill_tok_s"),
        .ttft = printed_get(t, "ttft"),
        .tpot = printed_get(t, "tpot_ms"),
        .latency = printed_get(t, "latency"),
        .prompt = printed_get(t, "prompt_tokens"),
        .output = printed_get(t, "output_tokens"),
        .vram = printed_get(t, "vram_delta"),
    };
    return r;
}

sluice_status printed_table_make(const struct record *r, struct printed_table *out, sluice_error *err) {
    *out = (struct printed_table){.record = r};
    size_t n = 0;
    for (size_t i = 0; i < r->n_lines; i++) {
        n += r->lines[i].kind == RECORD_ROW && record_get(r->lines[i].tree, "printed");
    }
    out->rows = mem_calloc(n + 1, sizeof *out->rows);
    if (!out->rows) {
        return fail(err, SLUICE_E_NOMEM, "no memory to check the rows of %s", r->path);
    }
    for (size_t i = 0; i < r->n_records; i++) {
        const struct record_run *run = &r->records[i];
        for (size_t j = 0; j < run->n_lines; j++) {
            if (run->lines[j].kind == RECORD_ROW && record_get(run->lines[j].tree, "printed")) {
                out->rows[out->n++] = make_row(run, &run->lines[j]);
            }
        }
    }
    return SLUICE_OK;
}

void printed_table_free(struct printed_table *t) {
    mem_free(t->rows);
    t->rows = NULL;
}

const struct printed_row *printed_beside(const struct printed_table *t, const struct printed_row *r,
                                         const char *workload, double concurrency) {
    for (size_t i = 0; i < t->n; i++) {
        const struct printed_row *o = &t->rows[i];
        if (o->run == r->run && o->concurrency == concurrency && strcmp(o->workload, workload) == 0) {
            return o;
        }
    }
    return NULL;
}
