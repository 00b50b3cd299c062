/* Errors inside the library: a status and one sentence in the owner's buffer. Libraries never print or exit. */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include "sluice.h"

#include <stdarg.h>

/* Writes the sentence (if err is not NULL) and returns status, so that `return fail(err, SLUICE_E_X, "...")` reads well. */
__attribute__((format(printf, 3, 4))) sluice_status fail(sluice_error *err, sluice_status status, const char *fmt, ...);

#define TRY(expr)                                                                                                      \
    do {                                                                                                               \
        sluice_status try_status_ = (expr);                                                                            \
        if (try_status_ != SLUICE_OK) {                                                                                \
            return try_status_;                                                                                        \
        }                                                                                                              \
    } while (0)

/* The same for functions that clean up at a label and keep the result in a variable. */
#define TRY_GOTO(var, expr, label)                                                                                     \
    do {                                                                                                               \
        (var) = (expr);                                                                                                \
        if ((var) != SLUICE_OK) {                                                                                      \
            goto label;                                                                                                \
        }                                                                                                              \
    } while (0)

#endif
