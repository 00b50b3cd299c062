#include "report/html.h"

#include "base/utf8.h"

#include <string.h>

void html_text(struct buf *out, const char *text) {
    size_t n = text ? strlen(text) : 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t used = utf8_decode(text + i, n - i, &cp);
        if (used == 0) {
            buf_puts(out, "\xEF\xBF\xBD");
            i++;
            continue;
        }
        switch (cp) {
        case '&':
            buf_puts(out, "&amp;");
            break;
        case '<':
            buf_puts(out, "&lt;");
            break;
        case '>':
            buf_puts(out, "&gt;");
            break;
        case '"':
            buf_puts(out, "&quot;");
            break;
        case '\'':
            buf_puts(out, "&#39;");
            break;
        default:
            if (cp < 0x20 || (cp >= 0x7F && cp < 0xA0)) {
                buf_putc(out, ' ');
            } else {
                buf_append(out, text + i, used);
            }
        }
        i += used;
    }
}

void html_dash(struct buf *out, const char *why) {
    buf_puts(out, "<span class=\"dash\" title=\"");
    html_text(out, why);
    buf_puts(out, "\">\xE2\x80\x93</span>");
}

void html_chip(struct buf *out, const char *kind) {
    buf_puts(out, "<span class=\"chip chip-");
    html_text(out, kind);
    buf_puts(out, "\">");
    html_text(out, kind);
    buf_puts(out, "</span>");
}

/* img blob: a chart saved as a picture. Without a script there is nothing to allow but the style sheet. */
static const char policy_script[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'";
static const char policy_plain[] =
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'";

static void put_attribute(struct buf *out, const char *name, const char *value) {
    buf_printf(out, " %s=\"", name);
    html_text(out, value);
    buf_putc(out, '"');
}

void html_begin(struct buf *out, const struct html_page *p) {
    buf_puts(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta http-equiv=\"Content-Security-Policy\" content=\"");
    buf_puts(out, p->scripts ? policy_script : policy_plain);
    buf_puts(out, "\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" "
                  "content=\"no-referrer\">\n<title>");
    html_text(out, p->title);
    buf_printf(
        out, "</title>\n<link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"%sassets/report.css\">\n",
        p->root);
    if (p->scripts) {
        buf_printf(out, "<script defer src=\"%sassets/report.js\"></script>\n", p->root);
    }
    for (const char *const *s = p->scripts; s && *s; s++) {
        buf_printf(out, "<script defer src=\"%s%s\"></script>\n", p->root, *s);
    }
    buf_puts(out, "</head>\n<body");
    put_attribute(out, "data-page", p->name);
    put_attribute(out, "data-root", p->root);
    if (p->key) {
        put_attribute(out, "data-key", p->key);
    }
    buf_printf(out,
               ">\n<a class=\"skip\" href=\"#main\">Skip to the content</a>\n<header class=\"site\">\n"
               "<a class=\"home\" href=\"%sindex.html\">sluice report</a>\n<nav aria-label=\"Site\">"
               "<a href=\"%sindex.html\"%s>All runs</a> <a href=\"%scompare.html\"%s>Compare</a></nav>\n</header>\n"
               "<main id=\"main\">\n",
               p->root, p->root, strcmp(p->name, "index") == 0 ? " aria-current=\"page\"" : "", p->root,
               strcmp(p->name, "compare") == 0 ? " aria-current=\"page\"" : "");
}

void html_end(struct buf *out) {
    buf_puts(out, "</main>\n</body>\n</html>\n");
}

/* ---- Scripts ----------------------------------------------------------------------------------------------------- */

/* As a literal between single quotes. JSON text has no line ends; U+2028 and U+2029 end a line in older scripts,
 * and "<" could end a script element if the text were ever put into a page. */
void script_data(struct buf *out, const char *name, const struct buf *json) {
    buf_printf(out, "sluice_report('%s','", name);
    if (json->failed) {
        out->failed = true;
        return;
    }
    const char *s = json->data, *end = s + json->len, *from = s;
    for (; s < end; s++) {
        const char *escape = NULL;
        size_t used = 1;
        if (*s == '\\') {
            escape = "\\\\";
        } else if (*s == '\'') {
            escape = "\\'";
        } else if (*s == '<') {
            escape = "\\x3c";
        } else if (*s == '\n' || *s == '\r') {
            escape = " ";
        } else if ((unsigned char)*s == 0xE2 && end - s > 2 && (unsigned char)s[1] == 0x80 &&
                   ((unsigned char)s[2] | 1) == 0xA9) {
            escape = (unsigned char)s[2] == 0xA8 ? "\\u2028" : "\\u2029";
            used = 3;
        }
        if (escape) {
            buf_append(out, from, (size_t)(s - from));
            buf_puts(out, escape);
            from = s + used;
            s += used - 1;
        }
    }
    buf_append(out, from, (size_t)(end - from));
    buf_puts(out, "');\n");
}
