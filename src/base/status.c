#include "base/status.h"

#include <stdio.h>

sluice_status fail(sluice_error *err, sluice_status status, const char *fmt, ...) {
    if (err) {
        va_list args;
        va_start(args, fmt);
        err->status = status;
        vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
    }
    return status;
}

const char *sluice_status_name(sluice_status status) {
    static const char *const names[] = {
        [SLUICE_OK] = "SLUICE_OK",
        [SLUICE_E_ARG] = "SLUICE_E_ARG",
        [SLUICE_E_IO] = "SLUICE_E_IO",
        [SLUICE_E_FORMAT] = "SLUICE_E_FORMAT",
        [SLUICE_E_UNSUPPORTED] = "SLUICE_E_UNSUPPORTED",
        [SLUICE_E_NOMEM] = "SLUICE_E_NOMEM",
        [SLUICE_E_LIMIT] = "SLUICE_E_LIMIT",
        [SLUICE_E_BUSY] = "SLUICE_E_BUSY",
        [SLUICE_E_CANCELLED] = "SLUICE_E_CANCELLED",
        [SLUICE_E_BACKEND] = "SLUICE_E_BACKEND",
        [SLUICE_E_TIMEOUT] = "SLUICE_E_TIMEOUT",
    };
    if ((unsigned)status >= sizeof names / sizeof names[0]) {
        return "SLUICE_E_UNKNOWN";
    }
    return names[status];
}
