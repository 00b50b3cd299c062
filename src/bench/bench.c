/* Drives a suite: finds out what the server is, then sends the rounds of every cell. */
#include "bench/bench.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "bench/client.h"

#include <json-c/json.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct driver {
    const struct bench_options *options;
    struct bench_record *record;
    struct client **clients; /* [n_clients] */
    uint32_t n_clients;
    uint64_t zero_ns, nonce;
    double tokens_per_word;
    uint64_t requests_done, requests_total;
    struct suite suite;
    sluice_error *err;
};

/* One request of a round. All threads wait at the gate, so that they send together. */
struct job {
    struct client *client;
    struct buf body;
    struct sample sample;
    struct gate *gate;
    pthread_t thread;
    bool started;
};

struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    bool open;
};

static void *job_main(void *arg) {
    struct job *j = arg;
    pthread_mutex_lock(&j->gate->mutex);
    while (!j->gate->open) {
        pthread_cond_wait(&j->gate->opened, &j->gate->mutex);
    }
    pthread_mutex_unlock(&j->gate->mutex);
    client_chat(j->client, j->body.data, j->body.len, &j->sample);
    return NULL;
}

static bool stopped(const struct driver *d) {
    return d->options->stop && atomic_load(d->options->stop);
}

/* ---- What the server is */

static struct json_object *get_json(struct driver *d, const char *path, sluice_error *err) {
    struct buf body = {0};
    long http_status = 0;
    struct json_object *v = NULL;
    if (client_get(d->clients[0], path, &body, &http_status, err) == SLUICE_OK) {
        struct json_tokener *tok = http_status == 200 ? json_tokener_new_ex(LIMIT_JSON_DEPTH) : NULL;
        if (tok) {
            v = json_tokener_parse_ex(tok, body.data, (int)body.len);
            json_tokener_free(tok);
        }
        if (!v) {
            fail(err, SLUICE_E_FORMAT, "%.200s%s answered HTTP %ld without JSON", d->record->url, path, http_status);
        }
    }
    buf_free(&body);
    return v;
}

/* A positive integer at a path of keys; 0 when something on the way is missing. */
static uint32_t number_at(struct json_object *o, const char *key1, const char *key2) {
    struct json_object *v = o;
    const char *keys[] = {key1, key2};
    for (int i = 0; i < 2 && keys[i]; i++) {
        if (!json_object_is_type(v, json_type_object) || !json_object_object_get_ex(v, keys[i], &v)) {
            return 0;
        }
    }
    int64_t n = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : 0;
    return n > 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

static void copy_text(struct json_object *o, const char *key, char *out, size_t cap) {
    struct json_object *v = NULL;
    if (json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, key, &v) &&
        json_object_is_type(v, json_type_string)) {
        snprintf(out, cap, "%s", json_object_get_string(v));
    }
}

/* Servers name the context in different places: vLLM, llama.cpp, and others. */
static uint32_t find_context(struct driver *d, struct json_object *entry) {
    static const char *const places[][2] = {
        {"max_model_len", NULL}, {"context_length", NULL}, {"n_ctx", NULL}, {"meta", "n_ctx"}};
    for (size_t i = 0; entry && i < sizeof places / sizeof places[0]; i++) {
        uint32_t n = number_at(entry, places[i][0], places[i][1]);
        if (n) {
            return n;
        }
    }
    struct json_object *props = get_json(d, "/props", NULL);
    uint32_t n = number_at(props, "default_generation_settings", "n_ctx");
    n = n ? n : number_at(props, "n_ctx", NULL);
    json_object_put(props);
    return n;
}

/* The entry of /v1/models for the model asked for, or the first. */
static struct json_object *pick_entry(struct json_object *list, const char *model) {
    struct json_object *data = NULL;
    if (!json_object_is_type(list, json_type_object) || !json_object_object_get_ex(list, "data", &data) ||
        !json_object_is_type(data, json_type_array)) {
        return NULL;
    }
    for (size_t i = 0; model && i < json_object_array_length(data); i++) {
        char id[256] = "";
        copy_text(json_object_array_get_idx(data, i), "id", id, sizeof id);
        if (strcmp(id, model) == 0) {
            return json_object_array_get_idx(data, i);
        }
    }
    return model ? NULL : json_object_array_get_idx(data, 0);
}

