/*
 * A results page as text: a header (name, checkpoint, commit), the table "All runs (N)" of 18 columns, and one block of
 * environment per rig and power cap, with its probe table. Each block becomes a record. The columns have no heads in
 * the text; their meaning is what the arithmetic between them shows.
 */
#include "base/mem.h"
#include "base/status.h"
#include "base/utf8.h"
#include "record/import.h"
#include "record/line.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB 1073741824.0

enum { LINES_MAX = 20000, BLOCKS_MAX = 64, COLUMNS = 18 };

struct block { /* lines[from .. to) of one environment */
    size_t from, to;
    double cap_w; /* NAN: the page states none */
};

struct page {
    char *text;
    char **lines; /* [n], ended by NUL */
    size_t n, table, environment;
    char repository[256], quantization[64], commit[64], weights[64];
    double n_params;
    struct block blocks[BLOCKS_MAX];
    size_t n_blocks;
};

struct table_row {
    char *column[COLUMNS];
    double cap_w;    /* from the hardware column; NAN */
    size_t hardware; /* bytes of its name before the power state */
    bool taken;
};

/* ---- Text -------------------------------------------------------------------------------------------------------- */

static char *trim(char *s) {
    s += strspn(s, " \t");
    size_t n = strlen(s);
    while (n && strchr(" \t\r", s[n - 1])) {
        s[--n] = '\0';
    }
    return s;
}

static sluice_status split_lines(struct import *im, struct page *p) {
    size_t valid = utf8_valid_prefix(im->bytes, im->n);
    if (valid < im->n || memchr(im->bytes, 0, im->n)) {
        return fail(im->err, SLUICE_E_FORMAT, "%s is no text: byte %zu is not UTF-8", im->name, valid);
    }
    p->text = mem_strndup(im->bytes, im->n);
    p->lines = mem_calloc(LINES_MAX, sizeof *p->lines);
    if (!p->text || !p->lines) {
        return fail(im->err, SLUICE_E_NOMEM, "no memory for %s", im->name);
    }
    char *next = p->text;
    while (next) {
        char *line = strsep(&next, "\n");
        if (p->n == LINES_MAX) {
            return fail(im->err, SLUICE_E_LIMIT, "%s has more than %d lines; a results page is shorter", im->name,
                        LINES_MAX);
        }
        p->lines[p->n++] = trim(line);
    }
    return SLUICE_OK;
}

/* The number at the start of a text; NAN where there is none. */
static double leading(const char *s) {
    char *end;
    if (!s || !strchr("-0123456789", *s) || !*s) {
        return NAN;
    }
    double v = strtod(s, &end);
    return end == s ? NAN : v;
}

/* What follows a name at the start of one of the block's lines, or NULL. */
static const char *field(const struct page *p, const struct block *b, const char *name) {
    size_t n = strlen(name);
    for (size_t i = b->from + 1; i < b->to; i++) {
        if (strncmp(p->lines[i], name, n) == 0 && p->lines[i][n]) {
            return p->lines[i] + n;
        }
    }
    return NULL;
}

/* ---- The header -------------------------------------------------------------------------------------------------- */

static void copy(char *out, size_t cap, const char *s, size_t n) {
    snprintf(out, cap, "%.*s", (int)(n < cap ? n : cap - 1), s);
}

static void read_header(struct page *p) {
    const char *params = p->n > 1 ? strstr(p->lines[1], "B params") : NULL;
    while (params && params > p->lines[1] && strchr("0123456789.", params[-1])) {
        params--;
    }
    p->n_params = leading(params) * 1e9;
    for (size_t i = 0; i < p->table; i++) {
        char *commit = strstr(p->lines[i], "commit:");
        char *weights = strstr(p->lines[i], "weights ");
        if (commit) { /* owner/name:quantization, then the word */
            char *colon = memrchr(p->lines[i], ':', (size_t)(commit - p->lines[i]));
            char *end = colon ? colon : commit;
            copy(p->repository, sizeof p->repository, p->lines[i], (size_t)(end - p->lines[i]));
            if (colon) {
                copy(p->quantization, sizeof p->quantization, colon + 1, (size_t)(commit - colon - 1));
            }
        }
        if (weights) {
            copy(p->commit, sizeof p->commit, p->lines[i], (size_t)(weights - p->lines[i]));
            copy(p->weights, sizeof p->weights, weights + 8, strlen(weights + 8));
        }
    }
}

