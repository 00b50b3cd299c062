/* What the report writes, read back: the data scripts against the records that they were made of, hostile records, and
 * every link of every page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "report_folder.h"

#include "report/columns.h"

#define VALID TEST_DATA "/unit/data/record.jsonl"
#define PAGE  REPO_DIR "/bench/results/legacy-lfm2-8b-a1b-page.jsonl"
#define AB    REPO_DIR "/bench/results/ab-llama-cpp.jsonl"

static const char *const all[] = {VALID, PAGE, AB};

/* ---- The contract ------------------------------------------------------------------------------------------------ */

/* Every column has its name in web/report/data.ts. */
static void test_types(void **state) {
    (void)state;
    char *ts = slurp(REPO_DIR "/web/report/data.ts", NULL), *md = slurp(REPO_DIR "/docs/report.md", NULL);
    for (size_t c = 0; c < COL_COUNT; c++) {
        const char *name = columns[c].name, *dot = strchr(name, '.');
        int n = dot ? (int)(dot - name) : (int)strlen(name);
        char quoted[64];
        snprintf(quoted, sizeof quoted, "\"%.*s\"", n, name);
        bool json = columns[c].type == COLUMN_JSON;
        if (json) {
            snprintf(quoted, sizeof quoted, "  %s: ", name);
        }
        assert_non_null(strstr(ts, quoted));
        snprintf(quoted, sizeof quoted, "`%.*s`", n, name);
        assert_non_null(strstr(md, quoted));
    }
    free(ts);
    free(md);
}

/* All columns have n items, dictionary items lie in their dictionary, numbers are numbers. */
static void check_table(struct json_object *table) {
    size_t n = (size_t)record_number(table, "n");
    struct json_object *dict = record_get(table, "dict");
    json_object_object_foreach(record_get(table, "columns"), name, column) {
        const struct column *c = columns;
        char item[256];
        while (strcmp(c->name, name) != 0) {
            c++;
            assert_true(c < columns + COL_COUNT);
        }
        assert_int_equal(table_length(json_object_get_string(column)), n);
        struct json_object *entries = record_get(dict, c->type == COLUMN_SIZE ? "size" : name);
        assert_true((entries != NULL) == (c->type != COLUMN_NUMBER));
        for (size_t i = 0; i < n; i++) {
            table_item(table, name, i, item);
            char *end = item;
            double v = item[0] ? strtod(item, &end) : 0;
            assert_true(*end == '\0');
            assert_true(!entries || v < (double)json_object_array_length(entries));
        }
    }
}

/* Line `line` of a record of the site. */
static struct json_object *record_at(const char *href, size_t line) {
    char path[256];
    size_t n;
    snprintf(path, sizeof path, "site/%s", href);
    char *text = read_text(path, &n), *at = text;
    for (size_t i = 1; i < line; i++) {
        at = strchr(at, '\n') + 1;
    }
    struct json_object *tree = parse_text(at, strcspn(at, "\n"));
    free(text);
    return tree;
}

static const char *digits_of(struct json_object *o, const char *path) {
    struct json_object *v = record_path(o, path);
    return v ? json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN) : "";
}

static struct json_object *find_run(struct json_object *runs, const char *id) {
    for (size_t i = 0; i < json_object_array_length(runs); i++) {
        struct json_object *run = json_object_array_get_idx(runs, i);
        if (record_is(run, "id", id)) {
            return run;
        }
    }
    fail_msg("no run %s", id);
    return NULL;
}