static sluice_status identify(struct driver *d) {
    sluice_error why = {0};
    struct bench_record *r = d->record;
    struct json_object *list = get_json(d, "/v1/models", &why);
    if (!list && why.status != SLUICE_E_FORMAT) {
        return fail(d->err, why.status, "%s", why.text);
    }
    struct json_object *entry = pick_entry(list, d->options->model);
    if (d->options->model) {
        snprintf(r->model, sizeof r->model, "%s", d->options->model);
    } else if (entry) {
        copy_text(entry, "id", r->model, sizeof r->model);
    }
    copy_text(entry, "owned_by", r->engine, sizeof r->engine);
    r->context = find_context(d, entry);
    json_object_put(list);
    if (!r->model[0]) {
        return fail(d->err, SLUICE_E_IO, "%s lists no model at /v1/models (%s); name one with --model", r->url,
                    why.text[0] ? why.text : "the list is empty");
    }
    return SLUICE_OK;
}

/* ---- Rounds */

static sluice_status send_round(struct driver *d, const struct cell *cell, struct job *jobs) {
    struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    bool memory = true;
    for (uint32_t i = 0; i < cell->concurrency; i++) {
        struct job *j = &jobs[i];
        *j = (struct job){.client = d->clients[i], .gate = &gate};
        sample_reset(&j->sample);
        workload_body(&j->body, cell, d->record->model, d->nonce++, d->tokens_per_word, d->options->ignore_eos);
        memory = memory && !j->body.failed;
        if (memory) {
            j->started = pthread_create(&j->thread, NULL, job_main, j) == 0;
        }
        if (!j->started) {
            snprintf(j->sample.error, sizeof j->sample.error, "the system refused thread %u of %u", i + 1,
                     cell->concurrency);
        }
    }
    pthread_mutex_lock(&gate.mutex);
    gate.open = true;
    pthread_cond_broadcast(&gate.opened);
    pthread_mutex_unlock(&gate.mutex);
    for (uint32_t i = 0; i < cell->concurrency; i++) {
        if (jobs[i].started) {
            pthread_join(jobs[i].thread, NULL);
        }
        buf_free(&jobs[i].body);
    }
    return memory ? SLUICE_OK : fail(d->err, SLUICE_E_NOMEM, "no memory for a request");
}

/* How many tokens the words of the adjustable prompt made, for the next size. */
static void learn(struct driver *d, const struct cell *cell, const struct sample *s) {
    if (!cell->workload && s->ok && s->prompt_tokens > 64) {
        d->tokens_per_word = (double)s->prompt_tokens / workload_words(cell->prompt_tokens, d->tokens_per_word);
    }
}

static void report(struct driver *d, const struct row *row) {
    if (d->options->on_progress) {
        d->options->on_progress(d->options->ctx, row->name, d->requests_done, d->requests_total);
    }
}

/* All rounds of a row. deadline_ns 0: none. The first request of all decides whether there is a server to measure. */
static sluice_status run_rounds(struct driver *d, struct row *row, struct job *jobs, uint64_t deadline_ns) {
    const struct cell *cell = &row->cell;
    uint32_t rounds = cell->warmups + cell->runs;
    for (uint32_t i = 0; i < rounds; i++) {
        uint64_t start = clock_ns();
        struct cell asked = *cell;
        if (i < cell->warmups && cell->warmup_tokens) {
            asked.max_tokens = cell->warmup_tokens;
        }
        TRY(send_round(d, &asked, jobs));
        if (stopped(d)) {
            return fail(d->err, SLUICE_E_CANCELLED, "interrupted");
        }
        const struct sample *s = &jobs[0].sample;
        if (d->requests_done == 0 && !s->ok && !s->refused) {
            return fail(d->err, SLUICE_E_IO, "%s", s->error);
        }
        learn(d, cell, s);
        d->requests_done += cell->concurrency;
        report(d, row);
        if (i < cell->warmups) {
            row->warmups++;
            if (s->ok) {
                continue;
            }
            /* what the warm-up cannot do, no run can: it is kept as the only run, with its error */
        }
        for (uint32_t k = 0; k < cell->concurrency; k++) {
            row->samples[row->n_samples++] = jobs[k].sample;
        }
        row->runs++;
        uint64_t now = clock_ns();
        bool late = deadline_ns && now + (now - start) > deadline_ns;
        if (!s->ok || (late && i + 1 < rounds)) {
            row->cut = late;
            d->requests_done += (uint64_t)(rounds - 1 - i) * cell->concurrency;
            break;
        }
    }
    return SLUICE_OK;
}

static sluice_status run_row(struct driver *d, struct row *row, uint64_t deadline_ns) {
    struct cell *cell = &row->cell;
    struct job *jobs = mem_calloc(cell->concurrency, sizeof *jobs);
    row->samples = mem_calloc((size_t)(cell->runs + cell->warmups) * cell->concurrency, sizeof *row->samples);
    sluice_status status = SLUICE_OK;
    if (!jobs || !row->samples) {
        status = fail(d->err, SLUICE_E_NOMEM, "no memory for the samples of a row");
    } else {
        status = run_rounds(d, row, jobs, deadline_ns);
    }
    mem_free(jobs);
    if (status == SLUICE_OK && !bench_row_summarise(row)) {
        status = fail(d->err, SLUICE_E_NOMEM, "no memory for the statistics of a row");
    }
    return status;
}

