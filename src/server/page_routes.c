/*
 * What a browser sees: the chat page at /, its files under /web/. They are public, because they hold nothing; the API
 * behind them asks for its key. A program that asks for / (no text/html in Accept) gets the plain list of what there is.
 */
#include "server/server_impl.h"

#include <stdlib.h>
#include <string.h>

/* Scripts, styles and requests only from and to this server; nothing inline; HTML only through the sanitiser's own policy. */
#define PAGE_POLICY                                                                                                    \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "              \
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "                \
    "trusted-types dompurify"

void page_headers(struct exchange *ex, struct MHD_Response *r) {
    MHD_add_response_header(r, "Content-Security-Policy", PAGE_POLICY);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(r, "Cache-Control", "no-cache"); /* kept, and asked for again by its ETag */
    MHD_add_response_header(r, "Vary", "Accept, Accept-Encoding");
    if (ex->reply.file) {
        MHD_add_response_header(r, "Content-Encoding", "gzip");
    }
    if (ex->reply.etag) {
        MHD_add_response_header(r, "ETag", ex->reply.etag);
    }
}

static const char *header(struct exchange *ex, const char *name) {
    const char *value = MHD_lookup_connection_value(ex->connection, MHD_HEADER_KIND, name);
    return value ? value : "";
}

/* ---- What the client takes ------------------------------------------------------------------------------------ */

/* "gzip, br;q=0.5": is the coding named, and not with a weight of 0? */
static bool takes_gzip(const char *accept) {
    static const char blank[] = " \t,";
    for (const char *p = accept + strspn(accept, blank); *p; p += strspn(p, blank)) {
        size_t item = strcspn(p, ","), name = strcspn(p, " \t;,");
        if (name == 4 && strncasecmp(p, "gzip", 4) == 0) {
            const char *q = p + name + strspn(p + name, " \t;");
            return q >= p + item || strncasecmp(q, "q=", 2) != 0 || strtod(q + 2, NULL) > 0;
        }
        p += item;
    }
    return false;
}

static bool wants_html(struct exchange *ex) {
    return strstr(header(ex, "Accept"), "text/html") != NULL;
}

/* If-None-Match: the tag's opaque part occurs, weak or strong, alone or in a list. */
static bool has_already(struct exchange *ex, const struct web_file *file) {
    const char *tags = header(ex, "If-None-Match");
    return strcmp(tags, "*") == 0 || strstr(tags, strchr(file->etag, '"')) != NULL;
}

/* ---- Answers -------------------------------------------------------------------------------------------------- */

static void send_file(struct exchange *ex, const struct web_file *file) {
    struct buf body = {0};
    sluice_error err;
    ex->reply.page = true;
    ex->reply.etag = file->etag;
    if (has_already(ex, file)) {
        ex->reply.status = 304;
    } else if (takes_gzip(header(ex, "Accept-Encoding"))) {
        reply_typed(ex, file->type, &body);
        ex->reply.file = file;
    } else if (web_inflate(file, &body, &err) == SLUICE_OK) {
        reply_typed(ex, file->type, &body);
    } else {
        struct api_error e;
        buf_free(&body);
        ex->reply.page = false;
        api_error_from_status(&e, &err);
        reply_error(ex, &e);
    }
}

static void put_escaped(struct buf *out, const char *s) {
    for (; *s; s++) {
        switch (*s) {
        case '<':
            buf_puts(out, "&lt;");
            break;
        case '&':
            buf_puts(out, "&amp;");
            break;
        default:
            buf_putc(out, *s);
        }
    }
}

/* The page of a build without Node. */
static void send_plain_page(struct exchange *ex) {
    const struct server *s = ex->server;
    const sluice_model_info *m = sluice_model_get_info(s->model);
    struct buf out = {0};
    buf_puts(&out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                   "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                   "<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">\n"
                   "<title>sluice</title></head><body>\n<h1>sluice " SLUICE_VERSION "</h1>\n<p>This server answers "
                   "on the OpenAI API with the model <b>");
    put_escaped(&out, m->name);
    buf_puts(&out, "</b> (");
    put_escaped(&out, m->quantization);
    buf_puts(&out, ").</p>\n<h2>Endpoints</h2>\n<ul>\n"
                   "<li>POST <code>/v1/chat/completions</code>, <code>/v1/completions</code></li>\n"
                   "<li>GET <code>/v1/models</code></li>\n"
                   "<li>POST <code>/tokenize</code>, <code>/detokenize</code>, <code>/apply-template</code></li>\n"
                   "<li>GET <a href=\"health\">/health</a>, <code>/props</code>, <code>/slots</code>, "
                   "<code>/metrics</code></li>\n</ul>\n<p>The base URL for clients is <code>");
    put_escaped(&out, s->url);
    buf_puts(&out, "/v1</code>. A first question:</p>\n<pre>curl ");
    put_escaped(&out, s->url);
    buf_puts(&out, "/v1/chat/completions ");
    buf_puts(&out, s->options.api_key ? "-H 'Authorization: Bearer KEY' " : "");
    buf_puts(&out, "-d '{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}'</pre>\n"
                   "<h2>The chat page</h2>\n<p>This program was built without it (no Node 20, or WEB=0). In the "
                   "folder of sluice's sources:</p>\n<pre>make deps\nmake</pre>\n"
                   "<p>Then start the server again.</p>\n</body></html>\n");
    ex->reply.page = true;
    reply_typed(ex, "text/html; charset=utf-8", &out);
}

void route_root(struct exchange *ex) {
    const struct web_file *index = web_find("chat/index.html");
    if (ex->server->options.no_web || !wants_html(ex)) {
        route_index(ex);
    } else if (index) {
        send_file(ex, index);
    } else {
        send_plain_page(ex);
    }
}

void route_page_file(struct exchange *ex) {
    char name[64];
    int n = snprintf(name, sizeof name, "chat/%s", ex->argument);
    const struct web_file *file = n < (int)sizeof name && !ex->server->options.no_web ? web_find(name) : NULL;
    if (file) {
        send_file(ex, file);
        return;
    }
    struct api_error e;
    api_error_set(&e, 404, "unknown_url", NULL, "there is no %.200s here; GET / lists what there is", ex->url);
    reply_error(ex, &e);
}
