#include "server/server_impl.h"

static void generate(struct exchange *ex, const struct api_request *r, bool chat) {
    struct server *s = ex->server;
    struct api_error e;
    struct generation_env env = {
        .model = s->model,
        .engine = s->engine,
        .model_name = sluice_model_get_info(s->model)->name,
        .fingerprint = s->fingerprint,
        .timeout_ms = s->options.timeout_ms,
        .wake = exchange_wake,
        .wake_ctx = ex,
    };
    struct generation *g = generation_new(&env, chat, &e);
    if (!g) {
        reply_error(ex, &e);
        return;
    }
    atomic_store(&ex->generation, g);
    /* Either exchange_gone finds the generation, or its mark is found here. */
    if (atomic_load(&ex->gone)) {
        generation_cancel(g);
    }
    if (!generation_submit(g, r, &e)) {
        reply_error(ex, &e);
    }
}

static void run(struct exchange *ex, enum api_surface surface) {
    struct api_request r;
    struct api_error e;
    const char *body = ex->body.data ? ex->body.data : "";
    if (api_request_parse(&r, surface, sluice_model_get_info(ex->server->model), body, ex->body.len, &e)) {
        generate(ex, &r, surface == API_CHAT);
    } else {
        reply_error(ex, &e);
    }
    api_request_free(&r);
}

void route_chat(struct exchange *ex) {
    run(ex, API_CHAT);
}

void route_completion(struct exchange *ex) {
    run(ex, API_COMPLETION);
}
