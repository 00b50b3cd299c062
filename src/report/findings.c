/* What check found, for the pages' data. */
#include "report/table.h"

#include "record/line.h"
#include "report/names.h"

static size_t first_finding(const struct check *c, size_t line) {
    size_t lo = 0, hi = c->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->findings[mid].line < line) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static void put_findings(const struct check *found, size_t first, size_t last, bool whole, struct buf *out) {
    size_t from = first_finding(found, first), to = first_finding(found, last + 1);
    for (size_t i = from; i < to; i++) {
        const struct finding *f = &found->findings[i];
        line_open(out, NULL, '{');
        if (whole) {
            line_put_uint(out, "line", f->line);
            line_put_text(out, "row", f->row);
        }
        line_put_text(out, "level", finding_level_names[f->level]);
        line_put_text(out, "field", name_finding_column(f));
        line_put_text(out, "text", f->text);
        line_close(out, '}');
    }
}

void findings_json(const struct check *found, size_t line, struct buf *out) {
    size_t at = first_finding(found, line);
    if (at < found->n && found->findings[at].line == line) {
        buf_putc(out, '[');
        put_findings(found, line, line, false, out);
        buf_putc(out, ']');
    }
}

void findings_json_run(const struct check *found, size_t first, size_t last, struct buf *out) {
    buf_putc(out, '[');
    put_findings(found, first, last, true, out);
    buf_putc(out, ']');
}
