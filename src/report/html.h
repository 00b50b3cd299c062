/* Pieces of HTML pages. All text from records goes through html_text. */
#ifndef REPORT_HTML_H
#define REPORT_HTML_H

#include "base/buf.h"

/* Text between tags or in a quoted attribute: & < > " ' are escaped, bytes that are no UTF-8 become U+FFFD, control
 * characters become spaces. NULL is "". */
void html_text(struct buf *out, const char *text);
/* A missing value: a dash with the reason as its title. */
void html_dash(struct buf *out, const char *why);
/* <span class="chip chip-KIND">KIND</span> */
void html_chip(struct buf *out, const char *kind);

struct html_page {
    const char *name;           /* of data-page: "index" */
    const char *key;            /* of data-key, or NULL */
    const char *title;          /* plain text */
    const char *root;           /* "./" or "../" */
    const char *const *scripts; /* data scripts, from the root; ends with NULL; NULL: the build has no report.js */
};

/* All up to the inside of <main>, and the end of the page. */
void html_begin(struct buf *out, const struct html_page *page);
void html_end(struct buf *out);

/* A call of the page's script with JSON text: sluice_report('NAME', '...');, pure ASCII around what the text has. */
void script_data(struct buf *out, const char *name, const struct buf *json);

/* The style sheet of a build without the web parts. */
extern const char report_plain_css[];

#endif
