#include "record/rules.h"

#include "base/status.h"

#include <ctype.h>
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define WHOLE_MAX 9007199254740991.0 /* every whole number up to here is a double */

const struct rule rule_text = {.types = RULE_TEXT}, rule_text_null = {.types = RULE_TEXT | RULE_NULL},
                  rule_bool = {.types = RULE_BOOL}, rule_bool_null = {.types = RULE_BOOL | RULE_NULL},
                  rule_count = {.types = RULE_INT}, rule_count_null = {.types = RULE_INT | RULE_NULL},
                  rule_number = {.types = RULE_NUMBER}, rule_number_null = {.types = RULE_NUMBER | RULE_NULL},
                  rule_signed = {.types = RULE_NUMBER | RULE_SIGNED},
                  rule_signed_null = {.types = RULE_NUMBER | RULE_SIGNED | RULE_NULL},
                  rule_share_null = {.types = RULE_NUMBER | RULE_NULL, .max = 1},
                  rule_texts = {.types = RULE_ARRAY, .items = &rule_text},
                  rule_hex64 = {.types = RULE_TEXT, .form = FORM_HEX64},
                  rule_hex64_null = {.types = RULE_TEXT | RULE_NULL, .form = FORM_HEX64},
                  rule_interval = {.types = RULE_ARRAY | RULE_NULL, .items = &rule_signed, .n_min = 2, .n_max = 2};

static const char *const states[] = {"clean", "noisy", "invalid", NULL};
static const struct rule state = {.types = RULE_TEXT, .values = states};
static const struct rule_field verdict_fields[] = {{"state", &state}, {"reasons", &rule_texts}, {NULL}};
const struct rule rule_verdict = {.types = RULE_OBJECT, .fields = verdict_fields};

const char *const record_kind_names[RECORD_KINDS] = {"run",  "probe",      "sample", "row",
                                                     "pair", "comparison", "trace",  "end"};

struct place {
    const char *label;
    char path[256]; /* "metrics.ttft_ms.median" */
    size_t n;
    sluice_error *err;
};

/* Appends ".name" or "[i]"; returns what to cut back to. A path too long for the sentence ends early. */
static size_t enter(struct place *p, const char *name, size_t index) {
    size_t before = p->n;
    size_t cap = sizeof p->path - p->n;
    int n = name ? snprintf(p->path + p->n, cap, "%s%.80s", p->n ? "." : "", name)
                 : snprintf(p->path + p->n, cap, "[%zu]", index);
    p->n += n < 0 ? 0 : (size_t)n < cap ? (size_t)n : cap - 1;
    return before;
}

static void leave(struct place *p, size_t before) {
    p->n = before;
    p->path[before] = '\0';
}

static sluice_status wrong(struct place *p, const char *what) {
    return fail(p->err, SLUICE_E_FORMAT, "%s%s%s: %s", p->label, p->n ? ", " : "", p->path, what);
}

static sluice_status wrong_type(struct place *p, unsigned types, struct json_object *v) {
    static const struct {
        unsigned type;
        const char *name;
    } names[] = {{RULE_BOOL, "true or false"}, {RULE_INT, "a whole number"}, {RULE_NUMBER, "a number"},
                 {RULE_TEXT, "a text"},        {RULE_ARRAY, "a list"},       {RULE_OBJECT | RULE_MAP, "an object"},
                 {RULE_NULL, "null"}};
    char want[96];
    size_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (types & names[i].type) {
            n += (size_t)snprintf(want + n, sizeof want - n, "%s%s", n ? " or " : "", names[i].name);
        }
    }
    const char *got = !v                                          ? "null"
                      : json_object_is_type(v, json_type_boolean) ? "true or false"
                      : json_object_is_type(v, json_type_string)  ? "a text"
                      : json_object_is_type(v, json_type_array)   ? "a list"
                      : json_object_is_type(v, json_type_object)  ? "an object"
                                                                  : "a number";
    return fail(p->err, SLUICE_E_FORMAT, "%s%s%s: %s is expected, not %s", p->label, p->n ? ", " : "", p->path, want,
                got);
}

