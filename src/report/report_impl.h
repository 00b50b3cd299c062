/* What the writers of single pages share. */
#ifndef REPORT_IMPL_H
#define REPORT_IMPL_H

#include "report/html.h"
#include "report/report.h"
#include "report/site.h"
#include "report/table.h"

enum { PLAIN_ROWS = 200 }; /* of a long table, as text in a page whose script shows all */

struct report_file {
    char *path;    /* as it was named */
    uint32_t href; /* "records/NAME.jsonl", of texts */
    char sha256[65];
    size_t bytes, runs, rows, samples, wrong, left_out;
};

struct report {
    const struct report_options *options;
    bool interactive;
    struct table table;
    struct site *site;
    struct report_file *files;
    size_t n_files;
    struct buf comparisons; /* JSON objects for data/compare.js, with commas between */
    size_t n_pages;
    sluice_error *err;
};

/* {"contract":1,"tool":"sluice 0.1.0"} */
void report_put_site(struct buf *out);
/* A RecordFile of docs/report.md. */
void report_put_file(const struct report *r, const struct report_file *f, struct buf *out);

/* Writes a page, or a data script of that name; both free what they are given. */
sluice_status report_put_page(struct report *r, const char *path, struct buf *html);
sluice_status report_put_script(struct report *r, const char *name, struct buf *json);

/* ---- Pages ------------------------------------------------------------------------------------------------------- */

/* A record file as it came in. */
struct file_lines {
    const char *bytes;
    size_t *start; /* [n + 1]: where line i + 1 begins */
    size_t n;
};

/* All of one run; run_number: in the table. */
sluice_status report_write_run(struct report *r, const struct record_run *run, size_t run_number,
                               const struct check *found, const struct file_lines *lines);
sluice_status report_write_groups(struct report *r); /* a page for every model and machine */
sluice_status report_write_index(struct report *r);
sluice_status report_write_compare(struct report *r);

/* ---- Plain content ----------------------------------------------------------------------------------------------- */

/* A row's table, up to `most` rows; without_model / without_hardware: the page says it already. root: "./" or "../". */
struct plain_rows {
    const struct row_list *rows;
    size_t most;
    bool without_model, without_hardware;
    bool anchors; /* each row is where a link to its record line leads */
    const char *root;
};
void plain_rows(const struct report *r, const struct plain_rows *p, struct buf *out);
/* Address of a record line from the site's root: runs/ID.html#L17 or raw/ID.html#L17. */
void plain_line_href(const struct report *r, const char *root, const char *run_id, size_t line, struct buf *out);
/* <dt>name</dt><dd>value</dd>, nothing when the value is not known. */
void plain_fact(struct buf *out, const char *name, const char *value);
/* Facts of a run line's environment and targets, trees as records have them; any may be NULL. */
void plain_environment(struct buf *out, struct json_object *environment, struct json_object *target);
/* A table of probes: one line each for device and power cap. */
void plain_probes_begin(struct buf *out);
void plain_probe(struct buf *out, struct json_object *probe);
void plain_probes_end(struct buf *out);
/* Outcomes of paired runs. run: the id of its page, where the table is not on it; href: of the record line. */
void plain_comparisons_begin(struct buf *out, bool with_run);
void plain_comparison(struct buf *out, struct json_object *comparison, const char *run, const char *href);
void plain_table_end(struct buf *out);
/* A table cell with a member's digits as the record has them. */
void plain_number_cell(struct buf *out, struct json_object *o, const char *key);
/* Times of "248 ms", "1.53 s"; rates of "439.9". */
void plain_ms(struct buf *out, double ms);
void plain_bytes(struct buf *out, double bytes);

#endif
