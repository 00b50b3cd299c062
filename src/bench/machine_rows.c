/*
 * What the engine does without a server, and what the machine could do at most: `raw` and `probe` of this program,
 * each in a process of its own that ends before the server starts. Their JSON is read by name; what is missing stays
 * unknown.
 */
#include "bench/bench.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "bench/child.h"
#include "bench/target_json.h"
#include "tools/probe_gpu.h"

#include <math.h>
#include <string.h>

#define RAW_TESTS_MAX  32
#define ARGS_MAX       24
#define PROBE_PATIENCE 4 /* times what it was given: barriers are slow where others want the cores */
#define QUICK_PROMPT   31
#define QUICK_DECODE   32
#define LOAD_BYTES_S                                                                                                   \
    2e9 /* from the page cache, with the packing of weights; and shares of the limits that engines reach */
#define DECODE_SHARE     0.7
#define PREFILL_SHARE    0.2
#define GPU_PROBE_FACTOR 5 /* ten measurements: 3 s each in suites without an end */

void raw_rows_free(struct raw_rows *r) {
    if (r) {
        for (uint32_t i = 0; i < r->n; i++) {
            row_free(&r->rows[i]);
        }
        mem_free(r->rows);
        mem_free(r->seen);
        json_object_put(r->probes);
        mem_free(r);
    }
}

double raw_prefill_ms(const struct raw_rows *r, uint32_t n_tokens) {
    for (uint32_t i = 0; r && i < r->n; i++) {
        const struct row *row = &r->rows[i];
        if (row->batch == 1 && row->depth == 0 && strcmp(row->workload, "pp") == 0 && row->n_samples &&
            row->samples[0].prompt_tokens == (int64_t)n_tokens && row->metric[METRIC_TOK_S].n) {
            return 1000 * n_tokens / row->metric[METRIC_TOK_S].median;
        }
    }
    return -1;
}

/* The best that a probe of this device saw of a quantity; sustained: its median, which is what a power limit leaves. */
static double best_of(const struct raw_rows *r, const char *device, const char *name, bool sustained) {
    double best = 0;
    for (size_t i = 0; r && r->probes && i < json_object_array_length(r->probes); i++) {
        struct json_object *line = json_object_array_get_idx(r->probes, i);
        struct json_object *of = json_member(line, "device", json_type_string);
        struct json_object *items = json_member(line, "items", json_type_array);
        for (size_t k = 0; of && items && k < json_object_array_length(items); k++) {
            struct json_object *item = json_object_array_get_idx(items, k);
            struct json_object *what = json_member(item, "name", json_type_string);
            double median = json_member_number(item, "median", 0);
            double v = sustained ? median : json_member_number(item, "max", median);
            if (strcmp(json_object_get_string(of), device) == 0 && what &&
                strcmp(json_object_get_string(what), name) == 0 && v > best) {
                best = v;
            }
        }
    }
    return best;
}

/* ---- raw */

static void set_raw_limit(struct row *row, struct json_object *o, bool decode) {
    struct json_object *roof = json_member(o, "roof", json_type_object);
    double rate = row->metric[METRIC_TOK_S].median;
    struct row_limit *l = &row->limit;
    if (!roof || row->metric[METRIC_TOK_S].n == 0) {
        return;
    }
    if (decode) {
        double bytes =
            json_member_number(o, "weight_bytes_per_step", NAN) + json_member_number(o, "kv_bytes_per_step", 0);
        l->bytes_per_token = bytes / (double)row->batch;
        l->measured = json_member_number(roof, "gb_s", NAN);
        l->share = l->bytes_per_token * rate * 1e-9 / l->measured;
        snprintf(l->rule, sizeof l->rule,
                 "weights that the steps read, experts as routed, and keys and values of earlier "
                 "positions; read bandwidth of the same run");
    } else {
        struct json_object *kind = json_member(roof, "kind", json_type_string);
        double median = json_member_number(json_member(o, "tok_s", json_type_object), "median", NAN);
        l->ops_per_token = json_member_number(o, "gop_s", NAN) * 1e9 / median;
        l->measured = json_member_number(roof, "gop_s", NAN) * 1e-3;
        l->share = l->ops_per_token * rate * 1e-12 / l->measured;
        snprintf(l->rule, sizeof l->rule,
                 "2 operations per weight that a prompt token uses, attention apart; %.20s peak of "
                 "the same run",
                 kind ? json_object_get_string(kind) : "measured");
    }
    l->kind = !isfinite(l->share) ? LIMIT_NONE : decode ? LIMIT_READ : LIMIT_MATRIX;
}

