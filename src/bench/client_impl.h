/* One exchange of the client: its bytes as they came, and what becomes of them. Internal to the client. */
#ifndef BENCH_CLIENT_IMPL_H
#define BENCH_CLIENT_IMPL_H

#include "bench/client.h"

#include <curl/curl.h>

#define CLIENT_CONNECT_S 10L
#define CLIENT_BODY_MAX  (4u << 20) /* of replies that are not streams */
#define CLIENT_URL_MAX   1024

struct mark { /* bytes up to `end` had come by `ns` */
    size_t end;
    uint64_t ns;
};

struct exchange {
    struct client *client;
    CURL *curl;
    bool busy;
    char curl_error[CURL_ERROR_SIZE];
    struct buf bytes; /* the reply's body */
    struct mark *marks;
    size_t n_marks, cap_marks;
    uint32_t silence_s;
    size_t max_bytes;           /* more than that is no answer to what was asked */
    uint64_t sent_ns, heard_ns; /* heard: the last sign of life */
    uint64_t done_ns;           /* the end of the stream was announced ("[DONE]") */
    /* why it was ended from here */
    bool silent, too_long, no_memory, overdue;
    /* the outcome, known once it has ended */
    CURLcode code;
    long http_status;
    char type[64], location[256]; /* content type; where a redirect points */
    uint64_t end_ns;
};

/* What went wrong below HTTP, as a sentence. */
void exchange_describe(const struct exchange *e, char *out, size_t cap);
/* Reads what was kept of an ended exchange into its sample. */
void exchange_to_sample(const struct exchange *e, struct sample *out);

#endif
