#include "engine/text_out.h"

#include "base/status.h"

sluice_status text_out_init(struct text_out *t, const sluice_model *model, const sluice_request_options *options,
                            sluice_error *err) {
    *t = (struct text_out){.tokens = model->tokens, .keep_control = options->keep_control};
    return stop_init(&t->stop, options->stop, options->n_stop, err);
}

void text_out_free(struct text_out *t) {
    stop_free(&t->stop);
    buf_free(&t->whole);
    buf_free(&t->ready);
}

/* Appends the whole characters that the bytes complete. Without a vocabulary no token has bytes, so a build without
 * text has nothing to do here or at the end. */
static void to_characters(struct text_out *t, const char *bytes, size_t n) {
#if SLUICE_WITH_TEXT
    detok_push(&t->detok, bytes, n, &t->whole);
#else
    (void)t, (void)bytes, (void)n;
#endif
}

static void last_character(struct text_out *t) {
#if SLUICE_WITH_TEXT
    detok_flush(&t->detok, &t->whole);
#else
    (void)t;
#endif
}

static sluice_status check_memory(const struct text_out *t, sluice_error *err) {
    if (t->whole.failed || t->ready.failed || t->stop.held.failed) {
        return fail(err, SLUICE_E_NOMEM, "out of memory for the text of an answer");
    }
    return SLUICE_OK;
}

sluice_status text_out_push(struct text_out *t, int32_t token, const char **matched, sluice_error *err) {
    const struct token_entry *e = &t->tokens[token];
    bool hidden = (e->flags & (TOKEN_FLAG_CONTROL | TOKEN_FLAG_MARKER)) == TOKEN_FLAG_CONTROL && !t->keep_control;
    *matched = NULL;
    buf_reset(&t->ready);
    buf_reset(&t->whole);
    if (hidden || (e->flags & TOKEN_FLAG_END)) {
        *matched = e->n_bytes ? stop_equal(&t->stop, e->bytes, e->n_bytes) : NULL;
        return *matched ? text_out_finish(t, err) : SLUICE_OK;
    }
    to_characters(t, e->bytes, e->n_bytes);
    *matched = stop_push(&t->stop, t->whole.data, t->whole.len, &t->ready);
    return check_memory(t, err);
}

sluice_status text_out_finish(struct text_out *t, sluice_error *err) {
    buf_reset(&t->whole);
    last_character(t);
    const char *matched = stop_push(&t->stop, t->whole.data, t->whole.len, &t->ready);
    if (!matched) {
        stop_flush(&t->stop, &t->ready);
    }
    return check_memory(t, err);
}