/* One line of `raw --json` as a row. */
static sluice_status read_raw(struct json_object *o, struct row *row, sluice_error *err) {
    static const struct cell no_cell = {.cache = CACHE_NONE, .arrival = ARRIVAL_NONE};
    struct json_object *test = json_member(o, "test", json_type_string);
    struct json_object *ms = json_member(json_member(o, "ms", json_type_object), "samples", json_type_array);
    size_t n = ms ? json_object_array_length(ms) : 0;
    uint32_t tokens = json_member_u32(o, "n_tokens"), batch = json_member_u32(o, "batch");
    if (!test || n == 0 || n > UINT16_MAX || tokens == 0 || batch == 0) {
        return fail(err, SLUICE_E_FORMAT, "`sluice raw` printed something that is no result");
    }
    row_init(row, &no_cell, false);
    row->test = TEST_RAW;
    snprintf(row->key, sizeof row->key, "%s", json_object_get_string(test));
    bool decode = strncmp(row->key, "tg", 2) == 0;
    row->workload = decode ? "tg" : "pp";
    row->depth = json_member_u32(o, "depth");
    row->batch = batch;
    row->runs = (uint32_t)n;
    row->warmups = 1;
    struct sample *s = row_add_samples(row, (uint32_t)n);
    for (size_t i = 0; s && i < n; i++) {
        s[i].run = (uint32_t)i;
        s[i].ok = true;
        s[i].end_ms = line_round_ms(json_object_get_double(json_object_array_get_idx(ms, i)));
        *(decode ? &s[i].output_tokens : &s[i].prompt_tokens) = (int64_t)tokens * batch;
    }
    if (!s || !row_summarise(row)) {
        return fail(err, SLUICE_E_NOMEM, "no memory for engine-only rows");
    }
    row_judge(row, false);
    set_raw_limit(row, o, decode);
    return SLUICE_OK;
}

static sluice_status each_line(struct bench *b, struct buf *text,
                               sluice_status (*read)(struct bench *b, struct json_object *o, sluice_error *err),
                               sluice_error *err) {
    char *line = text->data;
    while (line && *line) {
        char *end = strchr(line, '\n');
        if (!end) {
            break; /* cut off in the middle */
        }
        struct json_object *o = json_parse_text(line, (size_t)(end - line));
        sluice_status status = o ? read(b, o, err) : SLUICE_OK;
        json_object_put(o);
        TRY(status);
        line = end + 1;
    }
    return SLUICE_OK;
}

static sluice_status add_raw(struct bench *b, struct json_object *o, sluice_error *err) {
    struct raw_rows *r = b->raw;
    if (r->n == RAW_TESTS_MAX) {
        return SLUICE_OK;
    }
    TRY(read_raw(o, &r->rows[r->n], err));
    r->n++;
    return SLUICE_OK;
}

/* The prompt lengths of the suite, so that a server's share of the time to the first token can be told; and one that
 * all records have. */
static void prompt_list(const struct suite *s, char *out, size_t cap) {
    uint32_t seen[SUITE_CELLS_MAX + 1];
    uint32_t n = 0;
    size_t at = 0;
    for (uint32_t i = 0; i <= s->n_cells && at < cap; i++) {
        uint32_t tokens = i < s->n_cells ? s->cells[i].prompt_tokens : 512;
        bool known = i < s->n_cells && (s->cells[i].cache != CACHE_COLD || s->cells[i].concurrency != 1);
        for (uint32_t k = 0; k < n; k++) {
            known |= seen[k] == tokens;
        }
        if (!known) {
            seen[n] = tokens;
            at += (size_t)snprintf(out + at, cap - at, "%s%u", n++ ? "," : "", tokens);
        }
    }
}

/* A test has ended: what the watch saw since the one before it is its own. */
static void on_raw_lines(void *ctx, size_t n) {
    struct bench *b = ctx;
    struct watch_summary seen;
    watch_row(b->watch, &seen);
    for (; b->raw->n_seen < RAW_TESTS_MAX && b->raw->n_seen < b->raw->n + n; b->raw->n_seen++) {
        b->raw->seen[b->raw->n_seen] = seen;
    }
}

/* One process of `raw`, of which b->raw gets what it ended within the seconds (0: as long as it takes). */
static sluice_status run_raw_tests(struct bench *b, const char *self, const char *prompts, const char *decode,
                                   double seconds, sluice_error *err) {
    struct buf text = {0};
    const char *argv[ARGS_MAX] = {self,    "raw", "--json", "-m", b->options->model_path,  "-p",
                                  prompts, "-n",  decode,   "-r", seconds > 0 ? "3" : "5", NULL};
    on_raw_lines(b, 0); /* what was before is nobody's */
    sluice_status status =
        child_follow((char *const *)argv, b->options->stop, seconds, &text, &b->raw->cut, on_raw_lines, b, err);
    if (status == SLUICE_OK) {
        status = each_line(b, &text, add_raw, err);
    }
    buf_free(&text);
    return status;
}

