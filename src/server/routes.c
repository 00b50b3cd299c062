#include "server/server_impl.h"

#include <string.h>

static const struct route routes[] = {
    {"/v1/chat/completions", "POST", .run = route_chat},
    {"/v1/completions", "POST", .run = route_completion},
    {"/v1/models", "GET", .run = route_models},
    {"/v1/models/", "GET", .is_prefix = true, .run = route_model},
    {"/tokenize", "POST", .run = route_tokenize},
    {"/detokenize", "POST", .run = route_detokenize},
    {"/apply-template", "POST", .run = route_apply_template},
    {"/health", "GET", .is_public = true, .run = route_health},
    {"/props", "GET", .run = route_props},
    {"/slots", "GET", .run = route_slots},
    {"/metrics", "GET", .run = route_metrics},
    {"/", "GET", .is_public = true, .run = route_root},
    {"/web/", "GET", .is_prefix = true, .is_public = true, .run = route_page_file},
};

static bool path_fits(const struct route *r, const char *path) {
    size_t n = strlen(r->path);
    return r->is_prefix ? strncmp(path, r->path, n) == 0 && path[n] != '\0' : strcmp(path, r->path) == 0;
}

const struct route *route_find(const char *path, const char *method, const char **allow, const char **argument) {
    *allow = NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const struct route *r = &routes[i];
        if (!path_fits(r, path)) {
            continue;
        }
        if (strcmp(r->method, method) == 0) {
            *argument = r->is_prefix ? path + strlen(r->path) : NULL;
            return r;
        }
        *allow = strcmp(r->method, "GET") == 0 ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
    }
    return NULL;
}
