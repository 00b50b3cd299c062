/*
 * llama.cpp's llama-bench: -o json (an array), -o jsonl (an object per line), -o sql. Names as in its tools/llama-bench
 * (build_commit, n_prompt, samples_ns...; read at build 9174, the JSON since 2023 has them). JSON keeps the samples;
 * SQL only averages. Tests with the same build, model and settings make one record.
 */
#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "json/tree.h"
#include "record/import.h"
#include "record/line.h"
#include "record/record.h"

#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A value's text, of whatever type; NULL where it is absent. */
static const char *text_of(struct json_object *test, const char *key) {
    struct json_object *v = record_get(test, key);
    return v && !json_object_is_type(v, json_type_array) && !json_object_is_type(v, json_type_object)
               ? json_object_get_string(v)
               : NULL;
}

static double number_of(struct json_object *test, const char *key) {
    const char *s = text_of(test, key);
    char *end;
    double v = s ? strtod(s, &end) : NAN;
    return s && end != s && !*end ? v : NAN;
}

/* Everything that a test was run with, in one text: tests that differ in it are not one record. */
static void settings_of(struct json_object *test, struct buf *out) {
    static const char *const keys[] = {"n_batch",       "n_ubatch",     "n_threads", "cpu_mask",     "type_k",
                                       "type_v",        "n_gpu_layers", "n_cpu_moe", "split_mode",   "main_gpu",
                                       "no_kv_offload", "flash_attn",   "devices",   "tensor_split", "use_mmap",
                                       "embeddings",    "no_op_offload"};
    buf_reset(out);
    buf_puts(out, "llama-bench:");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *v = text_of(test, keys[i]);
        if (v && v[0]) {
            buf_printf(out, " %s=%s", keys[i], v);
        }
    }
}

static sluice_status put_run(struct import *im, struct json_object *test, const char *settings) {
    struct import_run r;
    char build[96], model[64];
    const char *type = text_of(test, "model_type"), *path = text_of(test, "model_filename");
    const char *number = text_of(test, "build_number"), *gpu = text_of(test, "gpu_info"),
               *date = text_of(test, "test_time");
    const char *slash = path ? strrchr(path, '/') : NULL;
    import_run_init(&r);
    snprintf(build, sizeof build, "%.40s (%.20s)", text_of(test, "build_commit"), number ? number : "?");
    snprintf(model, sizeof model, "%.*s", type ? (int)strcspn(type, " ") : 0, type ? type : "");
    r.suite = "llama-bench";
    r.suite_about = "engine only: prompt processing and text generation";
    r.date = date && strlen(date) == 20 && date[19] == 'Z' ? date : NULL;
    r.statistic = "median over repetitions; the source prints means";
    r.engine = "llama.cpp";
    r.build = build;
    r.device_api = text_of(test, "backends");
    r.model = type;
    r.command_line = settings;
    r.file_name = slash ? slash + 1 : path;
    r.architecture = model;
    r.quantization = type && strchr(type, ' ') ? strchr(type, ' ') + 1 : NULL; /* "8B.A1B Q4_K - Medium" */
    r.file_bytes = number_of(test, "model_size");
    r.n_params = number_of(test, "model_n_params");
    r.cpu = text_of(test, "cpu_info");
    r.gpu = gpu;
    r.has_gpu = gpu && gpu[0];
    return import_put_run(im, &r);
}

static sluice_status put_samples(struct import *im, struct json_object *test, const char *key, double prompt,
                                 double gen) {
    struct json_object *samples = record_get(test, "samples_ns");
    size_t n = samples && json_object_is_type(samples, json_type_array) ? json_object_array_length(samples) : 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(samples, i);
        struct import_sample s;
        if (!json_object_is_type(v, json_type_int) || json_object_get_int64(v) <= 0) {
            return fail(im->err, SLUICE_E_FORMAT, "%s: samples_ns[%zu] of %s is no time in nanoseconds", im->name, i,
                        key);
        }
        import_sample_init(&s, key);
        s.run = i;
        s.end_ms = (double)json_object_get_int64(v) / 1e6;
        s.prompt_tokens = (int64_t)prompt;
        s.output_tokens = (int64_t)gen;
        TRY(import_put_sample(im, &s));
    }
    return SLUICE_OK;
}

/* "pp512", "tg128", "pp512+tg128", with "@d4096" at a depth. */
static void row_key(char out[96], double prompt, double gen, double depth) {
    int n = prompt > 0 && gen > 0 ? snprintf(out, 96, "pp%.0f+tg%.0f", prompt, gen)
            : gen > 0             ? snprintf(out, 96, "tg%.0f", gen)
                                  : snprintf(out, 96, "pp%.0f", prompt);
    if (depth > 0) {
        snprintf(out + n, 96 - (size_t)n, "@d%.0f", depth);
    }
}

