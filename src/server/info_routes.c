/* What the server says about itself: short answers, written on the HTTP thread. */
#include "base/limits.h"
#include "server/server_impl.h"

#include <inttypes.h>
#include <string.h>

static void put_string(struct buf *out, const char *key, const char *value) {
    buf_printf(out, "\"%s\":", key);
    buf_json_string(out, value ? value : "", value ? strlen(value) : 0);
}

/* A setting as it was written: seven digits are what a float holds. */
static void put_float(struct buf *out, const char *key, float value) {
    buf_printf(out, "\"%s\":%.7g", key, (double)value);
}

void route_index(struct exchange *ex) {
    const struct server *s = ex->server;
    struct buf out = {0};
    buf_printf(&out,
               "sluice %s serves %s on the OpenAI API.\n\n"
               "Base URL for clients: %s/v1\n\n"
               "POST /v1/chat/completions   POST /v1/completions   GET /v1/models\n"
               "POST /tokenize   POST /detokenize   POST /apply-template\n"
               "GET /health   GET /props   GET /slots   GET /metrics\n",
               SLUICE_VERSION, sluice_model_get_info(s->model)->name, s->url);
    reply_text(ex, &out);
}

/* 503 while the device fails: the next request may work, or a restart is needed. */
void route_health(struct exchange *ex) {
    sluice_engine_metrics m;
    sluice_engine_get_metrics(ex->server->engine, &m);
    struct buf out = {0};
    if (!m.last_step_failed) {
        buf_puts(&out, "{\"status\":\"ok\"}");
        reply_json(ex, &out);
        return;
    }
    buf_puts(&out, "{\"status\":\"error\",\"message\":\"the last step on the ");
    buf_puts(&out, sluice_engine_get_info(ex->server->engine)->backend);
    buf_printf(&out, " backend failed (%" PRIu64 " of %" PRIu64 "); restart the server if that goes on\"}",
               m.steps_failed, m.steps_failed + m.steps_total);
    reply_json(ex, &out);
    ex->reply.status = ex->reply.status == 200 ? 503 : ex->reply.status;
}

/* ---- Models --------------------------------------------------------------------------------------------------- */

static void write_model(const struct server *s, struct buf *out) {
    const sluice_model_info *m = sluice_model_get_info(s->model);
    buf_putc(out, '{');
    put_string(out, "id", m->name);
    buf_printf(out, ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"sluice\",\"meta\":{",
               (int64_t)s->started);
    put_string(out, "architecture", m->architecture);
    buf_putc(out, ',');
    put_string(out, "quantization", m->quantization);
    buf_printf(out,
               ",\"n_vocab\":%" PRIu32 ",\"n_ctx_train\":%" PRIu32 ",\"n_embd\":%" PRIu32 ",\"n_params\":%" PRIu64
               ",\"size\":%" PRIu64 "}}",
               m->n_vocab, m->n_ctx_train, m->n_embd, m->n_params, m->tensor_bytes);
}

void route_models(struct exchange *ex) {
    struct buf out = {0};
    buf_puts(&out, "{\"object\":\"list\",\"data\":[");
    write_model(ex->server, &out);
    buf_puts(&out, "]}");
    reply_json(ex, &out);
}

void route_model(struct exchange *ex) {
    const char *name = sluice_model_get_info(ex->server->model)->name;
    if (strcmp(ex->argument, name) != 0) {
        struct api_error e;
        api_error_set(&e, 404, "model_not_found", "model", "there is no model \"%s\" here; this server has \"%s\"",
                      ex->argument, name);
        reply_error(ex, &e);
        return;
    }
    struct buf out = {0};
    write_model(ex->server, &out);
    reply_json(ex, &out);
}

/* ---- State ---------------------------------------------------------------------------------------------------- */

static void write_sampling(struct buf *out, const sluice_sampling *p) {
    buf_putc(out, '{');
    put_float(out, "temperature", p->temperature);
    buf_printf(out, ",\"top_k\":%" PRId32 ",", p->top_k);
    put_float(out, "top_p", p->top_p);
    buf_putc(out, ',');
    put_float(out, "min_p", p->min_p);
    buf_putc(out, ',');
    put_float(out, "repeat_penalty", p->repetition_penalty);
    buf_putc(out, ',');
    put_float(out, "presence_penalty", p->presence_penalty);
    buf_putc(out, ',');
    put_float(out, "frequency_penalty", p->frequency_penalty);
    buf_putc(out, '}');
}

