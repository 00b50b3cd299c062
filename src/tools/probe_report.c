/* The probe's figures as one JSON object and as a table. */
#include "tools/probe.h"

#include <string.h>

static void put_rate(struct buf *b, const char *name, const struct probe_rate *r) {
    buf_printf(b, ",\"%s_gb_s\":{\"best\":%.2f,\"median\":%.2f,\"passes\":%u}", name, r->best, r->median, r->passes);
}

void probe_report_json(struct buf *b, const struct probe_report *report) {
    buf_puts(b, "{\"schema\":\"sluice-probe\",\"version\":1,\"cpu\":");
    buf_json_string(b, report->cpu, strlen(report->cpu));
    buf_printf(b, ",\"threads_allowed\":%u,\"llc_bytes\":%llu,\"buffer_bytes\":%llu,\"huge_pages\":%s,\"memory\":[",
               report->threads_allowed, (unsigned long long)report->llc_bytes, (unsigned long long)report->buffer_bytes,
               report->huge_pages ? "true" : "false");
    for (uint32_t i = 0; i < report->n_memory; i++) {
        const struct probe_memory *m = &report->memory[i];
        buf_printf(b, "%s{\"threads\":%u", i ? "," : "", m->n_threads);
        put_rate(b, "read", &m->read);
        put_rate(b, "write", &m->write);
        put_rate(b, "copy", &m->copy);
        buf_printf(b, ",\"barrier_ns\":%.0f}", m->barrier_ns);
    }
    buf_puts(b, "],\"peak\":[");
    for (uint32_t i = 0; i < report->n_peaks; i++) {
        const struct probe_peak *p = &report->peaks[i];
        buf_printf(b, "%s{\"kind\":\"%s\",\"isa\":\"%s\",\"threads\":%u,\"gop_s\":%.1f}", i ? "," : "", p->kind, p->isa,
                   p->n_threads, p->gop_s);
    }
    buf_puts(b, "]}");
}

void probe_report_text(struct buf *b, const struct probe_report *report) {
    buf_printf(b, "%s, %u core%s usable, last-level cache %llu MiB, huge pages %s\n\n", report->cpu,
               report->threads_allowed, report->threads_allowed == 1 ? "" : "s",
               (unsigned long long)(report->llc_bytes >> 20), report->huge_pages ? "granted" : "not granted");
    buf_printf(b, "memory, GB/s: best (median) of several passes over %llu MiB; a copy counts bytes read + written\n",
               (unsigned long long)(report->buffer_bytes >> 20));
    buf_puts(b, "  threads            read           write            copy      barrier\n");
    for (uint32_t i = 0; i < report->n_memory; i++) {
        const struct probe_memory *m = &report->memory[i];
        buf_printf(b, "  %7u  %6.1f (%6.1f)  %5.1f (%6.1f)  %5.1f (%6.1f)  %8.0f ns\n", m->n_threads, m->read.best,
                   m->read.median, m->write.best, m->write.median, m->copy.best, m->copy.median, m->barrier_ns);
    }
    buf_puts(b, "\narithmetic on registers, 1e9 operations/s (a multiply-add is two)\n  kind  instructions  threads    "
                "  rate\n");
    for (uint32_t i = 0; i < report->n_peaks; i++) {
        const struct probe_peak *p = &report->peaks[i];
        buf_printf(b, "  %-5s %-12s  %7u  %8.1f\n", p->kind, p->isa, p->n_threads, p->gop_s);
    }
}
