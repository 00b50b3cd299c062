/* Environments and stacks: which runs had the same one. */
#include "report/table_impl.h"

#include <json-c/json.h>
#include <string.h>

static const char *const volatile_keys[] = {"load1", "memory_available", NULL};
static const char *const momentary_keys[] = {
    "load1", "memory_available", "clock_sm_mhz", "clock_mem_mhz", "memory_before_bytes", "memory_after_bytes", NULL};

static bool listed(const char *const *names, const char *name) {
    while (*names && strcmp(*names, name) != 0) {
        names++;
    }
    return *names != NULL;
}

void table_put_without(struct buf *out, struct json_object *v, const char *const *names) {
    if (json_object_is_type(v, json_type_object)) {
        bool first = true;
        buf_putc(out, '{');
        json_object_object_foreach(v, key, member) {
            if (!listed(names, key)) {
                buf_puts(out, first ? "" : ",");
                buf_json_string(out, key, strlen(key));
                buf_putc(out, ':');
                table_put_without(out, member, names);
                first = false;
            }
        }
        buf_putc(out, '}');
    } else if (json_object_is_type(v, json_type_array)) {
        buf_putc(out, '[');
        for (size_t i = 0; i < json_object_array_length(v); i++) {
            buf_puts(out, i ? "," : "");
            table_put_without(out, json_object_array_get_idx(v, i), names);
        }
        buf_putc(out, ']');
    } else {
        const char *s = json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        out->failed |= !s;
        buf_puts(out, s ? s : "");
    }
}

static uint32_t block_text(struct table *t, struct json_object *run, const char *const *without) {
    struct json_object *pair = record_get(run, "targets");
    struct buf b = {0};
    buf_puts(&b, "\"environment\":");
    table_put_without(&b, record_get(run, "environment"), without);
    buf_puts(&b, pair ? ",\"targets\":" : ",\"targets\":[");
    table_put_without(&b, pair ? pair : record_get(run, "target"), without);
    buf_puts(&b, pair ? ",\"sampling\":" : "],\"sampling\":");
    table_put_without(&b, record_get(run, "sampling"), without);
    buf_puts(&b, ",\"origin\":");
    table_put_without(&b, record_get(run, "origin"), without);
    return texts_add_buf(&t->texts, &b);
}

sluice_status table_find_block(struct table *t, struct json_object *run, uint32_t hardware, uint32_t *out,
                               sluice_error *err) {
    uint32_t key = block_text(t, run, momentary_keys);
    for (size_t i = 0; i < t->n_blocks; i++) {
        if (t->blocks[i].key == key && t->blocks[i].hardware == hardware) {
            *out = (uint32_t)i;
            return SLUICE_OK;
        }
    }
    uint32_t json = block_text(t, run, volatile_keys);
    if (t->texts.failed || !table_grow(&t->blocks, &t->cap_blocks, t->n_blocks, sizeof *t->blocks)) {
        return table_no_memory(err);
    }
    t->blocks[t->n_blocks] = (struct table_block){key, json, hardware};
    *out = (uint32_t)t->n_blocks++;
    return SLUICE_OK;
}