static sluice_status find_parts(struct import *im, struct page *p) {
    p->table = p->environment = p->n;
    for (size_t i = p->n; i-- > 0;) {
        p->table = strncmp(p->lines[i], "All runs (", 10) == 0 ? i : p->table;
        p->environment = strcmp(p->lines[i], "Environment") == 0 ? i : p->environment;
    }
    if (p->table == p->n || p->environment == p->n || p->environment < p->table) {
        return fail(im->err, SLUICE_E_FORMAT,
                    "%s is no results page: \"All runs (N)\" and after it \"Environment\" are expected", im->name);
    }
    for (size_t i = p->environment + 1; i + 1 < p->n; i++) {
        if (strncmp(p->lines[i + 1], "cpu", 3) != 0) {
            continue;
        }
        if (p->n_blocks == BLOCKS_MAX) {
            return fail(im->err, SLUICE_E_LIMIT, "%s has more than %d environments", im->name, BLOCKS_MAX);
        }
        if (p->n_blocks) {
            p->blocks[p->n_blocks - 1].to = i;
        }
        p->blocks[p->n_blocks++] = (struct block){.from = i, .to = p->n};
    }
    for (size_t i = 0; i < p->n_blocks; i++) {
        p->blocks[i].cap_w = leading(field(p, &p->blocks[i], "power"));
    }
    read_header(p);
    return SLUICE_OK;
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

/* "...24 GiBcap 350 Wdrv 590", "...24 GiB450 W maxdrv 590", "...unified": the name ends where the power state
 * begins. */
static void read_hardware(struct table_row *r) {
    const char *s = r->column[2];
    const char *cap = strstr(s, "cap "), *max = strstr(s, " W max");
    r->cap_w = NAN;
    r->hardware = strlen(s);
    if (cap && !isnan(leading(cap + 4))) {
        r->cap_w = leading(cap + 4);
        r->hardware = (size_t)(cap - s);
    } else if (max) {
        const char *digits = max;
        while (digits > s && strchr("0123456789", digits[-1])) {
            digits--;
        }
        r->cap_w = leading(digits);
        r->hardware = (size_t)(digits - s);
    }
}

static sluice_status read_row(struct import *im, const struct page *p, size_t line, struct table_row *r) {
    char *next = p->lines[line] + 1;
    size_t n = 0;
    *r = (struct table_row){.cap_w = NAN};
    while (next && n < COLUMNS) {
        r->column[n++] = trim(strsep(&next, "|"));
    }
    if (n < COLUMNS || !next || *trim(next)) {
        return fail(im->err, SLUICE_E_FORMAT, "%s, line %zu: a row of %d columns is expected", im->name, line + 1,
                    COLUMNS);
    }
    if (isnan(leading(r->column[6])) || isnan(leading(r->column[7]))) {
        return fail(im->err, SLUICE_E_FORMAT,
                    "%s, line %zu: column 7 is the concurrency and column 8 the decode rate, not \"%.20s\" and "
                    "\"%.20s\"",
                    im->name, line + 1, r->column[6], r->column[7]);
    }
    read_hardware(r);
    return SLUICE_OK;
}

static bool belongs(const struct page *p, const struct block *b, const struct table_row *r) {
    const char *heading = p->lines[b->from];
    size_t n = strlen(heading);
    bool same_cap = isnan(r->cap_w) ? isnan(b->cap_w) : r->cap_w == b->cap_w;
    return same_cap && n <= strlen(r->column[2]) && memcmp(heading, r->column[2], n) == 0;
}

/* ---- Lines of a record ------------------------------------------------------------------------------------------- */

/* "llama.cpp cuda-4f13cb7 (cuda)" */
static void split_backend(const char *s, char engine[64], char build[64], char api[64]) {
    const char *space = strchr(s, ' '), *open = strrchr(s, '(');
    copy(engine, 64, s, space ? (size_t)(space - s) : strlen(s));
    build[0] = api[0] = '\0';
    if (space) {
        const char *end = open && open > space ? open - 1 : s + strlen(s);
        copy(build, 64, space + 1, (size_t)(end - space - 1));
    }
    if (open) {
        copy(api, 64, open + 1, strcspn(open + 1, ")"));
    }
}

struct texts { /* what a run line points into */
    char engine[64], build[64], api[64], driver[64], cuda[32], compiler[64], note[512];
};

static void read_driver(const char *s, struct texts *t) {
    const char *plus = strstr(s, " + CUDA ");
    s += strncmp(s, "NVIDIA ", 7) == 0 ? 7 : 0;
    copy(t->driver, sizeof t->driver, s, plus && plus > s ? (size_t)(plus - s) : strlen(s));
    copy(t->cuda, sizeof t->cuda, plus ? plus + 8 : "", plus ? strlen(plus + 8) : 0);
}

static void read_numbers(const struct page *p, const struct block *b, struct import_run *r) {
    const char *clocks = field(p, b, "clocksgfx "), *pcie = field(p, b, "pcieGen "), *vram = field(p, b, "vram");
    const char *system = vram ? strstr(vram, "(system ") : NULL, *power = field(p, b, "power");
    const char *slash = power ? strstr(power, "/ ") : NULL;
    if (clocks) {
        (void)sscanf(clocks, "%lf/%lf MHz \xC2\xB7 mem %lf", &r->clock_sm, &r->clock_sm_max, &r->clock_mem);
    }
    if (pcie) {
        (void)sscanf(pcie, "%lf x%lf / Gen %lf x%lf", &r->pcie_gen, &r->pcie_width, &r->pcie_gen_max,
                     &r->pcie_width_max);
    }
    for (size_t i = b->from; i < b->to; i++) {
        double bus, clock, units;
        if (sscanf(p->lines[i], "%lf-bit%lf MHz%lf SM/CU", &bus, &clock, &units) == 3) {
            r->bus_width = bus;
            r->clock_mem_max = clock;
            r->sms = units;
        }
    }
    r->gpu_memory = leading(vram) * GIB;
    r->memory_total = system ? leading(system + 8) * GIB : NAN;
    r->unified_memory = vram ? strstr(vram, "unified") != NULL : -1;
    r->power_limit_w = leading(power);
    r->power_limit_max_w = slash ? leading(slash + 2) : NAN;
}

static sluice_status put_run(struct import *im, const struct page *p, const struct block *b, const char *label) {
    struct import_run r;
    struct texts t = {{0}};
    const char *backend = field(p, b, "backend"), *built = field(p, b, "llama.cppversion: ");
    const char *driver = field(p, b, "driver"), *streaming = field(p, b, "streaming"),
               *flags = field(p, b, "build flags");
    const char *python = field(p, b, "python"), *runs = field(p, b, "runs/cell"), *warmups = field(p, b, "warmups");
    import_run_init(&r);
    split_backend(backend ? backend : "", t.engine, t.build, t.api);
    read_driver(driver ? driver : "", &t);
    built = built ? strstr(built, "built with ") : NULL;
    if (built) {
        const char *end = strstr(built, " for ");
        copy(t.compiler, sizeof t.compiler, built + 11, end ? (size_t)(end - built - 11) : strlen(built + 11));
    }
    snprintf(t.note, sizeof t.note, "rig: %s; weights as printed: %s%s%s%s%s; runs per cell %s, warm-ups %s",
             p->lines[b->from], p->weights[0] ? p->weights : "not stated", flags ? "; build flags: " : "",
             flags ? flags : "", python ? "; python " : "", python ? python : "", runs ? runs : "?",
             warmups ? warmups : "?");
    r.label = label;
    r.suite = "page";
    r.suite_about = "rows of a results page, as printed";
    r.note = t.note;
    r.engine = t.engine;
    r.build = t.build;
    r.device_api = t.api;
    r.model = p->lines[0];
    r.endpoint = field(p, b, "endpoint");
    r.streaming = streaming ? strcmp(streaming, "true") == 0 : -1;
    r.file_name = p->lines[0];
    r.repository = p->repository;
    r.quantization = p->quantization;
    r.commit = p->commit;
    r.n_params = p->n_params;
    r.cpu = field(p, b, "cpu");
    r.os = field(p, b, "os");
    r.kernel = field(p, b, "kernel");
    r.libc = field(p, b, "libc");
    r.compiler = t.compiler;
    r.gpu = field(p, b, "gpu");
    r.has_gpu = r.gpu != NULL;
    r.driver = t.driver;
    r.cuda = t.cuda;
    r.compute_capability = field(p, b, "compute: ");
    read_numbers(p, b, &r);
    return import_put_run(im, &r);
}

static void put_item(struct buf *b, const char *name, const char *unit, double median, double theory) {
    if (isnan(median)) {
        return;
    }
    line_open(b, NULL, '{');
    line_put_text(b, "name", name);
    line_put_text(b, "unit", unit);
    line_put_null(b, "threads");
    line_put_number(b, "median", median);
    line_put_null(b, "min");
    line_put_null(b, "max");
    line_put_null(b, "n");
    line_put_null(b, "samples");
    line_put_number(b, "theory", theory);
    line_put_number(b, "share", median / theory);
    line_put_text(b, "how", "as printed by the source");
    line_close(b, '}');
}

/* "| 200 W | 936 GB/s | 391 GB/s | 65.4 TF | 65.4 TF |" */
static sluice_status put_probes(struct import *im, const struct page *p, const struct block *b) {
    for (size_t i = b->from; i < b->to; i++) {
        char *column[5], *next = p->lines[i] + 1;
        size_t n = 0;
        if (p->lines[i][0] != '|' || !strstr(p->lines[i], "GB/s")) {
            continue;
        }
        while (next && n < 5) {
            column[n++] = trim(strsep(&next, "|"));
        }
        if (n < 5) {
            return fail(im->err, SLUICE_E_FORMAT, "%s, line %zu: a probe row of 5 columns is expected", im->name,
                        i + 1);
        }
        line_start(&im->line, "probe");
        line_put_text(&im->line, "device", "gpu0");
        line_put_number(&im->line, "power_cap_w", leading(column[0]));
        line_put_null(&im->line, "seconds");
        line_open(&im->line, "items", '[');
        put_item(&im->line, "copy", "GB/s", leading(column[2]), leading(column[1]));
        put_item(&im->line, "fp16", "Tops/s", leading(column[3]), NAN);
        put_item(&im->line, "bf16", "Tops/s", leading(column[4]), NAN);
        line_close(&im->line, ']');
        TRY(import_put_line(im));
    }
    return SLUICE_OK;
}

static sluice_status put_row(struct import *im, const struct page *p, const struct block *b,
                             const struct table_row *t) {
    static const struct {
        int column;
        const char *name;
    } printed[] = {{7, "decode_tok_s"},   {8, "client_tok_s"}, {9, "prefill_tok_s"},
                   {11, "ttft"},          {12, "tpot_ms"},     {14, "prompt_tokens"},
                   {15, "output_tokens"}, {16, "latency"},     {17, "vram_delta"}};
    const char *pairs[2 * sizeof printed / sizeof *printed];
    char key[80];
    struct import_row r;
    snprintf(key, sizeof key, "%.60s/c%.0f", t->column[5], leading(t->column[6]));
    import_row_init(&r, key, "api");
    for (size_t i = 0; i < sizeof printed / sizeof *printed; i++) {
        if (isnan(leading(t->column[printed[i].column]))) {
            continue; /* a dash */
        }
        pairs[2 * r.n_printed] = printed[i].name;
        pairs[2 * r.n_printed + 1] = t->column[printed[i].column];
        r.n_printed++;
    }
    r.printed = pairs;
    r.workload = t->column[5];
    r.concurrency = leading(t->column[6]);
    r.arrival = "closed";
    r.batching = r.concurrency == 1 ? "single" : "unknown";
    r.cache_reason = "the source has no count of cached tokens";
    r.power_cap_w = t->cap_w;
    r.runs = leading(field(p, b, "runs/cell"));
    r.warmups = leading(field(p, b, "warmups"));
    r.reason = "printed figures without samples: spread and noise cannot be judged";
    return import_put_row(im, &r);
}

static sluice_status put_block(struct import *im, const struct page *p, const struct block *b, struct table_row *rows,
                               size_t n) {
    const char *temp = field(p, b, "temp"), *draw = field(p, b, "peak draw");
    const char *peak = temp ? strstr(temp, "\xC2\xB7 ") : NULL;
    struct import_noise noise = {leading(draw), leading(temp), peak ? leading(peak + 3) : NAN};
    const char *label = NULL;
    for (size_t i = 0; i < n; i++) {
        label = !label && !rows[i].taken && belongs(p, b, &rows[i]) ? rows[i].column[4] : label;
    }
    TRY(put_run(im, p, b, label));
    TRY(put_probes(im, p, b));
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].taken && belongs(p, b, &rows[i])) {
            rows[i].taken = true;
            TRY(put_row(im, p, b, &rows[i]));
        }
    }
    return import_put_end(im, NAN, temp || draw ? &noise : NULL);
}