/* Seconds that loading the model, one prompt and some tokens take on the processor, four times each, by the probe's limits;
 * 0 where they are not known, or the work goes to a GPU. */
static double raw_least_s(const struct bench *b) {
    double read = best_of(b->raw, "cpu", "read", true), tops = best_of(b->raw, "cpu", "int8", true);
    if (read <= 0 || tops <= 0 || best_of(b->raw, "gpu0", "read", false) > 0) {
        return 0;
    }
    return (double)b->file.bytes / LOAD_BYTES_S +
           4 * (QUICK_DECODE * (double)b->file.decode_bytes / (DECODE_SHARE * read * 1e9) +
                QUICK_PROMPT * (double)b->file.prefill_ops / (PREFILL_SHARE * tops * 1e12));
}

/* Names what of the engine-only tests (prompts: "31,65,..", and the decode test) did not end. */
static void leave_out_tests(struct bench *b, const char *prompts, const char *decode) {
    const char *p = prompts;
    for (bool more = true; more;) {
        char key[32];
        size_t n = strcspn(p, ",");
        more = *p != '\0';
        snprintf(key, sizeof key, "%s%.*s", more ? "pp" : "tg", more ? (int)n : 16, more ? p : decode);
        bool ended = false;
        for (uint32_t i = 0; i < b->raw->n; i++) {
            ended |= strcmp(b->raw->rows[i].key, key) == 0;
        }
        if (!ended) {
            bench_leave_out_key(b, key, "%s", b->raw_note);
        }
        p += n + (p[n] == ',');
    }
}

/* Where time is short the shortest prompt and the decode rate come first, and the rest if that leaves time for it. */
static sluice_status run_raw(struct bench *b, const char *self, sluice_error *err) {
    char prompts[256], all[256];
    double seconds = b->suite.raw_seconds;
    const char *decode = seconds > 0 ? "32" : "128";
    uint64_t start = clock_ns();
    prompt_list(&b->suite, prompts, sizeof prompts);
    snprintf(all, sizeof all, "%s", prompts);
    b->raw->rows = mem_calloc(RAW_TESTS_MAX, sizeof *b->raw->rows);
    b->raw->seen = mem_calloc(RAW_TESTS_MAX, sizeof *b->raw->seen);
    if (!b->raw->rows || !b->raw->seen) {
        return fail(err, SLUICE_E_NOMEM, "no memory for engine-only rows");
    }
    sluice_error why = {0};
    if (seconds > 0 && raw_least_s(b) > seconds) {
        snprintf(b->raw_note, sizeof b->raw_note,
                 "no engine-only rows: they take about %.0f s, and this suite has %.0f s for them", raw_least_s(b),
                 seconds);
        leave_out_tests(b, all, decode);
        return SLUICE_OK;
    }
    char *rest = seconds > 0 ? strchr(prompts, ',') : NULL;
    if (rest) {
        *rest++ = '\0';
    }
    sluice_status status = run_raw_tests(b, self, prompts, decode, seconds, &why);
    double left = seconds - clock_ms_since(start) * 1e-3;
    if (status == SLUICE_OK && rest && !b->raw->cut) {
        if (left > seconds / 2) {
            status = run_raw_tests(b, self, rest, "0", left, &why);
        } else {
            b->raw->cut = true;
        }
    }
    if (status == SLUICE_E_CANCELLED || status == SLUICE_E_NOMEM) {
        return fail(err, status, "%s", why.text);
    }
    if (status != SLUICE_OK) {
        snprintf(b->raw_note, sizeof b->raw_note, "no engine-only rows: %.160s", why.text);
    } else if (b->raw->cut) {
        snprintf(b->raw_note, sizeof b->raw_note,
                 "engine-only tests were cut: this suite has %.0f s for them, and %u ended", seconds, b->raw->n);
        leave_out_tests(b, all, decode);
    }
    return SLUICE_OK;
}

/* ---- probe */

