#include "bench/client.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/status.h"
#include "bench/client_impl.h"
#include "record/line.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BYTES_PER_TOKEN 4096u /* of an answer's pieces; a piece of one token takes 200 to 400 */
#define DONE_GRACE_MS   1000  /* for the end of the connection after "[DONE]" */
#define OVERDUE_FACTOR  20    /* an answer may take so many times the silence that is allowed */
#define TICK_MS         100
#define EVENTS          64

struct client {
    CURLM *multi;
    int epoll;
    uint64_t timer_ns; /* when libcurl wants to be called; 0 = never */
    struct curl_slist *headers;
    struct client_options options;
    char base[CLIENT_URL_MAX];
    struct exchange exchanges[CLIENT_STREAMS_MAX];
    uint32_t n_busy;
    double cpu_ms;
    uint64_t pieces;
};

sluice_status client_global_init(sluice_error *err) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return fail(err, SLUICE_E_IO, "the HTTP library libcurl could not be started");
    }
    return SLUICE_OK;
}

void client_global_free(void) {
    curl_global_cleanup();
}

const char *client_base(const struct client *c) {
    return c->base;
}

void client_cost(const struct client *c, double *cpu_ms, uint64_t *pieces) {
    *cpu_ms = c->cpu_ms;
    *pieces = c->pieces;
}

/* ---- What libcurl calls */

static bool add_mark(struct exchange *e, uint64_t ns) {
    if (e->n_marks == e->cap_marks) {
        size_t cap = e->cap_marks ? e->cap_marks * 2 : 256;
        struct mark *more = mem_realloc(e->marks, cap * sizeof *more);
        if (!more) {
            return false;
        }
        e->marks = more;
        e->cap_marks = cap;
    }
    e->marks[e->n_marks++] = (struct mark){e->bytes.len, ns};
    return true;
}

/* The last line of a stream. Looked for in the bytes, because servers may keep the connection open behind it. */
static bool ends_with_done(const struct buf *b) {
    size_t n = b->len;
    while (n && (b->data[n - 1] == '\n' || b->data[n - 1] == '\r')) {
        n--;
    }
    return n >= 6 && memcmp(b->data + n - 6, "[DONE]", 6) == 0;
}

static size_t on_bytes(char *bytes, size_t one, size_t n, void *ctx) {
    struct exchange *e = ctx;
    (void)one;
    e->heard_ns = clock_ns();
    e->client->pieces++;
    e->too_long = n > e->max_bytes - e->bytes.len;
    if (e->too_long) {
        return 0;
    }
    buf_append(&e->bytes, bytes, n);
    e->no_memory = e->bytes.failed || !add_mark(e, e->heard_ns);
    if (e->no_memory) {
        return 0;
    }
    if (ends_with_done(&e->bytes)) {
        e->done_ns = e->heard_ns;
    }
    return n;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *of_socket) {
    struct client *c = ctx;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(c->epoll, EPOLL_CTL_DEL, fd, NULL);
        curl_multi_assign(c->multi, fd, NULL);
        return 0;
    }
    struct epoll_event ev = {.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u),
                             .data.fd = fd};
    int failed = epoll_ctl(c->epoll, of_socket ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
    if (failed && errno == (of_socket ? ENOENT : EEXIST)) {
        failed = epoll_ctl(c->epoll, of_socket ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev);
    }
    curl_multi_assign(c->multi, fd, c);
    return failed ? -1 : 0;
}

static int on_timer(CURLM *multi, long ms, void *ctx) {
    struct client *c = ctx;
    (void)multi;
    c->timer_ns = ms < 0 ? 0 : clock_ns() + (uint64_t)ms * 1000000u;
    return 0;
}

/* ---- Opening and closing */

static bool add_header(struct client *c, const char *line) {
    struct curl_slist *more = curl_slist_append(c->headers, line);
    c->headers = more ? more : c->headers;
    return more != NULL;
}

static bool set_headers(struct client *c) {
    bool ok = add_header(c, "Content-Type: application/json") && add_header(c, "Expect:");
    if (ok && c->options.api_key) {
        struct buf line = {0};
        buf_printf(&line, "Authorization: Bearer %s", c->options.api_key);
        ok = !line.failed && add_header(c, line.data);
        buf_free(&line);
    }
    return ok;
}

