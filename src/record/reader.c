#include "record/record.h"

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "json/tree.h"
#include "record/chain.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { RECORD_CONTAINERS = 1 << 18 }; /* of a line */

struct reader {
    struct record *record;
    size_t cap_lines, cap_records, number;
    uint64_t values;
    bool ended;    /* the record at hand has its end line */
    bool orphaned; /* its run line was wrong: its lines are checked, but belong to no record */
    struct chain chain;
    record_problem problem;
    void *ctx;
    sluice_error *err;
};

/* One thing that is wrong in a line: goes to the caller's function, or is the error. */
static sluice_status report(struct reader *r, sluice_status status, const sluice_error *what) {
    if (r->problem && status != SLUICE_E_NOMEM) {
        r->problem(r->ctx, r->number, what->text);
        return SLUICE_OK;
    }
    if (r->err) {
        *r->err = *what;
    }
    return status;
}

static sluice_status no_memory(struct reader *r) {
    return fail(r->err, SLUICE_E_NOMEM, "no memory for the record %s", r->record->path);
}

static sluice_status check_prev(struct reader *r, struct json_object *tree) {
    sluice_error what;
    const char *prev = record_text(tree, "prev");
    if (!prev || strcmp(prev, r->chain.prev) == 0) {
        return SLUICE_OK; /* a wrong or absent "prev" has been reported with the keys */
    }
    sluice_status status =
        r->number == 1
            ? fail(&what, SLUICE_E_FORMAT,
                   "%s, line 1, prev: the first line of a file has 64 zeros; lines before it are missing",
                   r->record->path)
            : fail(&what, SLUICE_E_FORMAT,
                   "%s, line %zu, prev: the chain is broken: line %zu is not the line that this one was written "
                   "after (one of them was changed, dropped or moved)",
                   r->record->path, r->number, r->number - 1);
    return report(r, status, &what);
}

static sluice_status keep_line(struct reader *r, enum record_kind kind, struct json_object *tree) {
    struct record *f = r->record;
    if (f->n_lines == r->cap_lines) {
        size_t cap = r->cap_lines ? 2 * r->cap_lines : 64;
        struct record_line *lines = mem_realloc(f->lines, cap * sizeof *lines);
        if (!lines) {
            return no_memory(r);
        }
        f->lines = lines;
        r->cap_lines = cap;
    }
    if (kind == RECORD_RUN) {
        if (f->n_records == r->cap_records) {
            size_t cap = r->cap_records ? 2 * r->cap_records : 8;
            struct record_run *records = mem_realloc(f->records, cap * sizeof *records);
            if (!records) {
                return no_memory(r);
            }
            f->records = records;
            r->cap_records = cap;
        }
        f->records[f->n_records++] = (struct record_run){.n_lines = 0};
    }
    f->lines[f->n_lines++] = (struct record_line){kind, tree, r->number};
    f->records[f->n_records - 1].n_lines++;
    return SLUICE_OK;
}

/* Which line may stand where: a run first, nothing but a run after an end. */
static sluice_status check_order(struct reader *r, enum record_kind kind, bool *keep) {
    sluice_error what;
    *keep = true;
    if (kind == RECORD_RUN) {
        r->ended = r->orphaned = false;
        return SLUICE_OK;
    }
    if (r->orphaned) {
        *keep = false;
        return SLUICE_OK;
    }
    if (r->record->n_records == 0) {
        *keep = false;
        return report(r,
                      fail(&what, SLUICE_E_FORMAT, "%s, line %zu, kind: \"%s\" before any \"run\" line",
                           r->record->path, r->number, record_kind_names[kind]),
                      &what);
    }
    if (r->ended) {
        *keep = false;
        return report(r,
                      fail(&what, SLUICE_E_FORMAT, "%s, line %zu, kind: \"%s\" after the record's \"end\" line",
                           r->record->path, r->number, record_kind_names[kind]),
                      &what);
    }
    r->ended = kind == RECORD_END;
    return SLUICE_OK;
}

