#include "tools/inspect.h"

#include "base/utf8.h"
#include "gguf/impl.h"
#include "quant/mix.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Sums */

static const struct {
    const char *part; /* of the tensor's name */
    enum inspect_group group;
} parts[] = {
    /* the first match counts */
    {"ffn_gate_exps.weight", GROUP_EXPERTS_GATE_UP},
    {"ffn_up_exps.weight", GROUP_EXPERTS_GATE_UP},
    {"ffn_down_exps.weight", GROUP_EXPERTS_DOWN},
    {"shortconv.in_proj.weight", GROUP_CONV_IN},
    {"shortconv.out_proj.weight", GROUP_CONV_OUT},
    {"shortconv.conv.weight", GROUP_NORMS},
    {"norm.weight", GROUP_NORMS},
    {"ffn_gate_inp.weight", GROUP_ROUTER},
    {"exp_probs_b.bias", GROUP_ROUTER},
    {"ffn_gate.weight", GROUP_DENSE_GATE_UP},
    {"ffn_up.weight", GROUP_DENSE_GATE_UP},
    {"ffn_down.weight", GROUP_DENSE_DOWN},
    {"attn_v.weight", GROUP_ATTENTION_V},
    {"attn_q.weight", GROUP_ATTENTION_QKO},
    {"attn_k.weight", GROUP_ATTENTION_QKO},
    {"attn_qkv.weight", GROUP_ATTENTION_QKO},
    {"attn_output.weight", GROUP_ATTENTION_QKO},
    {"output.weight", GROUP_HEAD},
    {"token_embd.weight", GROUP_HEAD},
};

const char *inspect_group_name(enum inspect_group group) {
    static const char *const names[N_GROUPS] = {
        [GROUP_EXPERTS_GATE_UP] = "experts gate+up",
        [GROUP_EXPERTS_DOWN] = "experts down",
        [GROUP_CONV_IN] = "short conv in",
        [GROUP_CONV_OUT] = "short conv out",
        [GROUP_HEAD] = "head",
        [GROUP_DENSE_GATE_UP] = "dense gate+up",
        [GROUP_DENSE_DOWN] = "dense down",
        [GROUP_ATTENTION_QKO] = "attention q,k,o",
        [GROUP_ATTENTION_V] = "attention v",
        [GROUP_ROUTER] = "router",
        [GROUP_NORMS] = "norms, conv taps",
        [GROUP_OTHER] = "other",
    };
    return names[group];
}

static bool has_part(const struct gguf_str *name, const char *part) {
    return memmem(name->s, name->n, part, strlen(part)) != NULL;
}

static enum inspect_group group_of(const struct gguf_str *name) {
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (has_part(name, parts[i].part)) {
            return parts[i].group;
        }
    }
    return GROUP_OTHER;
}

/* ARCH.suffix as a number, or 0. */
static uint32_t arch_number(const struct gguf_file *f, const char *suffix) {
    struct gguf_str arch = {"", 0};
    char key[160];
    uint32_t v = 0;
    (void)gguf_opt_str(f, "general.architecture", &arch, NULL);
    snprintf(key, sizeof key, "%.*s.%s", (int)(arch.n < 64 ? arch.n : 64), arch.s, suffix);
    (void)gguf_opt_u32(f, key, &v,
                       NULL); /* an odd entry counts as absent here: inspect shows files, it does not judge */
    return v;
}

void inspect_sum(const struct gguf_file *f, struct inspect_sums *out) {
    *out = (struct inspect_sums){0};
    bool tied = !gguf_find_tensor(f, "output.weight");
    uint64_t used = arch_number(f, "expert_used_count");
    for (size_t i = 0; i < f->n_tensors; i++) {
        const struct gguf_tensor *t = &f->tensors[i];
        out->n_weights += t->n_elems;
        out->tensors[t->type]++;
        out->weights[t->type] += t->n_elems;
        out->bytes[t->type] += t->n_bytes;
        enum inspect_group group = group_of(&t->name);
        uint64_t read = t->n_bytes;
        if (has_part(&t->name, "_exps.") && used > 0 && used < t->dims[2]) {
            read = t->n_bytes / t->dims[2] * used; /* whole experts */
        } else if (has_part(&t->name, "token_embd.weight") && !tied) {
            read = 0; /* one row */
        }
        out->read[group][t->type] += read;
        out->read_total += read;
        if (has_part(&t->name, "attn_k.weight") || has_part(&t->name, "attn_v.weight")) {
            out->kv_bytes += t->dims[1] * 2;
        }
    }
}

/* ---- Values */

#define TEXT_STRING_MAX 72
#define TEXT_ARRAY_MAX  8
#define JSON_ARRAY_MAX  64

