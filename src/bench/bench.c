/* Drives a suite from the machine's limits to the record's last line. */
#include "bench/bench.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "bench/child.h"
#include "bench/prompt.h"
#include "machine/listener.h"
#include "machine/process.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define HASH_QUICK_MS 2000
#define HASH_MS       180000
#define LOAD_SLOTS    8u
#define SPILL_BYTES   (64 << 20) /* that went to swap during a load: more than noise */

static bool stopped(const struct bench *b) {
    return b->options->stop && atomic_load(b->options->stop);
}

/* ---- The server */

/* Bytes in use and in swap on the whole machine; false where /proc/meminfo does not say. */
static bool machine_memory(int64_t *used, int64_t *swapped) {
    long long total = -1, available = -1, swap = -1, swap_free = -1;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        (void)(sscanf(line, "MemTotal: %lld", &total) || sscanf(line, "MemAvailable: %lld", &available) ||
               sscanf(line, "SwapTotal: %lld", &swap) || sscanf(line, "SwapFree: %lld", &swap_free));
    }
    if (f) {
        fclose(f);
    }
    *used = (int64_t)(total - available) << 10;
    *swapped = swap >= 0 && swap_free >= 0 ? (int64_t)(swap - swap_free) << 10 : 0;
    return total >= 0 && available >= 0;
}

/* Bytes in use on all GPUs; -1 where there is none that says so. */
static int64_t gpu_memory(const struct bench *b) {
    int64_t sum = -1;
    for (uint32_t i = 0; b->nvml && i < nvml_count(b->nvml); i++) {
        struct nvml_reading r;
        nvml_read(b->nvml, i, &r);
        sum = r.used_bytes < 0 ? sum : (sum < 0 ? 0 : sum) + (int64_t)r.used_bytes;
    }
    return sum;
}

/* A server on the GPU loads into the GPU's memory: less of it than the file has bytes means that the rest lies elsewhere. */
static void judge_gpu_load(struct bench *b) {
    if (b->own_server && strcmp(b->target.device_api, "cuda") == 0 && b->vram_before >= 0 && b->vram_after >= 0) {
        b->memory_before = b->vram_before;
        b->memory_after = b->vram_after;
        b->spilled = b->vram_after - b->vram_before < (int64_t)b->file.bytes;
    }
}

/* `<this program> serve` with as many slots as the widest row needs. */
static sluice_status start_server(struct bench *b, struct child **out, char *url, size_t cap, sluice_error *err) {
    char self[4096], slots[16];
    int64_t swapped, swapped_after;
    uint32_t width = b->suite.open_loop ? LOAD_SLOTS : suite_width(&b->suite);
    snprintf(slots, sizeof slots, "%u", width);
    TRY(child_self(self, sizeof self, err));
    char *argv[] = {self,
                    (char *)"serve",
                    (char *)"--port",
                    (char *)"0",
                    (char *)"--slots",
                    slots,
                    (char *)"-m",
                    (char *)b->options->model_path,
                    NULL};
    bool known = machine_memory(&b->memory_before, &swapped);
    b->vram_before = gpu_memory(b);
    TRY(child_start(argv, b->options->stop, out, url, cap, err));
    known = known && machine_memory(&b->memory_after, &swapped_after);
    b->vram_after = gpu_memory(b);
    if (known) {
        b->spilled = swapped_after - swapped > SPILL_BYTES;
    } else {
        b->memory_before = b->memory_after = -1;
    }
    b->server_pid = child_pid(*out);
    watch_own(b->watch, b->server_pid);
    snprintf(b->target.command_line, sizeof b->target.command_line, "sluice serve --port 0 --slots %s -m %s", slots,
             b->file.name);
    return SLUICE_OK;
}

static sluice_status get_suite(struct bench *b, sluice_error *err) {
    struct suite_options o = {b->options->suite, b->target.context, b->target.slots, b->options->max_concurrency};
    return suite_get(&o, &b->suite)
               ? SLUICE_OK
               : fail(err, SLUICE_E_ARG, "there is no suite \"%.40s\"; quick, page, depth and load exist",
                      b->options->suite);
}