static bool listed(const char *const *values, const char *text, size_t n) {
    for (; *values; values++) {
        if (strlen(*values) == n && memcmp(*values, text, n) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_hex(const char *s, size_t n, size_t want) {
    if (n != want) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f'))) {
            return false;
        }
    }
    return true;
}

/* 2026-11-22T19:30:00Z, a fraction of up to nine digits before the Z. */
static bool is_date(const char *s, size_t n) {
    static const char form[] = "dddd-dd-ddTdd:dd:dd";
    size_t head = sizeof form - 1;
    if (n <= head || s[n - 1] != 'Z') {
        return false;
    }
    for (size_t i = 0; i < head; i++) {
        if (form[i] == 'd' ? !isdigit((unsigned char)s[i]) : s[i] != form[i]) {
            return false;
        }
    }
    size_t fraction = n - 1 - head;
    if (fraction && (s[head] != '.' || fraction < 2 || fraction > 10)) {
        return false;
    }
    for (size_t i = 1; i < fraction; i++) {
        if (!isdigit((unsigned char)s[head + i])) {
            return false;
        }
    }
    return true;
}

static bool is_device(const char *s, size_t n) {
    if (n == 3 && memcmp(s, "cpu", 3) == 0) {
        return true;
    }
    if (n < 4 || n > 6 || memcmp(s, "gpu", 3) != 0) {
        return false;
    }
    for (size_t i = 3; i < n; i++) {
        if (!isdigit((unsigned char)s[i])) {
            return false;
        }
    }
    return true;
}

static sluice_status check_text(const struct rule *r, struct json_object *v, struct place *p) {
    const char *s = json_object_get_string(v);
    size_t n = (size_t)json_object_get_string_len(v);
    if (memchr(s, 0, n)) {
        return wrong(p, "a text holds \\u0000");
    }
    if (r->values && !listed(r->values, s, n)) {
        char known[200];
        size_t used = 0;
        for (const char *const *one = r->values; *one && used < sizeof known; one++) {
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", *one);
        }
        return fail(p->err, SLUICE_E_FORMAT, "%s%s%s: \"%.60s\" is none of: %s", p->label, p->n ? ", " : "", p->path, s,
                    known);
    }
    switch (r->form) {
    case FORM_HEX16:
        return is_hex(s, n, 16) ? SLUICE_OK : wrong(p, "16 hexadecimal digits (0-9a-f) are expected");
    case FORM_HEX64:
        return is_hex(s, n, 64) ? SLUICE_OK : wrong(p, "a SHA-256 in 64 hexadecimal digits (0-9a-f) is expected");
    case FORM_DATE:
        return is_date(s, n) ? SLUICE_OK : wrong(p, "a date such as 2026-11-22T19:30:00Z is expected");
    case FORM_DEVICE:
        return is_device(s, n) ? SLUICE_OK : wrong(p, "cpu, gpu0, gpu1... is expected");
    case FORM_ANY:
        break;
    }
    return SLUICE_OK;
}

static sluice_status check_number(const struct rule *r, struct json_object *v, struct place *p) {
    double x = json_object_get_double(v);
    if (!isfinite(x)) {
        return wrong(p, "a number beyond what a double holds");
    }
    if (x < 0 && !(r->types & RULE_SIGNED)) {
        return wrong(p, "a value below zero");
    }
    if ((r->types & RULE_INT) && !(r->types & RULE_NUMBER) && fabs(x) > WHOLE_MAX) {
        return wrong(p, "a whole number beyond 2^53");
    }
    if (r->max > 0 && x > r->max) {
        return fail(p->err, SLUICE_E_FORMAT, "%s%s%s: %g is more than %g", p->label, p->n ? ", " : "", p->path, x,
                    r->max);
    }
    return SLUICE_OK;
}

static sluice_status check_value(const struct rule *r, struct json_object *v, struct place *p);

static sluice_status check_array(const struct rule *r, struct json_object *v, struct place *p) {
    size_t n = json_object_array_length(v);
    if (n < r->n_min || (r->n_max && n > r->n_max)) {
        return fail(p->err, SLUICE_E_FORMAT, "%s%s%s: a list of %zu values; %zu %s expected", p->label,
                    p->n ? ", " : "", p->path, n, n < r->n_min ? r->n_min : r->n_max,
                    r->n_min == r->n_max ? "are" : "at the most are");
    }
    for (size_t i = 0; i < n; i++) {
        size_t before = enter(p, NULL, i);
        TRY(check_value(r->items, json_object_array_get_idx(v, i), p));
        leave(p, before);
    }
    return SLUICE_OK;
}

static sluice_status check_object(const struct rule *r, struct json_object *v, struct place *p) {
    json_object_object_foreach(v, key, member) {
        const struct rule_field *f = r->fields;
        while (f->name && strcmp(f->name, key) != 0) {
            f++;
        }
        size_t before = enter(p, key, 0);
        if (!f->name) {
            return wrong(p, "records have no such key");
        }
        TRY(check_value(f->rule, member, p));
        leave(p, before);
    }
    for (const struct rule_field *f = r->fields; f->name; f++) {
        if (!f->optional && !json_object_object_get_ex(v, f->name, NULL)) {
            enter(p, f->name, 0);
            return wrong(p, "the key is missing (null says that a value is not known)");
        }
    }
    return SLUICE_OK;
}

static sluice_status check_map(const struct rule *r, struct json_object *v, struct place *p) {
    json_object_object_foreach(v, key, member) {
        size_t n = strlen(key);
        bool known =
            r->values ? listed(r->values, key, n) : n > 0 && strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_.") == n;
        size_t before = enter(p, key, 0);
        if (!known) {
            return wrong(p, r->values ? "records have no such key" : "a name has only the letters a-z0-9_.");
        }
        TRY(check_value(r->items, member, p));
        leave(p, before);
    }
    return SLUICE_OK;
}

/* Recursion is as deep as the tables nest, whatever the text does. */
static sluice_status check_value(const struct rule *r, struct json_object *v, struct place *p) {
    switch (json_object_get_type(v)) {
    case json_type_null:
        return r->types & RULE_NULL ? SLUICE_OK : wrong_type(p, r->types, v);
    case json_type_boolean:
        return r->types & RULE_BOOL ? SLUICE_OK : wrong_type(p, r->types, v);
    case json_type_double:
    case json_type_int: {
        double x = json_object_get_double(v);
        bool fits = r->types & RULE_NUMBER || (r->types & RULE_INT && (!isfinite(x) || x == floor(x)));
        return fits ? check_number(r, v, p) : wrong_type(p, r->types, v);
    }
    case json_type_string:
        return r->types & RULE_TEXT ? check_text(r, v, p) : wrong_type(p, r->types, v);
    case json_type_array:
        return r->types & RULE_ARRAY ? check_array(r, v, p) : wrong_type(p, r->types, v);
    case json_type_object:
        return r->types & RULE_OBJECT ? check_object(r, v, p)
               : r->types & RULE_MAP  ? check_map(r, v, p)
                                      : wrong_type(p, r->types, v);
    }
    return wrong_type(p, r->types, v);
}

static sluice_status find_kind(struct json_object *line, struct place *p, enum record_kind *kind) {
    struct json_object *v;
    if (!json_object_object_get_ex(line, "kind", &v) || !json_object_is_type(v, json_type_string)) {
        return wrong(p, "the line has no \"kind\"; records of version 2 have one in every line");
    }
    for (int k = 0; k < RECORD_KINDS; k++) {
        if (strcmp(record_kind_names[k], json_object_get_string(v)) == 0) {
            *kind = (enum record_kind)k;
            return SLUICE_OK;
        }
    }
    return fail(p->err, SLUICE_E_FORMAT, "%s, kind: there is no kind of line \"%.40s\"", p->label,
                json_object_get_string(v));
}

sluice_status rules_check(struct json_object *line, const char *label, enum record_kind *kind, sluice_error *err) {
    static const struct rule *const rules[RECORD_KINDS] = {&rule_run,  &rule_probe,      &rule_sample, &rule_row,
                                                           &rule_pair, &rule_comparison, &rule_trace,  &rule_end};
    struct place p = {.label = label, .err = err};
    TRY(find_kind(line, &p, kind));
    if (*kind ==
        RECORD_RUN) { /* said first: a later version has other keys, and its reader should hear of the version */
        struct json_object *v = NULL;
        json_object_object_get_ex(line, "version", &v);
        bool number = json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
        if (number && json_object_get_double(v) != 2) {
            return fail(err, SLUICE_E_UNSUPPORTED, "%s, version: a record of version %g; this program reads version 2",
                        label, json_object_get_double(v));
        }
    }
    TRY(check_object(rules[*kind], line, &p));
    bool one = json_object_object_get_ex(line, "target", NULL), two = json_object_object_get_ex(line, "targets", NULL);
    if (*kind == RECORD_RUN && one == two) {
        return fail(err, SLUICE_E_FORMAT, "%s, target: a run has either \"target\" or \"targets\"", label);
    }
    return SLUICE_OK;
}