static void put_str(struct buf *b, const struct gguf_str *s, size_t max) {
    size_t n = s->n;
    if (n > max) {
        for (n = max; n > 0 && ((uint8_t)s->s[n] & 0xC0) == 0x80;) {
            n--; /* not inside a UTF-8 sequence */
        }
    }
    buf_json_string(b, s->s, n);
    if (n < s->n) {
        buf_printf(b, "... (%zu bytes)", s->n);
    }
}

static void put_value(struct buf *b, const struct gguf_kv *kv, uint64_t i, size_t string_max) {
    uint32_t type = kv->type == GGUF_ARRAY ? kv->elem_type : kv->type;
    int64_t v;
    double d;
    uint64_t u;
    if (type == GGUF_STRING) {
        put_str(b, &kv->strings[i], string_max);
    } else if (type == GGUF_BOOL) {
        buf_puts(b, kv->data[i] ? "true" : "false");
    } else if (type == GGUF_F32) {
        float f;
        char text[32];
        memcpy(&f, kv->data + i * sizeof f, sizeof f);
        for (int digits = 6; digits <= 9; digits++) { /* the shortest that reads back as the same float */
            snprintf(text, sizeof text, "%.*g", digits, (double)f);
            if (strtof(text, NULL) == f) {
                break;
            }
        }
        buf_puts(b, f - f == 0 ? text : "null");
    } else if (gguf_kv_int(kv, i, &v)) {
        buf_printf(b, "%" PRId64, v);
    } else if (gguf_kv_double(kv, i, &d)) {
        buf_json_double(b, d);
    } else { /* a u64 above INT64_MAX */
        memcpy(&u, kv->data + i * sizeof u, sizeof u);
        buf_printf(b, "%" PRIu64, u);
    }
}

static void put_elements(struct buf *b, const struct gguf_kv *kv, uint64_t n, size_t string_max) {
    buf_putc(b, '[');
    for (uint64_t i = 0; i < n; i++) {
        buf_puts(b, i ? ", " : "");
        put_value(b, kv, i, string_max);
    }
    buf_putc(b, ']');
}

static void file_type_name(const struct gguf_file *f, char *out, size_t cap) {
    uint32_t file_type = UINT32_MAX;
    (void)gguf_opt_u32(f, "general.file_type", &file_type, NULL);
    const struct mix *mix = mix_by_file_type(file_type);
    if (mix) {
        snprintf(out, cap, "%s", mix->name);
    } else if (file_type == UINT32_MAX) {
        snprintf(out, cap, "no file type");
    } else {
        snprintf(out, cap, "file type %u", file_type);
    }
}

/* ---- Text */

static void format_bytes(uint64_t bytes, char *out, size_t cap) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 4) {
        v /= 1024;
        u++;
    }
    snprintf(out, cap, u ? "%.2f %s" : "%.0f %s", v, units[u]);
}