static sluice_status put_test(struct import *im, struct json_object *test) {
    static const char *const names[] = {"avg_ts", "stddev_ts", "avg_ns", "stddev_ns"};
    const char *pairs[2 * sizeof names / sizeof *names];
    double prompt = number_of(test, "n_prompt"), gen = number_of(test, "n_gen"), depth = number_of(test, "n_depth");
    char key[96];
    struct import_row r;
    size_t before = im->n_samples;
    row_key(key, prompt, gen, depth);
    TRY(put_samples(im, test, key, prompt, gen));
    import_row_init(&r, key, "raw");
    r.workload = key;
    r.cache = "none";
    r.concurrency = 1;
    r.batch = 1;
    r.batching = "single";
    r.depth = isnan(depth) ? 0 : depth;
    r.max_tokens = gen;
    r.natural_stop = 0;
    r.runs = im->n_samples > before ? (double)(im->n_samples - before) : NAN;
    r.reason = im->n_samples > before ? NULL : "averages without samples: spread and noise cannot be judged";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *v = text_of(test, names[i]);
        if (v) {
            pairs[2 * r.n_printed] = names[i];
            pairs[2 * r.n_printed++ + 1] = v;
        }
    }
    r.printed = pairs;
    return import_put_row(im, &r);
}

struct group { /* the record that is being written */
    struct buf settings, key, keys;
    bool open;
};

/* The same build, model, machine and settings, and a row that the record does not have yet. */
static sluice_status put_grouped(struct import *im, struct group *g, struct json_object *test, size_t index) {
    static const char *const same[] = {"build_commit", "model_filename", "cpu_info", "gpu_info"};
    struct buf settings = {0}, key = {0};
    char row[96], line[98];
    double prompt = number_of(test, "n_prompt"), gen = number_of(test, "n_gen");
    if (!text_of(test, "build_commit") || !(prompt >= 0) || !(gen >= 0) || !(prompt + gen > 0 && prompt + gen < 1e9) ||
        !(isnan(number_of(test, "n_depth")) || number_of(test, "n_depth") < 1e9)) {
        return fail(im->err, SLUICE_E_FORMAT,
                    "%s, test %zu: build_commit, n_prompt and n_gen are expected, one count above zero", im->name,
                    index + 1);
    }
    row_key(row, prompt, gen, number_of(test, "n_depth"));
    snprintf(line, sizeof line, "\n%s\n", row);
    settings_of(test, &settings);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        const char *v = text_of(test, same[i]);
        buf_printf(&key, "%s\n", v ? v : "");
    }
    buf_puts(&key, settings.failed ? "" : settings.data);
    sluice_status status = SLUICE_OK;
    if (settings.failed || key.failed) {
        status = fail(im->err, SLUICE_E_NOMEM, "no memory for %s", im->name);
    } else if (!g->open || strcmp(key.data, g->key.data) != 0 || strstr(g->keys.data, line)) {
        if (g->open) {
            status = import_put_end(im, NAN, NULL);
        }
        if (status == SLUICE_OK) {
            status = put_run(im, test, settings.data);
        }
        buf_reset(&g->key);
        buf_append(&g->key, key.data, key.len);
        buf_reset(&g->keys);
        g->open = true;
    }
    buf_puts(&g->keys, line);
    if (status == SLUICE_OK && (g->key.failed || g->keys.failed)) {
        status = fail(im->err, SLUICE_E_NOMEM, "no memory for %s", im->name);
    }
    if (status == SLUICE_OK) {
        status = put_test(im, test);
    }
    buf_free(&settings);
    buf_free(&key);
    return status;
}

static sluice_status end_group(struct import *im, struct group *g, sluice_status status) {
    if (status == SLUICE_OK) {
        status = g->open ? import_put_end(im, NAN, NULL)
                         : fail(im->err, SLUICE_E_FORMAT, "%s holds no test of llama-bench", im->name);
    }
    buf_free(&g->key);
    buf_free(&g->keys);
    return status;
}

static sluice_status parse(struct import *im, const char *s, size_t n, struct json_object **out) {
    struct json_tree_limits limits = {im->name, LIMIT_RECORD_VALUES, 1 << 18};
    return json_tree_parse(s, n, &limits, true, out, NULL, im->err);
}

static bool is_blank(const char *s, size_t n) {
    size_t i = 0;
    while (i < n && strchr(" \t\r\n", s[i])) {
        i++;
    }
    return i == n;
}