void route_props(struct exchange *ex) {
    const struct server *s = ex->server;
    const sluice_model_info *m = sluice_model_get_info(s->model);
    const sluice_engine_info *n = sluice_engine_get_info(s->engine);
    struct buf out = {0};
    buf_printf(&out, "{\"default_generation_settings\":{\"n_ctx\":%" PRIu32 ",\"params\":", n->ctx_per_slot);
    write_sampling(&out, &m->recommended);
    buf_printf(&out, "},\"total_slots\":%" PRIu32 ",", n->n_slots);
    put_string(&out, "model_path", m->path);
    buf_putc(&out, ',');
    put_string(&out, "model_alias", m->name);
    buf_putc(&out, ',');
    put_string(&out, "model_fingerprint", m->fingerprint);
    char sum[65];
    bool known = sluice_model_sha256(s->model, 0, sum, NULL) == SLUICE_OK;
    buf_printf(&out, ",\"model_sha256\":%s%s%s", known ? "\"" : "", known ? sum : "null", known ? "\"" : "");
    buf_putc(&out, ',');
    put_string(&out, "chat_format", m->chat_family);
    buf_puts(&out, ",\"modalities\":{\"vision\":false,\"audio\":false},");
    put_string(&out, "build_info", "sluice " SLUICE_VERSION);
    buf_putc(&out, ',');
    put_string(&out, "architecture", m->architecture);
    buf_putc(&out, ',');
    put_string(&out, "quantization", m->quantization);
    buf_putc(&out, ',');
    put_string(&out, "backend", n->backend);
    buf_putc(&out, ',');
    put_string(&out, "device", n->device);
    buf_printf(&out,
               ",\"n_threads\":%" PRIu32 ",\"prefill_chunk\":%" PRIu32 ",\"n_params\":%" PRIu64
               ",\"file_bytes\":%" PRIu64 ",\"decode_bytes\":%" PRIu64 ",\"kv_bytes_per_token\":%" PRIu64
               ",\"weight_bytes\":%" PRIu64 ",\"kv_bytes\":%" PRIu64 ",\"work_bytes\":%" PRIu64 ",\"n_pages\":%" PRIu32
               ",\"page_tokens\":%" PRIu32 ",\"page_bytes\":%" PRIu64 ",\"draft_max\":%" PRIu32 "}",
               n->n_threads, n->prefill_chunk, m->n_params, m->file_bytes, m->decode_bytes, m->kv_bytes_per_token,
               n->weight_bytes, n->kv_bytes, n->work_bytes, n->n_pages, n->page_tokens, n->page_bytes, n->draft_max);
    reply_json(ex, &out);
}

void route_slots(struct exchange *ex) {
    sluice_slot_state slots[LIMIT_SLOTS];
    uint32_t n = sluice_engine_get_slots(ex->server->engine, slots, LIMIT_SLOTS);
    uint32_t ctx = sluice_engine_get_info(ex->server->engine)->ctx_per_slot;
    struct buf out = {0};
    buf_putc(&out, '[');
    for (uint32_t i = 0; i < n && i < LIMIT_SLOTS; i++) {
        const sluice_slot_state *s = &slots[i];
        buf_printf(&out, "%s{\"id\":%" PRIu32 ",\"id_task\":%" PRId64 ",\"n_ctx\":%" PRIu32 ",\"is_processing\":%s",
                   i ? "," : "", s->id, s->busy ? (int64_t)s->request_id : -1, ctx, s->busy ? "true" : "false");
        buf_printf(&out,
                   ",\"n_prompt_tokens\":%" PRIu32 ",\"n_prompt_tokens_processed\":%" PRIu32
                   ",\"next_token\":{\"n_decoded\":%" PRIu32 "}}",
                   s->busy ? s->n_prompt : 0, s->busy ? s->n_prompt_done : 0, s->busy ? s->n_generated : 0);
    }
    buf_putc(&out, ']');
    reply_json(ex, &out);
}

static void metric(struct buf *out, const char *name, const char *type, const char *help, double value) {
    buf_printf(out, "# HELP sluice_%s %s\n# TYPE sluice_%s %s\nsluice_%s ", name, help, name, type, name);
    buf_json_double(out, value);
    buf_putc(out, '\n');
}

/* Prometheus' text format. */
void route_metrics(struct exchange *ex) {
    sluice_engine_metrics m;
    sluice_engine_get_metrics(ex->server->engine, &m);
    struct buf out = {0};
    metric(&out, "requests_total", "counter", "Requests queued", (double)m.requests_total);
    metric(&out, "requests_failed_total", "counter", "Requests that ended with an error", (double)m.requests_failed);
    metric(&out, "requests_cancelled_total", "counter", "Requests given up by their client",
           (double)m.requests_cancelled);
    metric(&out, "requests_preempted_total", "counter",
           "Times a running request gave its memory to an older one and waited to go on", (double)m.requests_preempted);
    metric(&out, "requests_running", "gauge", "Requests that hold a slot", m.requests_running);
    metric(&out, "requests_waiting", "gauge", "Requests that wait for a slot", m.requests_waiting);
    metric(&out, "prompt_tokens_total", "counter", "Prompt tokens computed", (double)m.prompt_tokens_total);
    metric(&out, "prompt_tokens_cached_total", "counter", "Prompt tokens taken from the cache",
           (double)m.prompt_tokens_cached);
    metric(&out, "recomputed_tokens_total", "counter", "Tokens computed again after a preemption",
           (double)m.recomputed_tokens_total);
    metric(&out, "generated_tokens_total", "counter", "Tokens generated", (double)m.generated_tokens_total);
    metric(&out, "draft_tokens_total", "counter", "Tokens guessed ahead and verified", (double)m.draft_tokens_total);
    metric(&out, "draft_tokens_accepted_total", "counter", "Guessed tokens that were right",
           (double)m.draft_tokens_accepted);
    metric(&out, "steps_total", "counter", "Engine steps", (double)m.steps_total);
    metric(&out, "steps_failed_total", "counter", "Steps that the device failed", (double)m.steps_failed);
    metric(&out, "prefill_seconds_total", "counter", "Time of steps with prompt tokens", m.prefill_seconds_total);
    metric(&out, "decode_seconds_total", "counter", "Time of all other steps", m.decode_seconds_total);
    metric(&out, "kv_pages", "gauge", "Pages of KV memory", m.pages_total);
    metric(&out, "kv_pages_cached", "gauge", "Pages kept for later requests and in no running one's use",
           m.pages_cached);
    metric(&out, "kv_pages_free", "gauge", "Pages that hold nothing", m.pages_free);
    reply_text(ex, &out);
}
