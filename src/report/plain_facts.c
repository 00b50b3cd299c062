/* Machines, engines and probes as lists of facts. */
#include "report/report_impl.h"

#include "report/names.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

void plain_fact(struct buf *out, const char *name, const char *value) {
    if (value && value[0]) {
        buf_printf(out, "<dt>%s</dt><dd>", name);
        html_text(out, value);
        buf_puts(out, "</dd>\n");
    }
}

static void put_member(struct buf *out, const char *name, struct json_object *o, const char *key) {
    struct json_object *v = record_get(o, key);
    plain_fact(out, name, v ? json_object_get_string(v) : NULL);
}

static void put_bytes(struct buf *out, const char *name, struct json_object *o, const char *key) {
    double v = record_number(o, key);
    if (!isnan(v)) {
        buf_printf(out, "<dt>%s</dt><dd>", name);
        plain_bytes(out, v);
        buf_puts(out, "</dd>\n");
    }
}

/* "350 W of 450 W" */
static void put_of(struct buf *out, const char *name, struct json_object *o, const char *key, const char *max_key,
                   const char *unit) {
    double v = record_number(o, key), max = record_number(o, max_key);
    if (!isnan(v)) {
        buf_printf(out, "<dt>%s</dt><dd>%g%s", name, v, unit);
        if (!isnan(max)) {
            buf_printf(out, " of %g%s", max, unit);
        }
        buf_puts(out, "</dd>\n");
    }
}

static void put_gpu(struct buf *out, struct json_object *gpu) {
    put_member(out, "GPU", gpu, "name");
    put_bytes(out, "GPU memory", gpu, "memory_bytes");
    put_member(out, "driver", gpu, "driver");
    put_member(out, "CUDA", gpu, "cuda");
    put_member(out, "compute capability", gpu, "compute_capability");
    put_member(out, "SM or CU", gpu, "sms");
    put_of(out, "power limit", gpu, "power_limit_w", "power_limit_max_w", " W");
    put_of(out, "graphics clock", gpu, "clock_sm_mhz", "clock_sm_max_mhz", " MHz");
    put_of(out, "memory clock", gpu, "clock_mem_mhz", "clock_mem_max_mhz", " MHz");
    put_member(out, "bus width, bits", gpu, "bus_width_bits");
    put_of(out, "PCIe generation", gpu, "pcie_gen", "pcie_gen_max", "");
    put_of(out, "PCIe lanes", gpu, "pcie_width", "pcie_width_max", "");
    put_member(out, "unified memory", gpu, "unified_memory");
}

void plain_environment(struct buf *out, struct json_object *environment, struct json_object *target) {
    struct json_object *gpus = record_get(environment, "gpus");
    buf_puts(out, "<dl>\n");
    put_member(out, "CPU", environment, "cpu");
    put_of(out, "cores allowed", environment, "cores_allowed", "cores_online", "");
    put_bytes(out, "memory", environment, "memory_total");
    for (size_t i = 0; gpus && i < json_object_array_length(gpus); i++) {
        put_gpu(out, json_object_array_get_idx(gpus, i));
    }
    put_member(out, "OS", environment, "os");
    put_member(out, "kernel", environment, "kernel");
    put_member(out, "governor", environment, "governor");
    put_member(out, "microcode", environment, "microcode");
    put_member(out, "libc", environment, "libc");
    put_member(out, "compiler", environment, "compiler");
    put_member(out, "engine", target, "engine");
    put_member(out, "build", target, "build");
    put_member(out, "device API", target, "device_api");
    put_member(out, "command line", target, "command_line");
    put_member(out, "endpoint", target, "endpoint");
    put_member(out, "streaming", target, "streaming");
    put_member(out, "context", target, "context");
    put_member(out, "slots", target, "slots");
    buf_puts(out, "</dl>\n");
}

/* ---- Probes ------------------------------------------------------------------------------------------------------ */

static const char *const probe_columns[] = {"read", "copy",   "int8",    "fp8",     "fp16",     "bf16",
                                            "f32",  "launch", "barrier", "pcie_up", "pcie_down"};
enum { PROBE_COLUMNS = sizeof probe_columns / sizeof *probe_columns };

