#include "record/compare.h"

#include "base/hash.h"
#include "base/mem.h"
#include "base/status.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

const char *const compare_class_names[COMPARE_CLASSES] = {"workload", "stack", "hardware"};

enum { W = 1 << COMPARE_WORKLOAD, S = 1 << COMPARE_STACK, H = 1 << COMPARE_HARDWARE };

enum from { FROM_ROW, FROM_TARGET, FROM_SAMPLING, FROM_MODEL, FROM_METRIC, FROM_GPU, FROM_OTHER };

/* The fields of docs/records.md, "What may be compared"; each class has those of the workload too. The KV type stands
 * in the server's command line. */
static const struct {
    const char *name, *key;
    enum from from;
    int classes;
} fields[COMPARE_FIELDS] = {
    {"model", NULL, FROM_MODEL, W | S | H},
    {"test", "test", FROM_ROW, W | S | H},
    {"workload", "workload", FROM_ROW, W | S | H},
    {"depth", "depth", FROM_ROW, W | S | H},
    {"batch", "batch", FROM_ROW, W | S | H},
    {"prompt_tokens", "prompt_tokens", FROM_METRIC, W | S | H},
    {"output_tokens", "output_tokens", FROM_METRIC, W | S | H},
    {"cache", "cache", FROM_ROW, W | S | H},
    {"concurrency", "concurrency", FROM_ROW, W | S | H},
    {"arrival", "arrival", FROM_ROW, W | S | H},
    {"rate_rps", "rate_rps", FROM_ROW, W | S | H},
    {"natural_stop", "natural_stop", FROM_ROW, W | S | H},
    {"sampling", "sampling", FROM_SAMPLING, W | S | H},
    {"engine", "engine", FROM_TARGET, S | H},
    {"build", "build", FROM_TARGET, S | H},
    {"device_api", "device_api", FROM_TARGET, S},
    {"context", "context", FROM_TARGET, S | H},
    {"slots", "slots", FROM_TARGET, S | H},
    {"command_line", "command_line", FROM_TARGET, S | H},
    {"device", NULL, FROM_OTHER, H},
    {"gpu_memory", "memory_bytes", FROM_GPU, H},
    {"memory", "memory_total", FROM_OTHER, H},
    {"power_cap", "power_cap_w", FROM_OTHER, H},
    {"driver", "driver", FROM_GPU, H},
    {"cores", "cores_allowed", FROM_OTHER, H},
    {"unified_memory", "unified_memory", FROM_GPU, H},
};