static double percent(uint64_t part, uint64_t whole) {
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void text_head(const struct gguf_file *f, const struct inspect_sums *s, struct buf *b) {
    struct gguf_str name = {"(no name)", 9}, arch = {"(no architecture)", 17};
    (void)gguf_opt_str(f, "general.name", &name, NULL);
    (void)gguf_opt_str(f, "general.architecture", &arch, NULL);
    char type[32], file_bytes[32];
    file_type_name(f, type, sizeof type);
    format_bytes(f->file_bytes, file_bytes, sizeof file_bytes);
    buf_printf(b, "%s\n  ", f->path);
    put_str(b, &name, TEXT_STRING_MAX);
    buf_puts(b, ", ");
    put_str(b, &arch, TEXT_STRING_MAX);
    buf_printf(b, ", %s, GGUF version %u\n  %s (%" PRIu64 " bytes); data at %" PRIu64 ", aligned to %u\n", type,
               f->version, file_bytes, f->file_bytes, f->data_offset, f->alignment);
    if (s->n_weights) {
        buf_printf(b, "  %" PRIu64 " weights in %zu tensors, %" PRIu64 " bytes, %.2f bits per weight\n", s->n_weights,
                   f->n_tensors, f->tensor_bytes, (double)f->tensor_bytes * 8 / (double)s->n_weights);
    } else {
        buf_puts(b, "  no tensors: a vocabulary\n");
    }
}

static void text_types(const struct gguf_file *f, const struct inspect_sums *s, struct buf *b) {
    buf_printf(b, "\n%-6s %8s %15s %15s %7s\n", "type", "tensors", "weights", "bytes", "share");
    for (uint32_t t = 0; t < INSPECT_TYPES; t++) {
        if (s->tensors[t]) {
            buf_printf(b, "%-6s %8" PRIu64 " %15" PRIu64 " %15" PRIu64 " %6.1f%%\n", dtype_get(t)->name, s->tensors[t],
                       s->weights[t], s->bytes[t], percent(s->bytes[t], f->tensor_bytes));
        }
    }
}

struct row {
    enum inspect_group group;
    uint64_t bytes;
};

static int by_bytes(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    if (x->bytes != y->bytes) {
        return x->bytes < y->bytes ? 1 : -1;
    }
    return (int)x->group - (int)y->group;
}

/* The largest group first; one line per group and type. */
static void text_read(const struct inspect_sums *s, struct buf *b) {
    struct row rows[N_GROUPS];
    for (int g = 0; g < N_GROUPS; g++) {
        rows[g] = (struct row){(enum inspect_group)g, 0};
        for (uint32_t t = 0; t < INSPECT_TYPES; t++) {
            rows[g].bytes += s->read[g][t];
        }
    }
    qsort(rows, N_GROUPS, sizeof rows[0], by_bytes);
    buf_printf(b, "\n%-18s %-6s %10s %7s   read per decoded token\n", "group", "type", "MB", "share");
    for (int i = 0; i < N_GROUPS; i++) {
        for (uint32_t t = 0; t < INSPECT_TYPES; t++) {
            uint64_t bytes = s->read[rows[i].group][t];
            if (bytes) {
                buf_printf(b, "%-18s %-6s %10.2f %6.1f%%\n", inspect_group_name(rows[i].group), dtype_get(t)->name,
                           (double)bytes / 1e6, percent(bytes, s->read_total));
            }
        }
    }
    buf_printf(b, "%-18s %-6s %10.2f %6.1f%%\n", "total", "", (double)s->read_total / 1e6, 100.0);
    if (s->kv_bytes) {
        buf_printf(b, "and %" PRIu64 " bytes of K and V (F16) per position before it\n", s->kv_bytes);
    }
}

static void text_metadata(const struct gguf_file *f, struct buf *b) {
    int width = 8;
    for (size_t i = 0; i < f->n_kv; i++) {
        int n = (int)f->kv[i].key.n;
        width = n > width ? n : width;
    }
    width = width < 44 ? width : 44;
    buf_printf(b, "\n%-*s %-8s value\n", width, "key", "type");
    for (size_t i = 0; i < f->n_kv; i++) {
        const struct gguf_kv *kv = &f->kv[i];
        buf_printf(b, "%-*.*s %-8s ", width, (int)kv->key.n, kv->key.s,
                   gguf_type_name(kv->type == GGUF_ARRAY ? kv->elem_type : kv->type));
        if (kv->type != GGUF_ARRAY) {
            put_value(b, kv, 0, TEXT_STRING_MAX);
        } else if (kv->n <= 4 * TEXT_ARRAY_MAX && kv->elem_type != GGUF_STRING) {
            put_elements(b, kv, kv->n, TEXT_STRING_MAX);
        } else {
            uint64_t shown = kv->n < TEXT_ARRAY_MAX ? kv->n : TEXT_ARRAY_MAX;
            buf_printf(b, "%" PRIu64 " elements: ", kv->n);
            put_elements(b, kv, shown, 24);
            buf_puts(b, shown < kv->n ? " ..." : "");
        }
        buf_putc(b, '\n');
    }
}

static void text_tensors(const struct gguf_file *f, struct buf *b) {
    int width = 6;
    for (size_t i = 0; i < f->n_tensors; i++) {
        int n = (int)f->tensors[i].name.n;
        width = n > width ? n : width;
    }
    width = width < 44 ? width : 44;
    buf_printf(b, "\n%-*s %-6s %-22s %12s %14s\n", width, "tensor", "type", "shape (fastest first)", "bytes", "offset");
    for (size_t i = 0; i < f->n_tensors; i++) {
        const struct gguf_tensor *t = &f->tensors[i];
        char shape[96];
        size_t at = 0;
        for (uint32_t d = 0; d < t->n_dims; d++) {
            at += (size_t)snprintf(shape + at, sizeof shape - at, "%s%" PRIu64, d ? ", " : "{", t->dims[d]);
        }
        snprintf(shape + at, sizeof shape - at, "}");
        buf_printf(b, "%-*.*s %-6s %-22s %12" PRIu64 " %14" PRIu64 "\n", width, (int)t->name.n, t->name.s,
                   dtype_get(t->type)->name, shape, t->n_bytes, t->offset);
    }
}

void inspect_text(const struct gguf_file *f, unsigned sections, struct buf *b) {
    struct inspect_sums s;
    inspect_sum(f, &s);
    text_head(f, &s, b);
    if (sections & INSPECT_METADATA) {
        text_metadata(f, b);
    }
    if (sections & INSPECT_TENSORS) {
        text_tensors(f, b);
    }
    if (sections & INSPECT_SUMMARY && f->n_tensors) {
        text_types(f, &s, b);
        text_read(&s, b);
    }
}

/* ---- JSON */

static void json_metadata(const struct gguf_file *f, struct buf *b) {
    buf_puts(b, "\"metadata\": {");
    for (size_t i = 0; i < f->n_kv; i++) {
        const struct gguf_kv *kv = &f->kv[i];
        buf_puts(b, i ? ", " : "");
        buf_json_string(b, kv->key.s, kv->key.n);
        buf_puts(b, ": ");
        if (kv->type != GGUF_ARRAY) {
            put_value(b, kv, 0, SIZE_MAX);
        } else if (kv->n <= JSON_ARRAY_MAX) {
            put_elements(b, kv, kv->n, SIZE_MAX);
        } else {
            buf_printf(b, "{\"array_of\": \"%s\", \"n\": %" PRIu64 ", \"first\": ", gguf_type_name(kv->elem_type),
                       kv->n);
            put_elements(b, kv, TEXT_ARRAY_MAX, SIZE_MAX);
            buf_putc(b, '}');
        }
    }
    buf_puts(b, "}");
}

static void json_tensors(const struct gguf_file *f, struct buf *b) {
    buf_puts(b, "\"tensors\": [");
    for (size_t i = 0; i < f->n_tensors; i++) {
        const struct gguf_tensor *t = &f->tensors[i];
        buf_puts(b, i ? ", {\"name\": " : "{\"name\": ");
        buf_json_string(b, t->name.s, t->name.n);
        buf_printf(b, ", \"type\": \"%s\", \"shape\": [", dtype_get(t->type)->name);
        for (uint32_t d = 0; d < t->n_dims; d++) {
            buf_printf(b, "%s%" PRIu64, d ? ", " : "", t->dims[d]);
        }
        buf_printf(b, "], \"bytes\": %" PRIu64 ", \"offset\": %" PRIu64 "}", t->n_bytes, t->offset);
    }
    buf_puts(b, "]");
}

static void json_sums(const struct inspect_sums *s, struct buf *b) {
    const char *comma = "";
    buf_puts(b, "\"types\": {");
    for (uint32_t t = 0; t < INSPECT_TYPES; t++) {
        if (s->tensors[t]) {
            buf_printf(b, "%s\"%s\": {\"tensors\": %" PRIu64 ", \"weights\": %" PRIu64 ", \"bytes\": %" PRIu64 "}",
                       comma, dtype_get(t)->name, s->tensors[t], s->weights[t], s->bytes[t]);
            comma = ", ";
        }
    }
    buf_printf(b, "}, \"decode\": {\"bytes\": %" PRIu64 ", \"kv_bytes_per_position\": %" PRIu64 ", \"groups\": [",
               s->read_total, s->kv_bytes);
    comma = "";
    for (int g = 0; g < N_GROUPS; g++) {
        for (uint32_t t = 0; t < INSPECT_TYPES; t++) {
            if (s->read[g][t]) {
                buf_printf(b, "%s{\"group\": \"%s\", \"type\": \"%s\", \"bytes\": %" PRIu64 "}", comma,
                           inspect_group_name((enum inspect_group)g), dtype_get(t)->name, s->read[g][t]);
                comma = ", ";
            }
        }
    }
    buf_puts(b, "]}");
}

void inspect_json(const struct gguf_file *f, struct buf *b) {
    struct inspect_sums s;
    inspect_sum(f, &s);
    char type[32];
    file_type_name(f, type, sizeof type);
    buf_puts(b, "{\"path\": ");
    buf_json_string(b, f->path, strlen(f->path));
    buf_printf(
        b,
        ", \"version\": %u, \"file_bytes\": %" PRIu64 ", \"tensor_bytes\": %" PRIu64 ", \"data_offset\": %" PRIu64
        ", \"alignment\": %u, \"n_tensors\": %zu, \"n_params\": %" PRIu64 ", \"quantization\": \"%s\"",
        f->version, f->file_bytes, f->tensor_bytes, f->data_offset, f->alignment, f->n_tensors, s.n_weights, type);
    if (s.n_weights) {
        buf_printf(b, ", \"bits_per_weight\": %.4f", (double)f->tensor_bytes * 8 / (double)s.n_weights);
    }
    buf_puts(b, ", ");
    json_sums(&s, b);
    buf_puts(b, ", ");
    json_metadata(f, b);
    buf_puts(b, ", ");
    json_tensors(f, b);
    buf_puts(b, "}\n");
}