/* rate: {"best", "median", "least", "passes"} in the probe's unit; scale takes it to the record's. */
static void add_item(struct json_object *items, const char *name, const char *unit, uint32_t threads,
                     struct json_object *rate, double scale, const char *how) {
    static const struct {
        const char *to, *from;
    } numbers[] = {{"median", "median"}, {"min", "least"}, {"max", "best"}};
    struct json_object *o = json_object_new_object();
    uint32_t n = json_member_u32(rate, "passes");
    json_object_object_add(o, "name", json_object_new_string(name));
    json_object_object_add(o, "unit", json_object_new_string(unit));
    json_object_object_add(o, "threads", json_object_new_int64(threads));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double v = scale * json_member_number(rate, numbers[i].from, NAN);
        json_object_object_add(o, numbers[i].to, isfinite(v) ? json_object_new_double(v) : NULL);
    }
    json_object_object_add(o, "n", n ? json_object_new_int64(n) : NULL);
    json_object_object_add(o, "samples", NULL);
    json_object_object_add(o, "theory", NULL);
    json_object_object_add(o, "share", NULL);
    json_object_object_add(o, "how", how ? json_object_new_string(how) : NULL);
    json_object_array_add(items, o);
}

/* theory: GB/s on paper; NAN where the firmware does not say. */
static void add_memory(struct json_object *items, struct json_object *memory, const char *name, double theory,
                       const char *how) {
    char key[16];
    snprintf(key, sizeof key, "%s_gb_s", name);
    struct json_object *rate = json_member(memory, key, json_type_object);
    double share = json_member_number(rate, "median", NAN) / theory;
    if (rate) {
        add_item(items, name, "GB/s", json_member_u32(memory, "threads"), rate, 1, how);
    }
    if (rate && isfinite(share)) {
        struct json_object *item = json_object_array_get_idx(items, json_object_array_length(items) - 1);
        json_object_object_add(item, "theory", json_object_new_double(theory));
        json_object_object_add(item, "share", json_object_new_double(share));
    }
}

static void add_barrier(struct json_object *items, struct json_object *memory) {
    struct json_object *rate = json_object_new_object();
    double ns = json_member_number(memory, "barrier_ns", NAN);
    static const char *const keys[] = {"median", "least", "best"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && isfinite(ns); i++) {
        json_object_object_add(rate, keys[i], json_object_new_double(ns));
    }
    json_object_object_add(rate, "passes", json_object_new_int(1));
    add_item(items, "barrier", "us", json_member_u32(memory, "threads"), rate, 1e-3, "spinning");
    json_object_put(rate);
}

static struct json_object *convert_probe(struct json_object *o, double seconds) {
    struct json_object *line = json_object_new_object(), *items = json_object_new_array();
    double theory = json_member_number(json_member(o, "theory", json_type_object), "gb_s", NAN);
    struct json_object *memory = json_member(o, "memory", json_type_array),
                       *peak = json_member(o, "peak", json_type_array);
    json_object_object_add(line, "kind", json_object_new_string("probe"));
    json_object_object_add(line, "device", json_object_new_string("cpu"));
    json_object_object_add(line, "power_cap_w", NULL);
    json_object_object_add(line, "seconds", json_object_new_double(seconds));
    json_object_object_add(line, "items", items);
    for (size_t i = 0; memory && i < json_object_array_length(memory); i++) {
        struct json_object *m = json_object_array_get_idx(memory, i);
        add_memory(items, m, "read", theory,
                   isnan(theory) ? "loads; no theory: the firmware's records of its modules cannot be read" : "loads");
        add_memory(items, m, "copy", theory, "loads and stores; read and written bytes count");
        add_barrier(items, m);
    }
    for (size_t i = 0; peak && i < json_object_array_length(peak); i++) {
        struct json_object *p = json_object_array_get_idx(peak, i);
        struct json_object *kind = json_member(p, "kind", json_type_string),
                           *isa = json_member(p, "isa", json_type_string);
        struct json_object *rate = json_member(p, "gop_s", json_type_object);
        if (kind && isa && rate) {
            add_item(items, json_object_get_string(kind), "Tops/s", json_member_u32(p, "threads"), rate, 1e-3,
                     json_object_get_string(isa));
        }
    }
    return line;
}

/* A line in the record's form: `kind` goes first, the chain is the writer's; the rest stands in the run line's
 * environment, from where the power limit comes that no --power-caps set. */