static void put_json(struct buf *b, struct json_object *v) {
    if (v) {
        buf_puts(b, json_object_is_type(v, json_type_string)
                        ? json_object_get_string(v)
                        : json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    }
}

/* 5, 5.0 and 5e0 are one value. */
static void put_number(struct buf *b, double v) {
    if (!isnan(v)) {
        buf_printf(b, "%.9g", v);
    }
}

static void put_member(struct buf *b, struct json_object *o, const char *key) {
    double v = record_number(o, key);
    if (isnan(v)) {
        put_json(b, record_get(o, key));
    } else {
        put_number(b, v);
    }
}

static void put_model(struct buf *b, struct json_object *run, struct json_object *target) {
    struct json_object *file = record_get(run, "model_file");
    const char *sha256 = record_text(file, "sha256"), *repository = record_text(file, "repository");
    const char *quantization = record_text(file, "quantization"), *name = record_text(target, "model");
    if (sha256) {
        buf_printf(b, "sha256 %s", sha256);
    } else if (repository) {
        buf_printf(b, "%s %s", repository, quantization ? quantization : "");
    } else if (name) {
        buf_printf(b, "%s", name);
    }
}

/* The order in which a client wrote its sampling fields is no difference. */
static void put_sampling(struct buf *b, struct json_object *sampling) {
    static const char *const names[] = {
        "temperature",       "top_p", "top_k",      "min_p",       "repeat_penalty", "presence_penalty",
        "frequency_penalty", "seed",  "ignore_eos", "cache_prompt"};
    for (size_t i = 0; sampling && i < sizeof names / sizeof *names; i++) {
        buf_printf(b, "%s%s=", i ? " " : "", names[i]);
        put_member(b, sampling, names[i]);
    }
}

static void put_other(struct buf *b, const struct compare_row *r, const char *name) {
    struct json_object *run = r->run->lines[0].tree, *environment = record_get(run, "environment");
    struct json_object *gpu = row_gpu(r->run, record_target(r->run, r->line->tree));
    if (strcmp(name, "device") == 0) {
        buf_puts(b, row_hardware(r->run, r->line->tree));
    } else if (strcmp(name, "power_cap") == 0) {
        double row = record_number(r->line->tree, "power_cap_w");
        put_number(b, isnan(row) ? record_number(gpu, "power_limit_w") : row);
    } else {
        put_member(b, environment, strcmp(name, "memory") == 0 ? "memory_total" : "cores_allowed");
    }
}

static void put_field(struct buf *b, const struct compare_row *r, size_t i) {
    struct json_object *run = r->run->lines[0].tree, *row = r->line->tree;
    struct json_object *gpu = row_gpu(r->run, record_target(r->run, row));
    switch (fields[i].from) {
    case FROM_ROW:
        put_member(b, row, fields[i].key);
        break;
    case FROM_TARGET:
        put_member(b, record_target(r->run, row), fields[i].key);
        break;
    case FROM_SAMPLING:
        put_sampling(b, record_get(run, "sampling"));
        break;
    case FROM_MODEL:
        put_model(b, run, record_target(r->run, row));
        break;
    case FROM_METRIC:
        put_number(b, row_value(row, fields[i].key).median);
        break;
    case FROM_GPU:
        put_member(b, gpu, fields[i].key);
        if (strcmp(fields[i].name, "driver") == 0 && b->len) { /* major version */
            b->len = strcspn(b->data, ".");
            b->data[b->len] = '\0';
        }
        break;
    case FROM_OTHER:
        put_other(b, r, fields[i].name);
        break;
    }
}

const char *compare_field_name(size_t i) {
    return fields[i].name;
}

bool compare_field_in(size_t i, enum compare_class class) {
    return fields[i].classes >> class & 1;
}

static const char *value(const struct compare_row *r, size_t i) {
    return r->value[i].len ? r->value[i].data : "";
}

/* The first 16 digits of the SHA-256 of "name=value" lines. */
static sluice_status make_keys(struct compare_row *r, sluice_error *err) {
    struct hash *hash = hash_new();
    if (!hash) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the keys of %s", r->record->path);
    }
    sluice_status status = SLUICE_OK;
    for (int class = 0; class < COMPARE_CLASSES && status == SLUICE_OK; class ++) {
        uint8_t sum[HASH_BYTES];
        char hex[2 * HASH_BYTES + 1];
        for (size_t i = 0; i < COMPARE_FIELDS; i++) {
            if (compare_field_in(i, (enum compare_class) class)) {
                hash_add(hash, fields[i].name, strlen(fields[i].name));
                hash_add(hash, "=", 1);
                hash_add(hash, value(r, i), r->value[i].len + 1); /* its NUL ends it: no value has one inside */
            }
        }
        if (!hash_take(hash, sum)) {
            status = fail(err, SLUICE_E_NOMEM, "no memory for the keys of %s", r->record->path);
        } else {
            hash_hex(sum, hex);
            memcpy(r->key[class], hex, COMPARE_KEY_HEX);
            r->key[class][COMPARE_KEY_HEX] = '\0';
        }
    }
    hash_free(hash);
    return status;
}

