/* A server's address as the user gives it. */
#include "bench/client.h"

#include "base/status.h"

#include <stdio.h>
#include <string.h>

sluice_status client_base_url(const char *url, char *out, size_t cap, sluice_error *err) {
    const char *scheme = strncmp(url, "http://", 7) == 0    ? "http://"
                         : strncmp(url, "https://", 8) == 0 ? "https://"
                                                            : "";
    const char *rest = url + strlen(scheme);
    size_t authority = strcspn(rest, "/?#");
    const char *at = memchr(rest, '@', authority);
    if (at) {
        authority -= (size_t)(at + 1 - rest);
        rest = at + 1;
    }
    if (!*scheme || authority == 0 || strpbrk(rest, " ?#\r\n\t")) {
        return fail(err, SLUICE_E_ARG, "--url takes something like http://127.0.0.1:8080, not \"%.200s\"", url);
    }
    size_t n = strlen(rest);
    while (n > authority && rest[n - 1] == '/') {
        n--;
    }
    if (n >= authority + 3 && memcmp(rest + n - 3, "/v1", 3) == 0) {
        n -= 3;
    }
    int written = snprintf(out, cap, "%s%.*s", scheme, (int)n, rest);
    if (written < 0 || (size_t)written >= cap) {
        return fail(err, SLUICE_E_ARG, "the URL is longer than %zu bytes", cap - 1);
    }
    return SLUICE_OK;
}

bool client_is_loopback(const char *base) {
    const char *host = strstr(base, "://") + 3;
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost", 9) == 0 || strncmp(host, "[::1]", 5) == 0;
}