static sluice_status connect_target(struct bench *b, const char *url, sluice_error *err) {
    struct client_options o = {
        .url = url,
        .api_key = b->options->api_key,
        .silence_s = b->options->silence_s,
        .stop = b->options->stop,
        .zero_ns = b->zero_ns,
    };
    TRY(client_open(&o, &b->target.client, err));
    snprintf(b->target.url, sizeof b->target.url, "%s", client_base(b->target.client));
    TRY(target_identify(&b->target, b->options->model, b->options->natural_stop, err));
    TRY(get_suite(b, err)); /* again: its cells follow the context and the slots */
    bench_pick_limits(b);
    judge_gpu_load(b);
    return SLUICE_OK;
}

/* ---- Rows */

/* The prompt of a cell; the last one made is kept, because neighbouring cells share it. */
static sluice_status get_prompt(struct bench *b, const struct cell *cell, sluice_error *err) {
    if (b->prompt && b->prompt->workload == cell->workload && b->prompt->wanted == cell->prompt_tokens) {
        return SLUICE_OK;
    }
    if (b->prompt) {
        prompt_free(b->prompt);
    } else {
        b->prompt = mem_calloc(1, sizeof *b->prompt);
    }
    if (!b->prompt) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a prompt");
    }
    sluice_status status = prompt_make(&b->target, cell->workload, cell->prompt_tokens, &b->nonce, b->prompt, err);
    if (status != SLUICE_OK) {
        b->prompt->workload = NULL;
    }
    return status;
}

/* A row without requests, because its prompt could not even be made. */
static sluice_status add_failure(struct row *row, const sluice_error *why, sluice_error *err) {
    struct sample *s = row_add_samples(row, 1);
    if (!s) {
        return fail(err, SLUICE_E_NOMEM, "no memory for samples");
    }
    s->refused = why->status == SLUICE_E_LIMIT;
    s->prompt_tokens_wanted = row->cell.prompt_tokens;
    memcpy(s->error, why->text, sizeof s->error < sizeof why->text ? sizeof s->error : sizeof why->text);
    s->error[sizeof s->error - 1] = '\0';
    row->runs = 1;
    return SLUICE_OK;
}

/* The power limit that the row was measured under; NAN where the target runs on no GPU whose limit is known. */
static double power_cap(const struct bench *b) {
    const struct environment *e = &b->environment;
    bool on_gpu = strcmp(b->target.device_api, "cuda") == 0 && e->n_gpus > 0;
    return on_gpu && e->gpu[0].power_limit_w > 0 ? e->gpu[0].power_limit_w : NAN;
}

static void add_overhead(const struct bench *b, struct row *row) {
    const struct stats_summary *ttft = &row->metric[METRIC_TTFT], *prompt = &row->metric[METRIC_PROMPT];
    if (row->cell.cache == CACHE_COLD && row->cell.arrival == ARRIVAL_CLOSED && row->cell.concurrency == 1 && ttft->n &&
        prompt->n) {
        double engine_ms = raw_prefill_ms(b->raw, (uint32_t)prompt->median);
        row_set_single(row, METRIC_OVERHEAD, engine_ms > 0 ? ttft->median - engine_ms : NAN);
    }
}

static sluice_status finish_row(struct bench *b, struct row *row, const struct watch_summary *seen, sluice_error *err) {
    if (!row_summarise(row)) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the figures of a row");
    }
    if (row->test == TEST_API) {
        row_judge(row, b->target.reports_cached);
        add_overhead(b, row);
        b->n_api_rows++;
    }
    row_set_limit(row, &b->file, &b->limits, b->target.drafts);
    row->power_cap_w = power_cap(b);
    bench_watch_row(b, row, seen);
    bench_learn_pace(b, row);
    b->n_rows++;
    b->n_noisy += row->state != ROW_CLEAN;
    if (row->n_failed) {
        if (b->n_failed == 0) {
            memcpy(b->error, row->error, sizeof b->error);
        }
        b->n_failed += row->n_failed;
    }
    TRY(bench_write_samples(b, row, err));
    TRY(bench_write_row(b, row, err));
    if (b->options->on_row) {
        b->options->on_row(b->options->ctx, b, row);
    }
    return SLUICE_OK;
}