static struct json_object *take_probe(const struct bench *b, struct json_object *o) {
    static const char *const keys[] = {"device", "power_cap_w", "seconds", "items"};
    struct json_object *line = json_object_new_object();
    json_object_object_add(line, "kind", json_object_new_string("probe"));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        struct json_object *v = NULL;
        if (json_object_object_get_ex(o, keys[i], &v)) {
            json_object_object_add(line, keys[i], json_object_get(v));
        }
    }
    struct json_object *device = json_member(line, "device", json_type_string);
    unsigned gpu;
    if (device && sscanf(json_object_get_string(device), "gpu%u", &gpu) == 1 && gpu < b->environment.n_gpus &&
        b->environment.gpu[gpu].power_limit_w > 0 && !json_object_object_get(line, "power_cap_w")) {
        json_object_object_add(line, "power_cap_w", json_object_new_double(b->environment.gpu[gpu].power_limit_w));
    }
    return line;
}

static sluice_status add_probe(struct bench *b, struct json_object *o, sluice_error *err) {
    struct json_object *kind = json_member(o, "kind", json_type_string);
    bool form2 = kind && strcmp(json_object_get_string(kind), "probe") == 0;
    if (!form2 && !json_member(o, "memory", json_type_array)) {
        return fail(err, SLUICE_E_FORMAT, "`sluice probe` printed something that is no result");
    }
    json_object_array_add(b->raw->probes, form2 ? take_probe(b, o) : convert_probe(o, b->suite.probe_seconds));
    return SLUICE_OK;
}

static sluice_status probe_device(struct bench *b, const char *self, const char *which, double seconds,
                                  sluice_error *err) {
    char text_seconds[16];
    struct buf text = {0};
    snprintf(text_seconds, sizeof text_seconds, "%.1f", seconds);
    const char *argv[ARGS_MAX] = {self, "probe", which, "--json", "--seconds", text_seconds, NULL};
    sluice_error why = {0};
    bool cut = false;
    double most = b->suite.seconds > 0 ? PROBE_PATIENCE * seconds : 0;
    sluice_status status = child_capture((char *const *)argv, b->options->stop, most, &text, &cut, &why);
    if (status == SLUICE_OK && cut) {
        status = fail(&why, SLUICE_E_IO, "the probe did not end within %.0f s; the machine is busy", most);
    }
    if (status == SLUICE_OK) {
        status = each_line(b, &text, add_probe, &why);
    }
    buf_free(&text);
    if (status == SLUICE_E_CANCELLED || status == SLUICE_E_NOMEM) {
        return fail(err, status, "%s", why.text);
    }
    if (status != SLUICE_OK) {
        snprintf(b->raw_note, sizeof b->raw_note, "no limits: %.180s", why.text);
    }
    return SLUICE_OK;
}

static sluice_status run_probe(struct bench *b, const char *self, sluice_error *err) {
    TRY(probe_device(b, self, "--cpu", b->suite.probe_seconds, err));
    if (b->nvml && nvml_count(b->nvml) > 0 && probe_gpu_count() > 0) {
        /* its power limit acts after a second or two of matrix work */
        return probe_device(b, self, "--gpu", b->suite.probe_seconds * GPU_PROBE_FACTOR, err);
    }
    return SLUICE_OK;
}

void bench_pick_limits(struct bench *b) {
    static const char *const kinds[] = {"int8", "fp16", "bf16", "f32"};
    const char *device = strcmp(b->target.device_api, "cuda") == 0 ? "gpu0" : "cpu";
    bool quantised = b->file.quantization[0] == 'Q' || b->file.quantization[0] == 'I';
    b->limits = (struct limits){.read_gb_s = best_of(b->raw, device, "read", false)};
    for (size_t i = quantised ? 0 : 1; i < sizeof kinds / sizeof kinds[0] && b->limits.matrix_tops <= 0; i++) {
        b->limits.matrix_tops = best_of(b->raw, device, kinds[i], device[0] == 'g');
        b->limits.matrix_kind = kinds[i];
    }
}

sluice_status bench_measure_machine(struct bench *b, sluice_error *err) {
    char self[4096];
    const struct bench_options *o = b->options;
    bool here = !o->url || client_is_loopback(o->url); /* another machine's limits are not known here */
    b->raw = mem_calloc(1, sizeof *b->raw);
    if (!b->raw) {
        return fail(err, SLUICE_E_NOMEM, "no memory for engine-only rows");
    }
    b->raw->probes = json_object_new_array();
    if (!o->model_path || !here) {
        return SLUICE_OK;
    }
    TRY(child_self(self, sizeof self, err));
    if (o->on_progress) {
        o->on_progress(o->ctx, "probe", 0, 1);
    }
    TRY(run_probe(b, self, err));
    if (o->url && !o->raw) {
        return SLUICE_OK;
    }
    if (o->on_progress) {
        o->on_progress(o->ctx, "raw", 0, 1);
    }
    TRY(run_raw(b, self, err));
    return o->url ? SLUICE_OK : bench_quality_own(b, self, err);
}