void plain_probes_begin(struct buf *out) {
    buf_puts(out, "<h3>Hardware probes</h3>\n<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"Probes\">\n"
                  "<table class=\"prerendered\">\n<thead><tr><th>device</th><th class=\"num\">cap</th>"
                  "<th class=\"num\">theory</th>");
    for (size_t i = 0; i < PROBE_COLUMNS; i++) {
        buf_printf(out, "<th class=\"num\">%s</th>", probe_columns[i]);
    }
    buf_puts(out, "</tr></thead>\n<tbody>\n");
}

static struct json_object *find_item(struct json_object *probe, const char *name) {
    struct json_object *items = record_get(probe, "items");
    for (size_t i = 0; items && i < json_object_array_length(items); i++) {
        struct json_object *item = json_object_array_get_idx(items, i);
        if (record_is(item, "name", name)) {
            return item;
        }
    }
    return NULL;
}

static void put_rate_cell(struct buf *out, double v, const char *unit, const char *why) {
    buf_puts(out, "<td class=\"num\">");
    if (isnan(v)) {
        html_dash(out, why);
    } else {
        buf_printf(out, "%.4g ", v);
        html_text(out, unit);
    }
    buf_puts(out, "</td>");
}

void plain_probe(struct buf *out, struct json_object *probe) {
    struct json_object *read = find_item(probe, "read"), *copy = find_item(probe, "copy");
    double theory = record_number(read, "theory");
    buf_puts(out, "<tr><td>");
    html_text(out, record_text(probe, "device"));
    buf_puts(out, "</td>");
    put_rate_cell(out, record_number(probe, "power_cap_w"), "W", "no power limit is known");
    put_rate_cell(out, isnan(theory) ? record_number(copy, "theory") : theory, "GB/s", "not known");
    for (size_t i = 0; i < PROBE_COLUMNS; i++) {
        struct json_object *item = find_item(probe, probe_columns[i]);
        put_rate_cell(out, record_number(item, "median"), item ? record_text(item, "unit") : "", "not measured");
    }
    buf_puts(out, "</tr>\n");
}

void plain_probes_end(struct buf *out) {
    plain_table_end(out);
    buf_puts(out, "<p class=\"soft\">Probes measure memory and matrix units by themselves; "
                  "rows of raw "
                  "tests and workloads measure a model being served.</p>\n");
}

/* ---- Comparisons ------------------------------------------------------------------------------------------------- */

void plain_number_cell(struct buf *out, struct json_object *o, const char *key) {
    struct json_object *v = record_get(o, key);
    buf_puts(out, "<td class=\"num\">");
    if (v) {
        html_text(out, json_object_get_string(v));
    } else {
        html_dash(out, "not known");
    }
    buf_puts(out, "</td>");
}

void plain_comparisons_begin(struct buf *out, bool with_run) {
    buf_puts(out, "<div class=\"box\" tabindex=\"0\" role=\"region\" aria-label=\"Comparisons\">\n"
                  "<table class=\"prerendered\">\n<thead><tr>");
    buf_puts(out, with_run ? "<th>run</th>" : "");
    buf_puts(out, "<th>row</th><th>figure</th><th class=\"num\">ratio</th><th class=\"num\">interval</th>"
                  "<th class=\"num\">blocks</th><th>B is</th></tr></thead>\n<tbody>\n");
}

void plain_comparison(struct buf *out, struct json_object *comparison, const char *run, const char *href) {
    struct json_object *interval = record_get(comparison, "interval");
    buf_puts(out, "<tr>");
    if (run) {
        buf_printf(out, "<td><a href=\"%s\">", href);
        html_text(out, run);
        buf_puts(out, "</a></td>");
    }
    buf_puts(out, "<td>");
    html_text(out, record_text(comparison, "row"));
    buf_puts(out, "</td><td>");
    html_text(out, record_text(comparison, "metric"));
    buf_puts(out, "</td>");
    plain_number_cell(out, comparison, "ratio");
    buf_puts(out, "<td class=\"num\">");
    if (interval) {
        buf_printf(out, "%.4g to %.4g", json_object_get_double(json_object_array_get_idx(interval, 0)),
                   json_object_get_double(json_object_array_get_idx(interval, 1)));
    } else {
        html_dash(out, "too few blocks");
    }
    buf_puts(out, "</td>");
    plain_number_cell(out, comparison, "blocks");
    buf_puts(out, "<td>");
    html_text(out, record_text(comparison, "verdict"));
    buf_puts(out, "</td></tr>\n");
}

void plain_table_end(struct buf *out) {
    buf_puts(out, "</tbody>\n</table>\n</div>\n");
}