static sluice_status add_row(struct compare_table *t, const struct record *r, const struct record_run *run,
                             const struct record_line *line, sluice_error *err) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 32;
        struct compare_row *rows = mem_realloc(t->rows, cap * sizeof *rows);
        if (!rows) {
            return fail(err, SLUICE_E_NOMEM, "no memory for the rows of %s", r->path);
        }
        t->rows = rows;
        t->cap = cap;
    }
    struct compare_row *row = &t->rows[t->n++];
    *row = (struct compare_row){.record = r, .run = run, .line = line};
    for (size_t i = 0; i < COMPARE_FIELDS; i++) {
        put_field(&row->value[i], row, i);
        if (row->value[i].failed) {
            return fail(err, SLUICE_E_NOMEM, "no memory for the rows of %s", r->path);
        }
    }
    return make_keys(row, err);
}

sluice_status compare_add(struct compare_table *t, const struct record *r, sluice_error *err) {
    for (size_t i = 0; i < r->n_records; i++) {
        const struct record_run *run = &r->records[i];
        for (size_t j = 0; j < run->n_lines; j++) {
            if (run->lines[j].kind == RECORD_ROW) {
                TRY(add_row(t, r, run, &run->lines[j], err));
            }
        }
    }
    return SLUICE_OK;
}

void compare_free(struct compare_table *t) {
    for (size_t i = 0; i < t->n; i++) {
        for (size_t k = 0; k < COMPARE_FIELDS; k++) {
            buf_free(&t->rows[i].value[k]);
        }
    }
    mem_free(t->rows);
    *t = (struct compare_table){0};
}

void compare_differences(const struct compare_row *a, const struct compare_row *b, enum compare_class class,
                         struct buf *out) {
    bool first = true;
    for (size_t i = 0; i < COMPARE_FIELDS; i++) {
        if (compare_field_in(i, class) && strcmp(value(a, i), value(b, i)) != 0) {
            buf_printf(out, "%s%s", first ? "" : ", ", fields[i].name);
            if (a->value[i].len < 24 && b->value[i].len < 24) {
                buf_printf(out, " (%s, %s)", a->value[i].len ? value(a, i) : "unknown",
                           b->value[i].len ? value(b, i) : "unknown");
            }
            first = false;
        }
    }
}

/* Why a row may not be ranked at all; NULL where it may. */
static const char *unfit(struct json_object *row) {
    if (record_is(record_get(row, "verdict"), "state", "invalid")) {
        return "is invalid";
    }
    if (record_is(row, "cache", "none")) {
        return NULL;
    }
    return record_is(row, "cache", "unknown") || !record_is(row, "cache_state", "verified")
               ? "has a cache state that nobody verified"
               : NULL;
}

bool compare_is_fit(const struct compare_row *r) {
    return unfit(r->line->tree) == NULL;
}

const char *compare_unfit(const struct compare_row *r) {
    const char *why = unfit(r->line->tree);
    return why || r->value[0].len ? why : "names no model";
}

bool compare_may_rank(const struct compare_row *a, const struct compare_row *b, struct buf *why) {
    const char *bad_a = unfit(a->line->tree), *bad_b = unfit(b->line->tree);
    bool qualified_a = record_true(record_get(a->line->tree, "quality"), "qualified");
    bool qualified_b = record_true(record_get(b->line->tree, "quality"), "qualified");
    buf_reset(why);
    if (bad_a || bad_b) {
        buf_printf(why, "%s row %s", bad_b ? "this" : "the other", bad_b ? bad_b : bad_a);
        return false;
    }
    if (!a->value[0].len || !b->value[0].len) {
        buf_puts(why, "the model is not known");
        return false;
    }
    if (strcmp(a->key[COMPARE_WORKLOAD], b->key[COMPARE_WORKLOAD]) != 0) {
        buf_puts(why, "not the same work: ");
        compare_differences(a, b, COMPARE_WORKLOAD, why);
        return false;
    }
    if (qualified_a != qualified_b) {
        buf_printf(why, "only %s has measured quality", qualified_a ? "the other row" : "this row");
        return false;
    }
    return true;
}
