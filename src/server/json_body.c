#include "server/json_body.h"

#include "base/limits.h"
#include "json/tree.h"

sluice_status json_body_parse(const char *text, size_t n, struct json_object **out, sluice_error *err) {
    static const struct json_tree_limits limits = {"the body", LIMIT_JSON_VALUES, LIMIT_JSON_CONTAINERS};
    return json_tree_parse(text, n, &limits, false, out, NULL, err);
}