static sluice_status start(struct client *c, sluice_error *err) {
    TRY(client_base_url(c->options.url, c->base, sizeof c->base, err));
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (c->epoll < 0) {
        return fail(err, SLUICE_E_IO, "the system refused an epoll descriptor: %s", strerror(errno));
    }
    c->multi = curl_multi_init();
    if (!c->multi || !set_headers(c)) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a client");
    }
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)CLIENT_STREAMS_MAX);
    curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    return SLUICE_OK;
}

sluice_status client_open(const struct client_options *options, struct client **out, sluice_error *err) {
    if (options->api_key && strpbrk(options->api_key, "\r\n")) {
        return fail(err, SLUICE_E_ARG, "the API key contains a line break");
    }
    struct client *c = mem_calloc(1, sizeof *c);
    if (!c) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a client");
    }
    c->options = *options;
    c->epoll = -1;
    for (size_t i = 0; i < CLIENT_STREAMS_MAX; i++) {
        c->exchanges[i].client = c;
    }
    sluice_status status = start(c, err);
    if (status != SLUICE_OK) {
        client_close(c);
        return status;
    }
    *out = c;
    return SLUICE_OK;
}

void client_close(struct client *c) {
    if (!c) {
        return;
    }
    for (size_t i = 0; i < CLIENT_STREAMS_MAX; i++) {
        struct exchange *e = &c->exchanges[i];
        curl_easy_cleanup(e->curl);
        buf_free(&e->bytes);
        mem_free(e->marks);
    }
    curl_multi_cleanup(c->multi);
    curl_slist_free_all(c->headers);
    if (c->epoll >= 0) {
        close(c->epoll);
    }
    mem_free(c);
}

/* ---- One exchange */

/* curl_easy_reset keeps the connection and forgets the options. */
static bool prepare(struct exchange *e, const char *path, const char *post, size_t post_len, size_t max_bytes) {
    char url[CLIENT_URL_MAX + 64];
    struct client *c = e->client;
    snprintf(url, sizeof url, "%s%s", c->base, path);
    if (e->curl) {
        curl_easy_reset(e->curl);
    } else {
        e->curl = curl_easy_init();
    }
    CURL *h = e->curl;
    if (!h) {
        return false;
    }
    struct buf bytes = e->bytes;
    buf_reset(&bytes);
    *e = (struct exchange){.client = c,
                           .curl = h,
                           .bytes = {.data = bytes.data, .cap = bytes.cap},
                           .marks = e->marks,
                           .cap_marks = e->cap_marks,
                           .max_bytes = max_bytes,
                           .silence_s = c->options.silence_s};
    if (client_is_loopback(c->base)) {
        curl_easy_setopt(h, CURLOPT_PROXY, "");
    }
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, c->headers);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "sluice-bench/" SLUICE_VERSION);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, e->curl_error);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, CLIENT_CONNECT_S);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, e);
    curl_easy_setopt(h, CURLOPT_PRIVATE, e);
    if (post) {
        curl_easy_setopt(h, CURLOPT_POST, 1L);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, post);
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post_len);
    }
    return curl_easy_setopt(h, CURLOPT_URL, url) == CURLE_OK;
}

static void begin(struct exchange *e) {
    struct client *c = e->client;
    int running;
    e->busy = true;
    c->n_busy++;
    e->sent_ns = e->heard_ns = clock_ns();
    CURLMcode code = curl_multi_add_handle(c->multi, e->curl);
    if (code != CURLM_OK) {
        e->code = code == CURLM_OUT_OF_MEMORY ? CURLE_OUT_OF_MEMORY : CURLE_FAILED_INIT;
        e->end_ns = e->sent_ns;
        e->busy = false;
        c->n_busy--;
        return;
    }
    c->timer_ns = 0;
    curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running); /* sends it now, not after the others */
}

static void finish(struct exchange *e, CURLcode code) {
    struct client *c = e->client;
    char *type = NULL, *location = NULL;
    e->end_ns = clock_ns();
    e->code = code;
    curl_easy_getinfo(e->curl, CURLINFO_RESPONSE_CODE, &e->http_status);
    curl_easy_getinfo(e->curl, CURLINFO_CONTENT_TYPE, &type);
    curl_easy_getinfo(e->curl, CURLINFO_REDIRECT_URL, &location);
    snprintf(e->type, sizeof e->type, "%s", type ? type : "");
    snprintf(e->location, sizeof e->location, "%s", location ? location : "");
    curl_multi_remove_handle(c->multi, e->curl);
    e->busy = false;
    c->n_busy--;
}

static void collect_ended(struct client *c) {
    struct CURLMsg *m;
    int left;
    while ((m = curl_multi_info_read(c->multi, &left))) {
        void *e = NULL;
        CURLcode code = m->data.result;
        if (m->msg == CURLMSG_DONE && curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &e) == CURLE_OK && e) {
            finish(e, code);
        }
    }
}