/* What the cell says of the server's capacity: requests per second; open loop: share of them within the latency
 * target. */
static double capacity(const struct row *row) {
    const struct stats_summary *m = row->metric;
    if (row->cell.arrival == ARRIVAL_POISSON) {
        return m[METRIC_REQUESTS].n && m[METRIC_GOODPUT].n && row->n_failed == 0
                   ? m[METRIC_GOODPUT].median / m[METRIC_REQUESTS].median
                   : 0;
    }
    return m[METRIC_AGGREGATE].n ? m[METRIC_AGGREGATE].median / m[METRIC_OUTPUT].median : 0;
}

/* Whether the last request of the row gave an answer: a server that failed is not asked again for its energy. */
static bool row_measured(const struct row *row) {
    return row->n_samples > 0 && row->samples[row->n_samples - 1].ok;
}

sluice_status bench_run_cell(struct bench *b, const struct cell *cell, uint64_t deadline_ns, double *rate,
                             bool *refused, sluice_error *err) {
    struct row row;
    sluice_error why = {0};
    row_init(&row, cell, b->options->natural_stop || !b->target.takes[FIELD_IGNORE_EOS]);
    row.slo_ttft_ms = b->options->slo_ttft_ms;
    row.slo_tpot_ms = b->options->slo_tpot_ms;
    sluice_status status = get_prompt(b, cell, &why);
    if (status == SLUICE_E_LIMIT && refused) {
        *refused = true;
        return SLUICE_OK;
    }
    if (stopped(b) || status == SLUICE_E_CANCELLED) {
        return fail(err, SLUICE_E_CANCELLED, "interrupted");
    }
    if (status == SLUICE_E_NOMEM) {
        return fail(err, status, "%s", why.text);
    }
    if (status != SLUICE_OK) {
        status = add_failure(&row, &why, err);
    } else {
        row.template_tokens = b->prompt->template_tokens;
        status = cell->arrival == ARRIVAL_POISSON ? bench_send_open_loop(b, &row, b->prompt, err)
                                                  : bench_send_rounds(b, &row, b->prompt, deadline_ns, err);
        if (status == SLUICE_OK && row_measured(&row)) {
            status = bench_measure_energy(b, &row, b->prompt, err);
        }
    }
    if (status == SLUICE_OK || status == SLUICE_E_CANCELLED) { /* of an interrupted row the requests that ended count */
        sluice_status finished = row.n_samples ? finish_row(b, &row, NULL, err) : SLUICE_OK;
        status = finished == SLUICE_OK ? status : finished;
    }
    if (rate && status == SLUICE_OK) {
        *rate = capacity(&row);
    }
    row_free(&row);
    return status;
}

/* What is behind cell i, and i itself, asks for more than the target takes: that is how far the sweep goes. */
static void leave_out_rest(struct bench *b, uint32_t i) {
    for (; i < b->suite.n_cells; i++) {
        bench_leave_out(b, &b->suite.cells[i], "the prompt is longer than the target takes");
    }
}

static sluice_status run_cells(struct bench *b, sluice_error *err) {
    uint64_t end = b->zero_ns + (uint64_t)(b->suite.seconds * 1e9); /* the whole run, what came before rows included */
    double best_rate = 0;
    bool left = false;
    for (uint32_t i = 0; i < b->suite.n_cells; i++) {
        const struct cell *c = &b->suite.cells[i];
        b->requests_total += (uint64_t)(c->warmups + c->runs) * c->concurrency;
    }
    for (uint32_t i = 0; i < b->suite.n_cells; i++) {
        bool refused = false, skipped = b->suite.cells[i].stand_in && !left;
        double rate = 0;
        struct cell cell = b->suite.cells[i];
        uint64_t deadline;
        left = !skipped && !bench_fits(b, i, end, &cell, &deadline);
        if (left || skipped) {
            b->requests_done += (uint64_t)(cell.warmups + cell.runs) * cell.concurrency;
            continue;
        }
        TRY(bench_run_cell(b, &cell, deadline, &rate, cell.is_depth && i > 0 ? &refused : NULL, err));
        if (refused) {
            leave_out_rest(b, i);
            break;
        }
        best_rate = fmax(best_rate, rate);
    }
    return b->suite.open_loop ? bench_sweep_rates(b, best_rate, err) : SLUICE_OK;
}