/* Each row of the index leads to its line, which has its figures, to the digit. */
static void test_index(void **state) {
    (void)state;
    write_report(all, 3, "site", &fake_script);
    struct json_object *index = read_data("index"), *table = record_get(index, "table"),
                       *runs = record_get(index, "runs");
    struct json_object *files = record_get(index, "files");
    size_t n = (size_t)record_number(table, "n"), legacy = 0;
    assert_int_equal((int)record_number(record_get(index, "site"), "contract"), 1);
    assert_int_equal(json_object_array_length(files), 3);
    check_table(table);
    for (size_t i = 0; i < n; i++) {
        char item[256];
        struct json_object *run = find_run(runs, table_entry(table, "run", i));
        const char *href = record_text(json_object_array_get_idx(files, (size_t)record_number(run, "file")), "href");
        struct json_object *row = record_at(href, strtoul(table_item(table, "line", i, item), NULL, 10));
        assert_true(record_is(row, "kind", "row"));
        assert_string_equal(record_text(row, "row"), table_entry(table, "row", i));
        bool printed = record_get(row, "printed") != NULL;
        legacy += printed;
        if (printed) {
            assert_string_equal(record_text(record_get(row, "printed"), "decode_tok_s"),
                                table_item(table, "decode_tok_s", i, item));
            assert_string_equal(table_entry(table, "kind", i), "legacy");
            assert_string_equal(table_entry(table, "comparable", i), "unfit");
        } else {
            assert_string_equal(digits_of(row, "metrics.decode_tok_s.median"),
                                table_item(table, "decode_tok_s", i, item));
            assert_string_equal(digits_of(row, "metrics.latency_ms.p95"), table_item(table, "latency_ms.p95", i, item));
            struct json_object *interval = record_path(row, "metrics.ttft_ms.interval");
            struct json_object *high = interval ? json_object_array_get_idx(interval, 1) : NULL;
            assert_string_equal(high ? json_object_to_json_string_ext(high, JSON_C_TO_STRING_PLAIN) : "",
                                table_item(table, "ttft_ms.hi", i, item));
        }
        assert_string_equal(table_entry(table, "verdict", i), record_text(record_get(row, "verdict"), "state"));
        json_object_put(row);
    }
    assert_int_equal(legacy, 25);
    json_object_put(index);
}

static size_t row_of(struct json_object *table, const char *run, const char *row) {
    for (size_t i = 0; i < (size_t)record_number(table, "n"); i++) {
        if (strcmp(table_entry(table, "run", i), run) == 0 && strcmp(table_entry(table, "row", i), row) == 0) {
            return i;
        }
    }
    fail_msg("no row %s", row);
    return 0;
}

/* The page's rows, by hand from what was printed. */
static void test_legacy(void **state) {
    (void)state;
    char item[256];
    write_report(all, 3, "site", &fake_script);
    struct json_object *model = read_data("model-lfm2-8b-a1b-q4-k-m"), *table = record_get(model, "table");
    check_table(table);
    assert_int_equal((int)record_number(table, "n"), 25);
    assert_string_equal(record_text(model, "title"), "LFM2 8B-A1B");
    assert_string_equal(record_text(model, "quantization"), "Q4_K_M");
    assert_string_equal(table_item(table, "decode_tok_s", 0, item), "439.9"); /* fastest first */
    assert_string_equal(table_item(table, "decode_tok_s", 1, item), "438.0");
    assert_string_equal(table_item(table, "latency_ms", 1, item), "2050"); /* "2.05s" */
    assert_string_equal(table_item(table, "ttft_ms", 1, item), "34");
    assert_string_equal(table_item(table, "power_cap_w", 0, item), "450");
    assert_string_equal(table_item(table, "power_max_w", 0, item), "450");
    assert_string_equal(table_entry(table, "hardware", 0), "NVIDIA GeForce RTX 3090 \xC2\xB7 24 GiB");
    assert_string_equal(table_entry(table, "driver", 0), "590.48.01");
    assert_string_equal(table_entry(table, "label", 0), "baseline-pl-450w");
    assert_string_equal(
        record_text(json_object_array_get_idx(record_get(record_get(table, "dict"), "printed"), 0), "ttft"), "21ms");
    char *md = slurp(REPO_DIR "/docs/report.md", NULL);
    assert_non_null(strstr(md, "findings"));
    free(md);
    size_t i = row_of(table, "48d0ec36bfbe0001", "agent/c1");
    table_item(table, "findings", i, item);
    struct json_object *found = json_object_array_get_idx(record_path(table, "dict.findings"), strtoul(item, NULL, 10));
    bool hit = false;
    for (size_t k = 0; k < json_object_array_length(found); k++) {
        struct json_object *f = json_object_array_get_idx(found, k);
        hit |= record_is(f, "field", "prefill_tok_s") && record_is(f, "level", "invalid") &&
               strstr(record_text(f, "text"), "prompt-cache hit");
    }
    assert_true(hit);
    struct json_object *blocks = record_get(model, "blocks");
    assert_int_equal(json_object_array_length(blocks), 5);
    struct json_object *block = json_object_array_get_idx(blocks, 0);
    assert_int_equal(json_object_array_length(record_get(block, "probes")), 3);
    assert_int_equal((int)record_number(block, "peak_w"), 334);
    assert_int_equal((int)record_number(block, "warmups"), 2);
    assert_int_equal((int)record_number(block, "runs_per_row"), 5);
    struct json_object *file = record_get(json_object_array_get_idx(record_get(model, "files"), 0), "file");
    assert_string_equal(record_text(file, "commit"), "11624c2ea122");
    json_object_put(model);
    struct json_object *hardware = read_data("hardware-nvidia-geforce-rtx-3090-24-gib");
    assert_int_equal((int)record_number(record_get(hardware, "table"), "n"), 15);
    assert_int_equal(json_object_array_length(record_get(hardware, "blocks")), 3);
    json_object_put(hardware);
}