/* What no event tells: silence, a stream that goes on for ever, a wish to stop. */
static void check_limits(struct client *c) {
    bool stop = c->options.stop && atomic_load_explicit(c->options.stop, memory_order_relaxed);
    for (size_t i = 0; i < CLIENT_STREAMS_MAX; i++) {
        struct exchange *e = &c->exchanges[i];
        if (!e->busy) {
            continue;
        }
        double limit_ms = c->options.silence_s * 1e3;
        e->silent = clock_ms_since(e->heard_ns) > limit_ms;
        e->overdue = clock_ms_since(e->sent_ns) > limit_ms * OVERDUE_FACTOR;
        if (e->done_ns && clock_ms_since(e->done_ns) > DONE_GRACE_MS) {
            e->silent = e->overdue = false;
            finish(e, CURLE_PARTIAL_FILE);
        } else if (stop || e->silent || e->overdue) {
            finish(e, CURLE_ABORTED_BY_CALLBACK);
        }
    }
}

/* Waits for at most ms and handles what has come. */
static sluice_status turn(struct client *c, double ms, uint64_t *ticked_ns, sluice_error *err) {
    struct epoll_event events[EVENTS];
    uint64_t now = clock_ns();
    int running;
    double wait = ms;
    if (c->timer_ns) {
        double left = c->timer_ns > now ? (double)(c->timer_ns - now) * 1e-6 : 0;
        wait = left < wait ? left : wait;
    }
    struct timespec t = {(time_t)(wait / 1000), (long)(fmod(wait, 1000) * 1e6)};
    int n = epoll_pwait2(c->epoll, events, EVENTS, &t, NULL);
    if (n < 0 && errno == ENOSYS) { /* Linux before 5.11: waits in whole milliseconds */
        n = epoll_wait(c->epoll, events, EVENTS, (int)wait);
    }
    if (n < 0 && errno != EINTR) {
        return fail(err, SLUICE_E_IO, "waiting for the server failed: %s", strerror(errno));
    }
    for (int i = 0; i < n; i++) {
        int what = (events[i].events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
                   (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (events[i].events & EPOLLERR ? CURL_CSELECT_ERR : 0);
        curl_multi_socket_action(c->multi, events[i].data.fd, what, &running);
    }
    now = clock_ns();
    if (c->timer_ns && now >= c->timer_ns) {
        c->timer_ns = 0;
        curl_multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    collect_ended(c);
    if (now - *ticked_ns > TICK_MS * 1000000u) {
        *ticked_ns = now;
        check_limits(c);
    }
    return SLUICE_OK;
}

/* ---- Runs */

struct run {
    struct client *client;
    struct client_request *requests;
    uint32_t n, n_started, n_ended;
    uint32_t *slot_of; /* [CLIENT_STREAMS_MAX] request of each exchange; UINT32_MAX = none */
    uint64_t ticked_ns;
    void (*on_end)(void *ctx, uint32_t n_ended);
    void *ctx;
};

static double elapsed_ms(const struct client *c) {
    return (double)(clock_ns() - c->options.zero_ns) * 1e-6;
}

static uint32_t free_exchange(const struct run *r) {
    for (uint32_t i = 0; i < CLIENT_STREAMS_MAX; i++) {
        if (r->slot_of[i] == UINT32_MAX) {
            return i;
        }
    }
    return UINT32_MAX;
}

static bool arm(struct run *r, uint32_t slot, const struct client_request *q) {
    size_t max_bytes = CLIENT_BODY_MAX + (size_t)q->max_tokens * BYTES_PER_TOKEN;
    return prepare(&r->client->exchanges[slot], "/v1/chat/completions", q->body, q->body_len, max_bytes);
}

/* Starts what is due. Everything that is released together is prepared first and then sent without a pause. */
static sluice_status start_due(struct run *r, sluice_error *err) {
    uint32_t slots[CLIENT_STREAMS_MAX];
    uint32_t n = 0;
    double now = elapsed_ms(r->client);
    for (uint32_t slot; r->n_started + n < r->n && r->requests[r->n_started + n].due_ms <= now; n++) {
        slot = free_exchange(r);
        if (slot == UINT32_MAX) {
            break;
        }
        if (!arm(r, slot, &r->requests[r->n_started + n])) {
            return fail(err, SLUICE_E_NOMEM, "no memory for a request");
        }
        r->slot_of[slot] = r->n_started + n;
        slots[n] = slot;
    }
    for (uint32_t i = 0; i < n; i++) {
        begin(&r->client->exchanges[slots[i]]);
    }
    r->n_started += n;
    return SLUICE_OK;
}

/* Reads what has ended. Done only when no stream runs or slots run out: it would take time from those that run. */
static void harvest(struct run *r) {
    struct client *c = r->client;
    for (uint32_t i = 0; i < CLIENT_STREAMS_MAX; i++) {
        struct exchange *e = &c->exchanges[i];
        if (r->slot_of[i] == UINT32_MAX || e->busy) {
            continue;
        }
        struct client_request *q = &r->requests[r->slot_of[i]];
        q->sample->send_ms = line_round_ms((double)(e->sent_ns - c->options.zero_ns) * 1e-6);
        exchange_to_sample(e, q->sample);
        r->slot_of[i] = UINT32_MAX;
    }
}

static void report_ended(struct run *r) {
    uint32_t ended = r->n_started - r->client->n_busy;
    if (ended != r->n_ended) {
        r->n_ended = ended;
        if (r->on_end) {
            r->on_end(r->ctx, ended);
        }
    }
}

static sluice_status drive(struct run *r, sluice_error *err) {
    struct client *c = r->client;
    const atomic_bool *stop = c->options.stop;
    while (r->n_started < r->n || c->n_busy) {
        bool stopping = stop && atomic_load_explicit(stop, memory_order_relaxed);
        if (stopping && !c->n_busy) {
            break;
        }
        if (!stopping) {
            if (c->n_busy == 0 || free_exchange(r) == UINT32_MAX) {
                harvest(r);
            }
            TRY(start_due(r, err));
        }
        double wait = TICK_MS;
        if (r->n_started < r->n && free_exchange(r) != UINT32_MAX) {
            double left = r->requests[r->n_started].due_ms - elapsed_ms(c);
            wait = left < 0 ? 0 : left < wait ? left : wait;
        }
        TRY(turn(c, wait, &r->ticked_ns, err));
        report_ended(r);
    }
    return SLUICE_OK;
}

static double thread_cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void abandon(struct client *c) {
    for (uint32_t i = 0; i < CLIENT_STREAMS_MAX; i++) {
        if (c->exchanges[i].busy) {
            finish(&c->exchanges[i], CURLE_ABORTED_BY_CALLBACK);
        }
    }
}

sluice_status client_run(struct client *c, struct client_request *requests, uint32_t n,
                         void (*on_end)(void *ctx, uint32_t n_ended), void *ctx, sluice_error *err) {
    uint32_t slot_of[CLIENT_STREAMS_MAX];
    struct run r = {.client = c, .requests = requests, .n = n, .slot_of = slot_of, .on_end = on_end, .ctx = ctx};
    memset(slot_of, 0xFF, sizeof slot_of);
    r.ticked_ns = clock_ns();
    double cpu = thread_cpu_ms();
    sluice_status status = drive(&r, err);
    c->cpu_ms += thread_cpu_ms() - cpu;
    abandon(c);
    harvest(&r);
    for (uint32_t i = r.n_started; i < n; i++) {
        snprintf(requests[i].sample->error, sizeof requests[i].sample->error, "interrupted before it was sent");
    }
    return status;
}

sluice_status client_fetch(struct client *c, const char *path, const char *post, struct buf *body, long *http_status,
                           sluice_error *err) {
    struct exchange *e = &c->exchanges[0];
    uint64_t ticked = clock_ns();
    if (!prepare(e, path, post, post ? strlen(post) : 0, CLIENT_BODY_MAX)) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a request");
    }
    begin(e);
    while (e->busy) {
        sluice_status status = turn(c, TICK_MS, &ticked, err);
        if (status != SLUICE_OK) {
            abandon(c);
            return status;
        }
    }
    if (e->code != CURLE_OK) {
        char why[400];
        exchange_describe(e, why, sizeof why);
        bool cancelled = e->code == CURLE_ABORTED_BY_CALLBACK && !e->silent && !e->overdue;
        return fail(err, e->no_memory ? SLUICE_E_NOMEM : cancelled ? SLUICE_E_CANCELLED : SLUICE_E_IO, "%s", why);
    }
    *http_status = e->http_status;
    buf_reset(body);
    buf_append(body, e->bytes.data ? e->bytes.data : "", e->bytes.len);
    return body->failed ? fail(err, SLUICE_E_NOMEM, "no memory for a reply") : SLUICE_OK;
}