static sluice_status write_machine(struct bench *b, sluice_error *err) {
    TRY(bench_write_run(b, err));
    TRY(bench_write_probes(b, err));
    if (b->options->on_start) {
        b->options->on_start(b->options->ctx, b);
    }
    for (uint32_t i = 0; i < b->raw->n; i++) {
        TRY(finish_row(b, &b->raw->rows[i], i < b->raw->n_seen ? &b->raw->seen[i] : NULL, err));
    }
    struct watch_summary before; /* the first row's time starts here, not with the probe */
    watch_row(b->watch, &before);
    return SLUICE_OK;
}

static sluice_status write_end(struct bench *b, bool interrupted, sluice_error *err) {
    b->interrupted = interrupted;
    b->duration_s = clock_ms_since(b->zero_ns) * 1e-3;
    bench_watch_stop(b);
    TRY(bench_write_trace(b, err));
    TRY(bench_write_end(b, err));
    if (b->options->on_end) {
        b->options->on_end(b->options->ctx, b);
    }
    return SLUICE_OK;
}

static sluice_status run_all(struct bench *b, struct child **server, sluice_error *err) {
    char url[256];
    const struct bench_options *o = b->options;
    TRY(get_suite(b, err));
    if (o->model_path) {
        TRY(model_facts_read(o->model_path, b->suite.seconds > 0 ? HASH_QUICK_MS : HASH_MS, &b->file, err));
    }
    TRY(bench_measure_machine(b, err));
    if (!o->url) {
        b->own_server = true;
        TRY(start_server(b, server, url, sizeof url, err));
    }
    TRY(connect_target(b, o->url ? o->url : url, err));
    if (o->url && client_is_loopback(b->target.url)) {
        int pid = listener_pid(listener_port(b->target.url));
        b->server_pid = pid > 0 ? pid : 0;
        if (pid > 0) {
            watch_own(b->watch, pid);
            (void)process_command("", pid, b->target.command_line, sizeof b->target.command_line);
        }
    }
    if (o->url) {
        TRY(bench_quality_foreign(b, err));
    }
    TRY(write_machine(b, err));
    sluice_status status = run_cells(b, err);
    if (status == SLUICE_OK || status == SLUICE_E_CANCELLED) {
        sluice_status ended = write_end(b, status == SLUICE_E_CANCELLED, err);
        status = ended == SLUICE_OK ? status : ended;
    }
    return status;
}

static void make_id(struct bench *b) {
    uint64_t id;
    if (getrandom(&id, sizeof id, 0) != sizeof id) {
        id = clock_ns() ^ (uint64_t)getpid() << 48;
    }
    snprintf(b->id, sizeof b->id, "%016llx", (unsigned long long)id);
}

sluice_status bench_run(const struct bench_options *options, sluice_error *err) {
    struct child *server = NULL;
    struct bench *b = mem_calloc(1, sizeof *b);
    if (!b) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a benchmark");
    }
    b->options = options;
    b->zero_ns = clock_ns();
    b->nonce = options->nonce;
    b->memory_before = b->memory_after = b->spilled = -1;
    b->vram_before = b->vram_after = -1;
    b->file.synthetic = -1;
    make_id(b);
    sluice_status status = bench_watch_start(b, err);
    if (status == SLUICE_OK) {
        status = run_all(b, &server, err);
    }
    if (status != SLUICE_OK && stopped(b)) {
        status = fail(err, SLUICE_E_CANCELLED, "interrupted");
    }
    client_close(b->target.client);
    child_stop(server);
    target_free(&b->target);
    if (b->prompt) {
        prompt_free(b->prompt);
        mem_free(b->prompt);
    }
    raw_rows_free(b->raw);
    bench_watch_free(b);
    buf_free(&b->line);
    mem_free(b);
    return status;
}
