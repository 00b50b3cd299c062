/* The probe's figures as one JSON object and as a table. */
#include "tools/probe.h"

#include <string.h>

static void put_rate(struct buf *b, const char *name, const struct probe_rate *r) {
    buf_printf(b, ",\"%s\":{\"best\":%.2f,\"median\":%.2f,\"least\":%.2f,\"passes\":%u}", name, r->best, r->median,
               r->least, r->passes);
}

void probe_report_json(struct buf *b, const struct probe_report *report) {
    const struct caches *c = &report->caches;
    buf_puts(b, "{\"schema\":\"sluice-probe\",\"version\":1,\"cpu\":");
    buf_json_string(b, report->cpu, strlen(report->cpu));
    buf_printf(b,
               ",\"threads_allowed\":%u,\"caches\":{\"l1d\":%llu,\"l2\":%llu,\"l3\":%llu,\"l2_cpus\":%u,\"l3_cpus\":%u,"
               "\"source\":\"%s\"},\"buffer_bytes\":%llu,\"huge_pages\":%s,\"theory\":",
               report->threads_allowed, (unsigned long long)c->l1d, (unsigned long long)c->l2,
               (unsigned long long)c->l3, c->l2_cpus, c->l3_cpus, c->source, (unsigned long long)report->buffer_bytes,
               report->huge_pages ? "true" : "false");
    if (report->theory.n_modules) {
        buf_printf(b, "{\"gb_s\":%.1f,\"modules\":%u,\"mt_s\":%u}", report->theory.gb_s, report->theory.n_modules,
                   report->theory.mt_s);
    } else {
        buf_puts(b, "null");
    }
    buf_puts(b, ",\"memory\":[");
    for (uint32_t i = 0; i < report->n_memory; i++) {
        const struct probe_memory *m = &report->memory[i];
        buf_printf(b, "%s{\"threads\":%u", i ? "," : "", m->n_threads);
        put_rate(b, "read_gb_s", &m->read);
        put_rate(b, "write_gb_s", &m->write);
        put_rate(b, "copy_gb_s", &m->copy);
        buf_printf(b, ",\"barrier_ns\":%.0f,\"barrier_worst_ns\":%.0f}", m->barrier_ns, m->barrier_worst_ns);
    }
    buf_puts(b, "],\"peak\":[");
    for (uint32_t i = 0; i < report->n_peaks; i++) {
        const struct probe_peak *p = &report->peaks[i];
        buf_printf(b, "%s{\"kind\":\"%s\",\"isa\":\"%s\",\"threads\":%u", i ? "," : "", p->kind, p->isa, p->n_threads);
        put_rate(b, "gop_s", &p->gop_s);
        buf_putc(b, '}');
    }
    buf_puts(b, "],\"absent\":[");
    for (uint32_t i = 0; i < report->n_absent; i++) {
        const struct probe_absent *a = &report->absent[i];
        buf_printf(b, "%s{\"kind\":\"%s\",\"isa\":\"%s\",\"needs\":\"%s\"}", i ? "," : "", a->kind, a->isa, a->needs);
    }
    buf_puts(b, "]}");
}

static void put_cache(struct buf *b, const char *name, uint64_t bytes, uint32_t cpus) {
    if (bytes) {
        bool mib = bytes >= 1 << 20;
        buf_printf(b, " %s %.4g %s", name, (double)bytes / (mib ? 0x1p20 : 0x1p10), mib ? "MiB" : "KiB");
        if (cpus > 1) {
            buf_printf(b, " (%u processors share it)", cpus);
        }
        buf_putc(b, ',');
    }
}

void probe_report_text(struct buf *b, const struct probe_report *report) {
    const struct caches *c = &report->caches;
    buf_printf(b, "%s, %u core%s usable, huge pages %s\ncaches:", report->cpu, report->threads_allowed,
               report->threads_allowed == 1 ? "" : "s", report->huge_pages ? "granted" : "not granted");
    put_cache(b, "L1d", c->l1d, 0);
    put_cache(b, "L2", c->l2, c->l2_cpus);
    put_cache(b, "L3", c->l3, c->l3_cpus);
    buf_printf(b, " says %s\n", c->source);
    if (report->theory.n_modules) {
        buf_printf(b, "memory on paper: %.1f GB/s if each of the %u modules (%u MT/s) has a channel of its own\n\n",
                   report->theory.gb_s, report->theory.n_modules, report->theory.mt_s);
    } else {
        buf_puts(
            b,
            "memory on paper: the firmware's records (SMBIOS) are not there or not readable; root may read them\n\n");
    }
    buf_printf(
        b, "memory, GB/s: median [least - best] of several passes over %llu MiB; a copy counts bytes read + written\n",
        (unsigned long long)(report->buffer_bytes >> 20));
    buf_puts(b, "  threads  read                  write                 copy                  barrier\n");
    for (uint32_t i = 0; i < report->n_memory; i++) {
        const struct probe_memory *m = &report->memory[i];
        const struct probe_rate *rates[] = {&m->read, &m->write, &m->copy};
        buf_printf(b, "  %7u", m->n_threads);
        for (int k = 0; k < 3; k++) {
            buf_printf(b, "  %5.1f [%5.1f - %5.1f]", rates[k]->median, rates[k]->least, rates[k]->best);
        }
        buf_printf(b, "  %.0f ns, at worst %.0f\n", m->barrier_ns, m->barrier_worst_ns);
    }
    buf_puts(b, "\narithmetic on registers, 1e9 operations/s (a multiply-add is two): median [least - best]\n"
                "  kind  instructions  threads  rate\n");
    for (uint32_t i = 0; i < report->n_peaks; i++) {
        const struct probe_peak *p = &report->peaks[i];
        buf_printf(b, "  %-5s %-12s  %7u  %8.1f [%.1f - %.1f]\n", p->kind, p->isa, p->n_threads, p->gop_s.median,
                   p->gop_s.least, p->gop_s.best);
    }
    for (uint32_t i = 0; i < report->n_absent; i++) {
        const struct probe_absent *a = &report->absent[i];
        buf_printf(b, "  %-5s %-12s  absent: this machine or build has no %s\n", a->kind, a->isa, a->needs);
    }
}
