/* The form of a record's lines as tables (docs/records.md; docs/records.schema.json says the same to other programs),
 * and the one function that holds a value against them. */
#ifndef RECORD_RULES_H
#define RECORD_RULES_H

#include "sluice.h"

#include <stdbool.h>
#include <stddef.h>

struct json_object;

enum rule_type {
    RULE_NULL = 1,
    RULE_BOOL = 2,
    RULE_INT = 4, /* a whole number up to 2^53; 5.0 is one too, as in JSON Schema */
    RULE_NUMBER = 8,
    RULE_TEXT = 16,
    RULE_ARRAY = 32,
    RULE_OBJECT = 64,  /* exactly the keys of `fields` */
    RULE_MAP = 128,    /* keys of `values`, or any of [a-z0-9_.] where that is NULL; all values have the form `items` */
    RULE_SIGNED = 256, /* numbers may be below zero */
};

enum rule_form { FORM_ANY, FORM_HEX16, FORM_HEX64, FORM_DATE, FORM_DEVICE };

struct rule {
    unsigned types;
    double max;                      /* of a number; 0: none but 2^53 for whole ones */
    const char *const *values;       /* texts, or keys of a map, that are allowed; ends with NULL */
    enum rule_form form;             /* of a text */
    const struct rule_field *fields; /* of an object; ends with a NULL name */
    const struct rule *items;        /* of an array or a map */
    size_t n_min, n_max;             /* elements of an array; n_max 0: no limit */
};

struct rule_field {
    const char *name;
    const struct rule *rule;
    bool optional;
};

/* What several tables use. */
extern const struct rule rule_text, rule_text_null, rule_bool, rule_bool_null, rule_count, rule_count_null, rule_number,
    rule_number_null, rule_signed, rule_signed_null, rule_share_null, rule_texts, rule_hex64, rule_hex64_null,
    rule_verdict, rule_interval;

enum record_kind {
    RECORD_RUN,
    RECORD_PROBE,
    RECORD_SAMPLE,
    RECORD_ROW,
    RECORD_PAIR,
    RECORD_COMPARISON,
    RECORD_TRACE,
    RECORD_END,
    RECORD_KINDS
};

extern const char *const record_kind_names[RECORD_KINDS];
extern const struct rule rule_run, rule_probe, rule_sample, rule_row, rule_pair, rule_comparison, rule_trace, rule_end;

/* Holds a line against the rules of its kind. label: "FILE, line 7", starts the error's sentence, which names the
 * field. */
sluice_status rules_check(struct json_object *line, const char *label, enum record_kind *kind, sluice_error *err);

#endif
