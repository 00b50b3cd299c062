/* Reports written into a folder of the test's own, and what lies in them. */
#ifndef REPORT_FOLDER_H
#define REPORT_FOLDER_H

#include "base/mem.h"
#include "json/tree.h"
#include "record_lines.h"
#include "report/report.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct report_assets fake_script = {"/* script */\n", "/* style */\n", 13, 12}, no_script;

static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/sluice-report-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk) {
    (void)st;
    (void)walk;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

static int remove_folder(void **state) {
    (void)state;
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path in the test's folder; four calls share memory. */
static const char *in(const char *name) {
    static char paths[4][512];
    static int next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", folder, name);
    return p;
}

static void put_text(const char *name, const char *text) {
    FILE *f = fopen(in(name), "we");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static bool exists(const char *name) {
    return access(in(name), F_OK) == 0;
}

/* Entries of a folder but for the dots. */
static size_t count_entries(const char *name) {
    DIR *dir = opendir(in(name));
    size_t n = 0;
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    closedir(dir);
    return n;
}

static sluice_status report_of(const char *const *records, size_t n, const char *to, const struct report_assets *assets,
                               struct report_summary *summary, sluice_error *err) {
    const struct report_options o = {.folder = in(to), .records = records, .n_records = n, .assets = assets};
    return report_write(&o, summary, err);
}

static void write_report(const char *const *records, size_t n, const char *to, const struct report_assets *assets) {
    struct report_summary summary;
    sluice_error err = {0};
    if (report_of(records, n, to, assets, &summary, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
}

static char *read_text(const char *name, size_t *n) {
    return slurp(in(name), n);
}

static struct json_object *parse_text(const char *text, size_t n) {
    const struct json_tree_limits limits = {"data", UINT32_MAX, UINT32_MAX};
    struct json_object *tree = NULL;
    sluice_error err = {0};
    if (json_tree_parse(text, n, &limits, true, &tree, NULL, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    return tree;
}

/* The JSON of data/NAME.js: what the script's literal stands for. */
static struct json_object *read_data(const char *name) {
    char path[256], head[256];
    struct buf b = {0};
    size_t n;
    snprintf(path, sizeof path, "%s/data/%s.js", "site", name);
    char *text = read_text(path, &n);
    snprintf(head, sizeof head, "sluice_report('%s','", name);
    size_t at = strlen(head);
    assert_memory_equal(text, head, at);
    while (text[at] != '\'') {
        assert_true(at < n && text[at] != '\n' && text[at] != '<');
        if (text[at] != '\\') {
            buf_putc(&b, text[at++]);
        } else if (text[at + 1] == 'x') {
            assert_memory_equal(text + at, "\\x3c", 4);
            buf_putc(&b, '<');
            at += 4;
        } else if (text[at + 1] == 'u') {
            buf_puts(&b, text[at + 5] == '8' ? "\xE2\x80\xA8" : "\xE2\x80\xA9");
            at += 6;
        } else {
            buf_putc(&b, text[at + 1]);
            at += 2;
        }
    }
    assert_string_equal(text + at, "');\n");
    struct json_object *tree = parse_text(b.data, b.len);
    buf_free(&b);
    free(text);
    return tree;
}

/* Item i of a table's column, counted runs resolved; its text goes to out ("" : not known). */
static const char *table_item(struct json_object *table, const char *column, size_t i, char out[256]) {
    const char *s = record_text(record_get(table, "columns"), column);
    out[0] = '\0';
    while (s && *s) {
        size_t n = strcspn(s, ",*"), times = 1;
        const char *value = s;
        s += n;
        if (*s == '*') {
            char *end;
            times = strtoul(s + 1, &end, 10);
            s = end;
        }
        if (i < times) {
            snprintf(out, 256, "%.*s", (int)n, value);
            return out;
        }
        i -= times;
        s += *s == ',';
    }
    return out;
}

/* How many items a column has. */
static size_t table_length(const char *s) {
    size_t n = 0;
    for (const char *at = s;;) {
        at += strcspn(at, ",*");
        char *end = (char *)at;
        n += *at == '*' ? strtoul(at + 1, &end, 10) : 1;
        if (!*end) {
            return n;
        }
        at = end + 1;
    }
}

/* The text of a dictionary column. */
static const char *table_entry(struct json_object *table, const char *column, size_t i) {
    char item[256];
    struct json_object *dict = record_get(record_get(table, "dict"), column);
    table_item(table, column, i, item);
    return item[0] ? json_object_get_string(json_object_array_get_idx(dict, strtoul(item, NULL, 10))) : NULL;
}

#endif