static sluice_status read_line(struct reader *r, const char *s, size_t n) {
    char label[300];
    snprintf(label, sizeof label, "%.240s, line %zu", r->record->path, r->number);
    struct json_tree_limits limits = {label, LIMIT_RECORD_VALUES, RECORD_CONTAINERS};
    struct json_object *tree = NULL;
    sluice_error what = {0};
    uint32_t n_values = 0;
    enum record_kind kind = RECORD_KINDS;
    sluice_status status = n == 0 ? fail(&what, SLUICE_E_FORMAT, "%s: an empty line; records have none", label)
                                  : json_tree_parse(s, n, &limits, false, &tree, &n_values, &what);
    r->values += n_values;
    if (r->values > LIMIT_RECORD_VALUES_ALL) {
        json_object_put(tree);
        return fail(r->err, SLUICE_E_LIMIT, "%s: the file has more than %u JSON values; split it", label,
                    LIMIT_RECORD_VALUES_ALL);
    }
    if (status == SLUICE_OK) {
        status = check_prev(r, tree);
        if (status != SLUICE_OK) {
            json_object_put(tree);
            return status;
        }
        status = rules_check(tree, label, &kind, &what);
    }
    bool keep = status == SLUICE_OK;
    if (!keep) {
        r->orphaned |= kind == RECORD_RUN;
        status = report(r, status == SLUICE_E_NOMEM ? status : SLUICE_E_FORMAT, &what);
    } else {
        status = check_order(r, kind, &keep);
    }
    if (status == SLUICE_OK) {
        status = chain_add(&r->chain, s, n, r->err);
    }
    if (status == SLUICE_OK && keep) {
        status = keep_line(r, kind, tree);
        keep = status == SLUICE_OK;
    }
    if (!keep) {
        json_object_put(tree);
    }
    return status;
}

static sluice_status read_lines(struct reader *r, const char *bytes, size_t n) {
    sluice_error what;
    size_t at = 0;
    while (at < n) {
        const char *end = memchr(bytes + at, '\n', n - at);
        size_t len = end ? (size_t)(end - bytes) - at : n - at;
        r->number++;
        if (r->number > LIMIT_RECORD_LINES) {
            return fail(r->err, SLUICE_E_LIMIT, "%s has more than %u lines; split it", r->record->path,
                        LIMIT_RECORD_LINES);
        }
        if (len > LIMIT_RECORD_LINE) {
            return fail(r->err, SLUICE_E_LIMIT, "%s, line %zu: longer than %u bytes", r->record->path, r->number,
                        LIMIT_RECORD_LINE);
        }
        if (!end) {
            TRY(report(r,
                       fail(&what, SLUICE_E_FORMAT, "%s, line %zu: the line has no end; the file was cut off in it",
                            r->record->path, r->number),
                       &what));
        }
        TRY(read_line(r, bytes + at, len));
        at += len + 1;
    }
    if (r->number == 0) {
        return fail(r->err, SLUICE_E_FORMAT, "%s is empty; a record begins with a \"run\" line", r->record->path);
    }
    return SLUICE_OK;
}

sluice_status record_read_memory(const char *name, const char *bytes, size_t n, record_problem problem, void *ctx,
                                 struct record **out, sluice_error *err) {
    struct reader r = {.problem = problem, .ctx = ctx, .err = err};
    *out = NULL;
    r.record = mem_calloc(1, sizeof *r.record);
    if (!r.record || !(r.record->path = mem_strdup(name))) {
        mem_free(r.record);
        return fail(err, SLUICE_E_NOMEM, "no memory for the record %s", name);
    }
    sluice_status status = chain_init(&r.chain, err);
    if (status == SLUICE_OK) {
        status = read_lines(&r, bytes, n);
    }
    chain_free(&r.chain);
    if (status != SLUICE_OK) {
        record_free(r.record);
        return status;
    }
    struct record_line *next = r.record->lines;
    for (size_t i = 0; i < r.record->n_records; i++) { /* only now do the lines stay where they are */
        r.record->records[i].lines = next;
        next += r.record->records[i].n_lines;
    }
    *out = r.record;
    return SLUICE_OK;
}