static sluice_status put_all(struct import *im, struct page *p) {
    size_t n = 0, cap = p->environment - p->table;
    struct table_row *rows = mem_calloc(cap + 1, sizeof *rows);
    sluice_status status = rows ? SLUICE_OK : fail(im->err, SLUICE_E_NOMEM, "no memory for %s", im->name);
    for (size_t i = p->table + 1; i < p->environment && status == SLUICE_OK; i++) {
        if (p->lines[i][0] == '|') {
            status = read_row(im, p, i, &rows[n]);
            n += status == SLUICE_OK;
        }
    }
    double said = leading(p->lines[p->table] + 10);
    if (status == SLUICE_OK && said != (double)n) {
        status = fail(im->err, SLUICE_E_FORMAT,
                      "%s: the table is said to have %.0f rows and has %zu; the text is cut off", im->name, said, n);
    }
    for (size_t i = 0; i < p->n_blocks && status == SLUICE_OK; i++) {
        status = put_block(im, p, &p->blocks[i], rows, n);
    }
    for (size_t i = 0; i < n && status == SLUICE_OK; i++) {
        if (!rows[i].taken) {
            status = fail(im->err, SLUICE_E_FORMAT, "%s: no environment block describes \"%.100s\"", im->name,
                          rows[i].column[2]);
        }
    }
    mem_free(rows);
    return status;
}

sluice_status import_page(struct import *im) {
    struct page *p = mem_calloc(1, sizeof *p);
    if (!p) {
        return fail(im->err, SLUICE_E_NOMEM, "no memory for %s", im->name);
    }
    sluice_status status = split_lines(im, p);
    if (status == SLUICE_OK) {
        status = find_parts(im, p);
    }
    if (status == SLUICE_OK) {
        status = put_all(im, p);
    }
    mem_free(p->lines);
    mem_free(p->text);
    mem_free(p);
    return status;
}