sluice_status import_llama_bench_json(struct import *im) {
    struct group g = {0};
    struct json_object *tree = NULL;
    sluice_status status = SLUICE_OK;
    size_t at = 0, index = 0;
    while (at < im->n && strchr(" \t\r\n", im->bytes[at])) {
        at++;
    }
    bool array = at < im->n && im->bytes[at] == '[';
    while (at < im->n && status == SLUICE_OK) { /* an array at once, else a line at a time */
        const char *end = array ? NULL : memchr(im->bytes + at, '\n', im->n - at);
        size_t len = end ? (size_t)(end - im->bytes) - at : im->n - at;
        bool blank = is_blank(im->bytes + at, len);
        status = blank ? SLUICE_OK : parse(im, im->bytes + at, len, &tree);
        size_t n = status == SLUICE_OK && !blank ? array ? json_object_array_length(tree) : 1 : 0;
        for (size_t i = 0; i < n && status == SLUICE_OK; i++) {
            status = put_grouped(im, &g, array ? json_object_array_get_idx(tree, i) : tree, index++);
        }
        json_object_put(tree);
        tree = NULL;
        at += len + 1;
    }
    return end_group(im, &g, status);
}

/* ---- SQL --------------------------------------------------------------------------------------------------------- */

struct sql {
    const char *s, *end;
};

static void skip_space(struct sql *q) {
    while (q->s < q->end && strchr(" \t\r\n", *q->s)) {
        q->s++;
    }
}

static bool take(struct sql *q, const char *word) {
    size_t n = strlen(word);
    skip_space(q);
    if ((size_t)(q->end - q->s) < n || strncasecmp(q->s, word, n) != 0) {
        return false;
    }
    q->s += n;
    return true;
}

/* A name, a number, or a 'text' with '' for a quote; false at anything else. */
static bool take_value(struct sql *q, struct buf *out) {
    skip_space(q);
    buf_reset(out);
    if (q->s < q->end && *q->s == '\'') {
        for (q->s++; q->s < q->end; q->s++) {
            if (*q->s == '\'' && (q->s + 1 == q->end || q->s[1] != '\'')) {
                q->s++;
                return true;
            }
            q->s += *q->s == '\'';
            buf_putc(out, *q->s);
        }
        return false;
    }
    const char *from = q->s;
    while (q->s < q->end && !strchr(" \t\r\n,();'", *q->s)) {
        q->s++;
    }
    buf_append(out, from, (size_t)(q->s - from));
    return q->s > from;
}

enum { SQL_COLUMNS = 128 };

/* INSERT INTO t (a, b) VALUES ('1', '2'); as an object. */
static sluice_status read_insert(struct import *im, struct sql *q, struct json_object *row) {
    struct buf name[SQL_COLUMNS] = {{0}}, value = {0};
    size_t n = 0, values = 0;
    bool ok = take_value(q, &value) && take(q, "("); /* the table's name */
    while (ok && n < SQL_COLUMNS) {
        ok = take_value(q, &name[n]) && !name[n].failed && name[n].len > 0;
        n++;
        if (!ok || !take(q, ",")) {
            break;
        }
    }
    ok = ok && take(q, ")") && take(q, "VALUES") && take(q, "(");
    while (ok && values < n) {
        ok = take_value(q, &value) && !value.failed;
        struct json_object *v = ok ? json_object_new_string_len(value.len ? value.data : "", (int)value.len) : NULL;
        ok = v && json_object_object_add(row, name[values].data, v) == 0;
        values++;
        if (!ok || !take(q, ",")) {
            break;
        }
    }
    ok = ok && values == n && take(q, ")") && take(q, ";");
    for (size_t i = 0; i < n; i++) {
        buf_free(&name[i]);
    }
    buf_free(&value);
    return ok ? SLUICE_OK
              : fail(im->err, SLUICE_E_FORMAT, "%s, byte %zu: INSERT INTO table (names) VALUES (values); is expected",
                     im->name, (size_t)(q->s - im->bytes));
}

sluice_status import_llama_bench_sql(struct import *im) {
    struct group g = {0};
    struct sql q = {im->bytes, im->bytes + im->n};
    sluice_status status = SLUICE_OK;
    size_t index = 0;
    while (status == SLUICE_OK) {
        const char *next = memmem(q.s, (size_t)(q.end - q.s), "INSERT INTO", 11);
        if (!next) {
            break;
        }
        q.s = next + 11;
        struct json_object *row = json_object_new_object();
        status = row ? read_insert(im, &q, row) : fail(im->err, SLUICE_E_NOMEM, "no memory for %s", im->name);
        if (status == SLUICE_OK) {
            status = put_grouped(im, &g, row, index++);
        }
        json_object_put(row);
    }
    return end_group(im, &g, status);
}
