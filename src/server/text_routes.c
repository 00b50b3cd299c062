/* /tokenize, /detokenize and /apply-template, with llama-server's fields. */
#include "base/mem.h"
#include "base/utf8.h"
#include "server/json_body.h"
#include "server/server_impl.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

static void reply_status(struct exchange *ex, const sluice_error *err) {
    struct api_error e;
    api_error_from_status(&e, err);
    reply_error(ex, &e);
}

/* The body as an object whose fields are all among `known` (NULL-terminated); NULL after a reply. */
static struct json_object *read_body(struct exchange *ex, const char *const *known) {
    struct json_object *tree;
    sluice_error err = {0};
    if (json_body_parse(ex->body.data ? ex->body.data : "", ex->body.len, &tree, &err) != SLUICE_OK) {
        reply_status(ex, &err);
        return NULL;
    }
    json_object_object_foreach(tree, key, value) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0) {
            i++;
        }
        if (!known[i] && value) {
            struct api_error e;
            api_error_field(&e, key, " is not a supported field of this endpoint");
            reply_error(ex, &e);
            json_object_put(tree);
            return NULL;
        }
    }
    return tree;
}

static bool read_flag(struct json_object *tree, const char *name, bool *out, struct api_error *e) {
    struct json_object *v = json_object_object_get(tree, name);
    if (v && !json_object_is_type(v, json_type_boolean)) {
        return api_error_field(e, name, " must be true or false");
    }
    *out = v ? json_object_get_boolean(v) : *out;
    return true;
}

/* A piece that is no whole UTF-8 is given as an array of bytes. */
static void write_piece(struct buf *out, const sluice_model *model, int32_t token) {
    size_t n;
    const char *s = sluice_token_bytes(model, token, &n);
    buf_printf(out, "{\"id\":%" PRId32 ",\"piece\":", token);
    if (utf8_valid_prefix(s, n) == n) {
        buf_json_string(out, s, n);
    } else {
        for (size_t i = 0; i < n; i++) {
            buf_printf(out, "%c%u", i ? ',' : '[', (unsigned)(unsigned char)s[i]);
        }
        buf_putc(out, ']');
    }
    buf_putc(out, '}');
}

static void write_tokens(struct buf *out, const sluice_model *model, const int32_t *ids, size_t n, bool pieces) {
    buf_puts(out, "{\"tokens\":[");
    for (size_t i = 0; i < n; i++) {
        buf_puts(out, i ? "," : "");
        if (pieces) {
            write_piece(out, model, ids[i]);
        } else {
            buf_printf(out, "%" PRId32, ids[i]);
        }
    }
    buf_puts(out, "]}");
}

static void tokenize(struct exchange *ex, struct json_object *tree) {
    struct json_object *content = json_object_object_get(tree, "content");
    bool add_special = false, parse_special = true, pieces = false;
    struct api_error e = {0};
    bool ok = json_object_is_type(content, json_type_string) || api_error_field(&e, "content", " must be a string");
    ok = ok && read_flag(tree, "add_special", &add_special, &e) &&
         read_flag(tree, "parse_special", &parse_special, &e) && read_flag(tree, "with_pieces", &pieces, &e);
    if (!ok) {
        reply_error(ex, &e);
        return;
    }
    int32_t *ids;
    size_t n;
    sluice_error err = {0};
    const sluice_model *model = ex->server->model;
    unsigned flags = (add_special && sluice_model_get_info(model)->bos >= 0 ? SLUICE_TOK_BOS : 0) |
                     (parse_special ? SLUICE_TOK_SPECIAL : 0);
    if (sluice_tokenize(model, json_object_get_string(content), (size_t)json_object_get_string_len(content), flags,
                        &ids, &n, &err) != SLUICE_OK) {
        reply_status(ex, &err);
        return;
    }
    struct buf out = {0};
    write_tokens(&out, model, ids, n, pieces);
    free(ids);
    reply_json(ex, &out);
}

void route_tokenize(struct exchange *ex) {
    static const char *const known[] = {"content", "add_special", "parse_special", "with_pieces", NULL};
    struct json_object *tree = read_body(ex, known);
    if (tree) {
        tokenize(ex, tree);
        json_object_put(tree);
    }
}

static bool append_token(struct exchange *ex, struct json_object *v, size_t i, struct buf *text) {
    uint32_t n_vocab = sluice_model_get_info(ex->server->model)->n_vocab;
    int64_t id = json_object_get_int64(v);
    if (!json_object_is_type(v, json_type_int) || id < 0 || id >= (int64_t)n_vocab) {
        struct api_error e;
        api_error_field(&e, "tokens", ": element %zu is not a token id from 0 to %" PRIu32, i, n_vocab - 1);
        reply_error(ex, &e);
        return false;
    }
    size_t n;
    const char *s = sluice_token_bytes(ex->server->model, (int32_t)id, &n);
    buf_append(text, s, n);
    return true;
}

static void detokenize(struct exchange *ex, struct json_object *tree) {
    struct json_object *tokens = json_object_object_get(tree, "tokens");
    if (!json_object_is_type(tokens, json_type_array)) {
        struct api_error e;
        api_error_field(&e, "tokens", " must be an array of token ids");
        reply_error(ex, &e);
        return;
    }
    struct buf text = {0}, out = {0};
    size_t n = json_object_array_length(tokens);
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) {
        ok = append_token(ex, json_object_array_get_idx(tokens, i), i, &text);
    }
    if (ok) {
        buf_puts(&out, "{\"content\":");
        buf_json_string(&out, text.data ? text.data : "", text.len);
        buf_putc(&out, '}');
        out.failed = out.failed || text.failed;
        reply_json(ex, &out);
    }
    buf_free(&text);
    buf_free(&out);
}

void route_detokenize(struct exchange *ex) {
    static const char *const known[] = {"tokens", NULL};
    struct json_object *tree = read_body(ex, known);
    if (tree) {
        detokenize(ex, tree);
        json_object_put(tree);
    }
}

static void apply_template(struct exchange *ex, const struct api_request *r) {
    char *text;
    sluice_error err = {0};
    if (sluice_chat_render(ex->server->model, &r->chat, NULL, NULL, &text, &err) != SLUICE_OK) {
        reply_status(ex, &err);
        return;
    }
    struct buf out = {0};
    buf_puts(&out, "{\"prompt\":");
    buf_json_string(&out, text, strlen(text));
    buf_putc(&out, '}');
    free(text);
    reply_json(ex, &out);
}

void route_apply_template(struct exchange *ex) {
    struct api_request r;
    struct api_error e;
    const char *body = ex->body.data ? ex->body.data : "";
    if (api_request_parse(&r, API_TEMPLATE, sluice_model_get_info(ex->server->model), body, ex->body.len, &e)) {
        apply_template(ex, &r);
    } else {
        reply_error(ex, &e);
    }
    api_request_free(&r);
}