static void test_run(void **state) {
    (void)state;
    write_report(all, 3, "site", &fake_script);
    struct json_object *run = read_data("run-00112233aabbccdd"), *raw = read_data("raw-00112233aabbccdd");
    struct json_object *lines = record_get(run, "lines"), *texts = record_get(raw, "lines");
    size_t n;
    char *text = slurp(VALID, &n), *at = text;
    check_table(record_get(run, "table"));
    assert_null(record_path(run, "table.columns.comparable"));
    for (size_t i = 0; i < json_object_array_length(lines); i++) {
        struct json_object *line = json_object_array_get_idx(lines, i);
        size_t len = strcspn(at, "\n");
        struct json_object *want = parse_text(at, len);
        assert_int_equal((size_t)record_number(line, "line"), i + 1);
        assert_true(json_object_equal(record_get(line, "data"), want));
        const char *got = json_object_get_string(json_object_array_get_idx(texts, i));
        assert_int_equal(strlen(got), len);
        assert_memory_equal(got, at, len);
        json_object_put(want);
        at += len + 1;
    }
    assert_in_range(at - text, n / 2, n); /* the file's second record has a page of its own */
    assert_true(json_object_array_length(record_get(run, "findings")) > 0);
    free(text);
    json_object_put(run);
    json_object_put(raw);
    struct json_object *later = read_data("raw-48d0ec36bfbe0001"); /* not the first of its file */
    assert_true(record_number(later, "first") > 1);
    assert_non_null(strstr(json_object_get_string(json_object_array_get_idx(record_get(later, "lines"), 0)),
                           "\"48d0ec36bfbe0001\""));
    json_object_put(later);
}

/* The fields by which rows are compared, and the outcomes of paired runs. */
static void test_compare(void **state) {
    (void)state;
    write_report(all, 3, "site", &fake_script);
    struct json_object *compare = read_data("compare"), *index = read_data("index");
    struct json_object *fields = record_get(compare, "fields"), *values = record_get(compare, "values");
    size_t n = (size_t)record_number(record_get(index, "table"), "n");
    assert_int_equal(json_object_array_length(fields), json_object_array_length(values));
    for (size_t i = 0; i < json_object_array_length(values); i++) {
        assert_int_equal(table_length(record_text(json_object_array_get_idx(values, i), "column")), n);
    }
    assert_string_equal(record_text(json_object_array_get_idx(fields, 0), "name"), "model");
    assert_int_equal(json_object_array_length(record_get(json_object_array_get_idx(fields, 0), "classes")), 3);
    struct json_object *outcomes = record_get(compare, "comparisons");
    bool hit = false;
    for (size_t i = 0; i < json_object_array_length(outcomes); i++) {
        struct json_object *c = json_object_array_get_idx(outcomes, i);
        const char *a = record_text(c, "a"), *b = record_text(c, "b");
        hit |= a && b && record_is(c, "run", "e0dab92fab39dc43");
        assert_true(!a || !b || strcmp(a, b) != 0);
        assert_true(record_number(c, "ratio") > 0);
        struct json_object *line = record_at("records/ab-llama-cpp.jsonl", (size_t)record_number(c, "line"));
        if (record_is(c, "run", "e0dab92fab39dc43")) {
            assert_string_equal(record_text(line, "metric"), record_text(c, "metric"));
        }
        json_object_put(line);
    }
    assert_true(hit);
    json_object_put(compare);
    json_object_put(index);
}

/* ---- Files of a site --------------------------------------------------------------------------------------------- */