sluice_status record_read_bytes(const char *path, struct buf *out, sluice_error *err) {
    char block[65536];
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    sluice_status status = SLUICE_OK;
    if (fd < 0) {
        return fail(err, SLUICE_E_IO, "%s could not be opened: %s", path, strerror(errno));
    }
    for (;;) {
        ssize_t n = read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            status = fail(err, SLUICE_E_IO, "%s could not be read: %s", path, strerror(errno));
        }
        if (n <= 0) {
            break;
        }
        buf_append(out, block, (size_t)n);
        if (out->failed || out->len > LIMIT_RECORD_BYTES) {
            status = out->failed ? fail(err, SLUICE_E_NOMEM, "no memory for %s", path)
                                 : fail(err, SLUICE_E_LIMIT, "%s is larger than %u bytes", path, LIMIT_RECORD_BYTES);
            break;
        }
    }
    if (!is_stdin) {
        close(fd);
    }
    return status;
}

sluice_status record_read_all(const char *path, record_problem problem, void *ctx, struct record **out,
                              sluice_error *err) {
    struct buf bytes = {0};
    *out = NULL;
    sluice_status status = record_read_bytes(path, &bytes, err);
    if (status == SLUICE_OK) {
        const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
        status = record_read_memory(name, bytes.data ? bytes.data : "", bytes.len, problem, ctx, out, err);
    }
    buf_free(&bytes);
    return status;
}

sluice_status record_read(const char *path, struct record **out, sluice_error *err) {
    return record_read_all(path, NULL, NULL, out, err);
}

void record_free(struct record *r) {
    if (!r) {
        return;
    }
    for (size_t i = 0; i < r->n_lines; i++) {
        json_object_put(r->lines[i].tree);
    }
    mem_free(r->lines);
    mem_free(r->records);
    mem_free(r->path);
    mem_free(r);
}

/* ---- Members ----------------------------------------------------------------------------------------------------- */

const struct record_line *record_find(const struct record_run *run, enum record_kind kind) {
    for (size_t i = 0; i < run->n_lines; i++) {
        if (run->lines[i].kind == kind) {
            return &run->lines[i];
        }
    }
    return NULL;
}

struct json_object *record_target(const struct record_run *run, struct json_object *row) {
    struct json_object *first = run->lines[0].tree;
    struct json_object *pair = record_get(first, "targets");
    return pair ? json_object_array_get_idx(pair, record_number(row, "target") > 0 ? 1 : 0)
                : record_get(first, "target");
}

struct json_object *record_get(struct json_object *o, const char *key) {
    struct json_object *v = NULL;
    if (o && json_object_is_type(o, json_type_object)) {
        json_object_object_get_ex(o, key, &v);
    }
    return v;
}

struct json_object *record_path(struct json_object *o, const char *path) {
    char key[64];
    while (o && *path) {
        size_t n = strcspn(path, ".");
        if (n >= sizeof key) {
            return NULL;
        }
        memcpy(key, path, n);
        key[n] = '\0';
        o = record_get(o, key);
        path += n + (path[n] == '.');
    }
    return o;
}

double record_number(struct json_object *o, const char *key) {
    struct json_object *v = record_get(o, key);
    return json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double) ? json_object_get_double(v)
                                                                                             : NAN;
}

const char *record_text(struct json_object *o, const char *key) {
    struct json_object *v = record_get(o, key);
    return v && json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

bool record_true(struct json_object *o, const char *key) {
    struct json_object *v = record_get(o, key);
    return v && json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

bool record_is(struct json_object *o, const char *key, const char *text) {
    const char *v = record_text(o, key);
    return v && strcmp(v, text) == 0;
}