static sluice_status run_suite(struct driver *d) {
    struct bench_record *r = d->record;
    uint64_t suite_end = d->zero_ns + (uint64_t)(d->suite.seconds * 1e9);
    for (uint32_t i = 0; i < d->suite.n_cells; i++) {
        d->requests_total +=
            (uint64_t)(d->suite.cells[i].warmups + d->suite.cells[i].runs) * d->suite.cells[i].concurrency;
    }
    for (uint32_t i = 0; i < d->suite.n_cells; i++) {
        struct row *row = &r->rows[r->n_rows++];
        *row = (struct row){.cell = d->suite.cells[i]};
        if (row->cell.workload) {
            snprintf(row->name, sizeof row->name, "%s", row->cell.workload->name);
        } else {
            snprintf(row->name, sizeof row->name, "depth %u", row->cell.prompt_tokens);
        }
        uint64_t now = clock_ns();
        uint64_t left = suite_end > now ? suite_end - now : 0;
        if (d->suite.seconds > 0 && left == 0) {
            r->n_rows--;
            r->left_out = d->suite.n_cells - i;
            break;
        }
        TRY(run_row(d, row, d->suite.seconds > 0 ? now + left / (d->suite.n_cells - i) : 0));
        bench_row_roof(row, &r->file, r->read_gb_s);
        if (!row->cell.workload && row->refused &&
            i > 0) { /* longer than the context: that is how far the sweep goes */
            mem_free(row->samples);
            r->n_rows--;
            break;
        }
        if (d->options->on_row) {
            d->options->on_row(d->options->ctx, r, row);
        }
    }
    return SLUICE_OK;
}

static sluice_status open_clients(struct driver *d, uint32_t n) {
    d->clients = mem_calloc(n, sizeof *d->clients);
    if (!d->clients) {
        return fail(d->err, SLUICE_E_NOMEM, "no memory for %u clients", n);
    }
    struct client_options options = {
        .url = d->options->url,
        .api_key = d->options->api_key,
        .silence_s = d->options->silence_s,
        .stop = d->options->stop,
        .zero_ns = d->zero_ns,
    };
    for (; d->n_clients < n; d->n_clients++) {
        TRY(client_open(&options, &d->clients[d->n_clients], d->err));
    }
    return SLUICE_OK;
}

static sluice_status run_all(struct driver *d) {
    struct bench_record *r = d->record;
    TRY(client_base_url(d->options->url, r->url, sizeof r->url, d->err));
    if (!suite_get(d->options->suite, 0, &d->suite)) {
        return fail(d->err, SLUICE_E_ARG, "there is no suite \"%.40s\"; quick, page, depth and load exist",
                    d->options->suite);
    }
    uint32_t widest = 1;
    for (uint32_t i = 0; i < d->suite.n_cells; i++) {
        widest = d->suite.cells[i].concurrency > widest ? d->suite.cells[i].concurrency : widest;
    }
    TRY(open_clients(d, widest));
    TRY(identify(d));
    (void)suite_get(d->options->suite, r->context, &d->suite); /* again: the depth suite follows the context */
    snprintf(r->suite, sizeof r->suite, "%s", d->suite.name);
    snprintf(r->suite_about, sizeof r->suite_about, "%s", d->suite.about);
    r->ignore_eos = d->options->ignore_eos;
    return run_suite(d);
}

sluice_status bench_run(const struct bench_options *options, struct bench_record *out, sluice_error *err) {
    struct driver d = {
        .options = options,
        .record = out,
        .zero_ns = clock_ns(),
        .nonce = options->nonce,
        .tokens_per_word = WORKLOAD_TOKENS_PER_WORD,
        .err = err,
    };
    sluice_status status = run_all(&d);
    for (uint32_t i = 0; i < d.n_clients; i++) {
        client_close(d.clients[i]);
    }
    mem_free(d.clients);
    out->duration_s = clock_ms_since(d.zero_ns) * 1e-3;
    return status;
}

void bench_record_free(struct bench_record *record) {
    for (uint32_t i = 0; i < record->n_rows; i++) {
        mem_free(record->rows[i].samples);
    }
    record->n_rows = 0;
}

uint32_t bench_record_failed(const struct bench_record *record) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < record->n_rows; i++) {
        n += record->rows[i].n_failed;
    }
    return n;
}