enum { FILES_MAX = 256 };
static char *found_files[FILES_MAX];
static size_t n_found;

static int find_file(const char *path, const struct stat *st, int type, struct FTW *walk) {
    (void)st;
    (void)walk;
    if (type == FTW_F && n_found < FILES_MAX) {
        found_files[n_found++] = strdup(path);
    }
    return 0;
}

static void find_files(const char *site) {
    n_found = 0;
    assert_int_equal(nftw(in(site), find_file, 16, FTW_PHYS), 0);
    assert_true(n_found > 0 && n_found < FILES_MAX);
}

static void free_files(void) {
    while (n_found) {
        free(found_files[--n_found]);
    }
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* A page's links: to files that are there, and to anchors that are there. */
static void check_link(const char *page, const char *link, size_t n) {
    char target[1024], anchor[64] = "", quoted[80];
    const char *hash = memchr(link, '#', n);
    size_t path = hash ? (size_t)(hash - link) : n;
    if (strncmp(link, "https://", 8) == 0 || strncmp(link, "http://", 7) == 0 || strncmp(link, "data:,", 6) == 0) {
        return;
    }
    assert_true(path < 200);
    if (hash) {
        snprintf(anchor, sizeof anchor, "%.*s", (int)(n - path - 1), hash + 1);
    }
    snprintf(target, sizeof target, "%.*s%.*s", (int)(strrchr(page, '/') + 1 - page), page, (int)path, link);
    if (access(path ? target : page, R_OK) != 0) {
        fail_msg("%s links to %.*s, which is not there", page, (int)n, link);
    }
    if (anchor[0]) {
        char *text = slurp(path ? target : page, NULL);
        snprintf(quoted, sizeof quoted, " id=\"%s\"", anchor);
        if (!strstr(text, quoted)) {
            fail_msg("%s links to %.*s, and there is no such anchor", page, (int)n, link);
        }
        free(text);
    }
}

static void check_page(const char *page, bool script) {
    char *text = slurp(page, NULL);
    static const char *const attributes[] = {" href=\"", " src=\""};
    assert_true(strncmp(text, "<!doctype html>\n<html lang=\"en\">", 32) == 0);
    for (size_t a = 0; a < 2; a++) {
        for (const char *at = text; (at = strstr(at, attributes[a]));) {
            at += strlen(attributes[a]);
            if (script && strstr(at, "#L") && strchr(at, '#') < strchr(at, '"')) {
                check_link(page, at, strcspn(at, "#")); /* the script shows lines that are not in the page */
            } else {
                check_link(page, at, strcspn(at, "\""));
            }
        }
    }
    assert_true((strstr(text, "<script") != NULL) == script);
    assert_null(strstr(text, "<style"));
    assert_null(strstr(text, " style=\""));
    assert_null(strstr(text, "javascript:"));
    free(text);
}

static void test_links(void **state) {
    (void)state;
    for (int script = 0; script < 2; script++) {
        write_report(all, 3, "site", script ? &fake_script : &no_script);
        assert_int_equal(exists("site/data"), script);
        assert_int_equal(exists("site/raw"), !script);
        assert_int_equal(exists("site/assets/report.js"), script);
        find_files("site");
        for (size_t i = 0; i < n_found; i++) {
            if (ends_with(found_files[i], ".html")) {
                check_page(found_files[i], script);
            }
        }
        free_files();
    }
}

static void test_same_bytes(void **state) {
    (void)state;
    write_report(all, 3, "one", &fake_script);
    write_report(all, 3, "two", &fake_script);
    find_files("one");
    for (size_t i = 0; i < n_found; i++) {
        size_t na, nb;
        char other[1024];
        const char *rest = found_files[i] + strlen(in("one"));
        snprintf(other, sizeof other, "%s%s", in("two"), rest);
        char *a = slurp(found_files[i], &na), *b = slurp(other, &nb);
        assert_int_equal(na, nb);
        assert_memory_equal(a, b, na);
        free(a);
        free(b);
    }
    free_files();
}

/* ---- Hostile records --------------------------------------------------------------------------------------------- */

#define ATTACK "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\\\"]]>--><!--\\u2028\\u2029${x}`"

static void test_hostile(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    struct buf b = {0};
    lines_set(&l, 0, "label", "\"" ATTACK "\"");
    lines_set(&l, 0, "command", "\"" ATTACK "\"");
    lines_set(&l, 0, "target.model", "\"../../" ATTACK "\"");
    lines_set(&l, 0, "target.engine", "\"" ATTACK "\"");
    lines_set(&l, 0, "target.build", "\"=cmd()\"");
    lines_set(&l, 0, "model_file.quantization", "\"..\"");
    lines_set(&l, 0, "environment.gpus", "[]");
    lines_set(&l, 0, "environment.cpu", "\"../" ATTACK "\"");
    lines_set(&l, 0, "origin.note", "\"" ATTACK "\"");
    size_t row = lines_find(&l, "row", NULL);
    lines_set(&l, row, "workload", "\"" ATTACK "\"");
    lines_set(&l, row, "verdict", "{\"state\":\"noisy\",\"reasons\":[\"" ATTACK "\"]}");
    lines_text(&l, &b);
    put_text("a b'.jsonl", b.data);
    char path[512];
    snprintf(path, sizeof path, "%s", in("a b'.jsonl"));
    for (int script = 1; script >= 0; script--) {
        write_report((const char *const[]){path}, 1, "site", script ? &fake_script : &no_script);
        find_files("site");
        for (size_t i = 0; i < n_found; i++) {
            const char *name = found_files[i] + strlen(in("site"));
            assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789/._-"), strlen(name));
            assert_null(strstr(name, ".."));
            if (ends_with(name, ".html")) {
                check_page(found_files[i], script);
            }
            if (ends_with(name, ".html") || ends_with(name, ".js")) {
                size_t n;
                char *text = slurp(found_files[i], &n);
                assert_null(strstr(text, "<script>"));
                assert_null(strstr(text, "<img"));
                assert_null(strstr(text, "]]><!--"));
                assert_null(strstr(text, "\xE2\x80\xA8\xE2\x80\xA9\"")); /* as text of a literal */
                free(text);
            }
        }
        free_files();
        if (script) {
            struct json_object *index = read_data("index"), *table = record_get(index, "table");
            struct json_object *want = parse_text("\"" ATTACK "\"", strlen(ATTACK) + 2);
            assert_string_equal(table_entry(table, "label", 0), json_object_get_string(want));
            assert_string_equal(table_entry(table, "engine", 0), json_object_get_string(want));
            json_object_put(want);
            json_object_put(index);
        }
    }
    buf_free(&b);
    lines_free(&l);
}

/* A URL that is none of the web is text. */
static void test_source_address(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    struct buf b = {0};
    char path[512];
    lines_set(
        &l, 0, "origin",
        "{\"source\":\"imported\",\"format\":\"x\",\"url\":\"Javascript:alert(1)\",\"sha256\":null,\"note\":null}");
    lines_text(&l, &b);
    put_text("x.jsonl", b.data);
    snprintf(path, sizeof path, "%s", in("x.jsonl"));
    write_report((const char *const[]){path}, 1, "site", &no_script);
    char *page = read_text("site/runs/00112233aabbccdd.html", NULL);
    assert_non_null(strstr(page, "<dd>Javascript:alert(1)</dd>"));
    free(page);
    buf_free(&b);
    lines_free(&l);
}

/* A run without rows (a probe alone) has its page, and its machine has one. */
static void test_rowless(void **state) {
    (void)state;
    struct lines l = lines_load(VALID);
    struct lines few = {.tree = {l.tree[0], l.tree[1]}, .n = 2};
    struct buf b = {0};
    char path[512];
    lines_text(&few, &b);
    put_text("probe.jsonl", b.data);
    snprintf(path, sizeof path, "%s", in("probe.jsonl"));
    for (int script = 0; script < 2; script++) {
        write_report((const char *const[]){path}, 1, "site", script ? &fake_script : &no_script);
        char *page = read_text("site/index.html", NULL);
        assert_non_null(strstr(page, "Runs without rows"));
        free(page);
        assert_true(exists("site/runs/00112233aabbccdd.html"));
        assert_int_equal(count_entries("site/hardware"), 1);
    }
    struct json_object *index = read_data("index");
    assert_int_equal((int)record_number(record_get(index, "table"), "n"), 0);
    json_object_put(index);
    buf_free(&b);
    lines_free(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test_setup_teardown(test_index, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_legacy, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_run, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_compare, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_links, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_same_bytes, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_hostile, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_source_address, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_rowless, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
