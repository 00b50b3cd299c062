#include "report/names.h"

#include "record/compare.h"
#include "report/columns.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

static const double gib = 1024.0 * 1024 * 1024;

static void put_memory(struct buf *out, const char *between, double bytes, const char *what) {
    if (bytes > 0) {
        buf_printf(out, bytes < gib ? "%s%.2g GiB%s" : "%s%.0f GiB%s", between, bytes / gib, what);
    }
}

void name_hardware(const struct record_run *run, struct json_object *target, const char *between, struct buf *out) {
    struct json_object *environment = record_get(run->lines[0].tree, "environment");
    struct json_object *gpu = row_gpu(run, target), *gpus = record_get(environment, "gpus");
    const char *cpu = record_text(environment, "cpu");
    double cores = record_number(environment, "cores_allowed");
    if (gpu) {
        size_t n = json_object_array_length(gpus);
        const char *name = record_text(gpu, "name");
        buf_printf(out, "%s", name ? name : "unknown GPU");
        if (n > 1) {
            buf_printf(out, "%s%zu GPUs", between, n);
        }
        put_memory(out, between, record_number(gpu, "memory_bytes"),
                   record_true(gpu, "unified_memory") ? " unified" : "");
    } else if (cpu) {
        buf_puts(out, cpu);
        if (cores > 0) {
            buf_printf(out, "%s%.0f core%s", between, cores, cores == 1 ? "" : "s");
        }
        put_memory(out, between, record_number(environment, "memory_total"), "");
    } else {
        buf_puts(out, "unknown machine");
    }
}

const char *name_model(const struct record_run *run, struct json_object *target) {
    const char *name = record_text(target, "model");
    if (!name || !name[0]) {
        name = record_text(record_get(run->lines[0].tree, "model_file"), "name");
    }
    return name && name[0] ? name : "unknown model";
}

const char *name_kind(const struct record_run *run, struct json_object *row) {
    struct json_object *origin = record_get(run->lines[0].tree, "origin");
    return record_is(origin, "source", "measured") ? record_text(row, "test") : record_text(origin, "source");
}

/* ---- Findings ---------------------------------------------------------------------------------------------------- */

/* Sentences of check that name no column at their beginning as the columns are called. */
static const struct {
    const char *begins, *column;
} sentences[] = {
    {"prefill ", "prefill_tok_s"},
    {"client ", "client_tok_s"},
    {"TPOT ", "tpot_ms"},
    {"decode ", "decode_tok_s"},
    {"the prompt of ", "prompt_tokens"},
    {"the memory delta ", "vram_bytes"},
    {"limit", "limit_share"},
    {"energy", "j_per_output_token"},
    {"batching ", "batching"},
    {"a cold row", "cache_state"},
    {"a warm row", "cache_state"},
    {"the cache ", "cache_state"},
    {"the row is marked as ", "cache_state"},
    {"the row is ", "qualified"},
    {"the verdict ", "verdict"},
    {"answers of ", "output_tokens"},
    {"runs ", "runs"},
    {"warmups ", "warmups"},
    {"failed ", "failed"},
};

static const char *named_column(const char *text) {
    size_t n = strcspn(text, ": ");
    for (size_t i = 0; i < COL_COUNT; i++) {
        if (strlen(columns[i].name) == n && strncmp(columns[i].name, text, n) == 0) {
            return columns[i].name;
        }
    }
    return NULL;
}

const char *name_finding_column(const struct finding *f) {
    const char *named = named_column(f->text);
    for (size_t i = 0; !named && i < sizeof sentences / sizeof *sentences; i++) {
        if (strncmp(f->text, sentences[i].begins, strlen(sentences[i].begins)) == 0) {
            named = sentences[i].column;
        }
    }
    if (named) {
        return named;
    }
    switch (f->level) {
    case FINDING_UNQUALIFIED:
        return "qualified";
    case FINDING_UNVERIFIED:
        return "cache_state";
    case FINDING_INVALID:
    case FINDING_NOISY:
        return "verdict";
    default:
        return strstr(f->text, " requests were ") ? "concurrency"
               : strstr(f->text, " put out ")     ? "output_tokens"
                                                  : NULL;
    }
}
