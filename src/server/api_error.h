/* What went wrong with a request, as the OpenAI API says it: {"error":{"message","type","param","code"}}. */
#ifndef SERVER_API_ERROR_H
#define SERVER_API_ERROR_H

#include "base/buf.h"
#include "sluice.h"

struct api_error {
    int http; /* status code; 0 = no error */
    const char *type;
    const char *code; /* NULL = null */
    char param[160];  /* the field at fault; "" = null */
    char message[512];
};

/* All return false, so that `return api_error_field(...)` reads well. */
__attribute__((format(printf, 5, 6))) bool api_error_set(struct api_error *e, int http, const char *code,
                                                         const char *param, const char *fmt, ...);
/* 400 about one field; the message starts with its name: "temperature" + " must be a number from 0 to 5". */
__attribute__((format(printf, 3, 4))) bool api_error_field(struct api_error *e, const char *param, const char *fmt,
                                                           ...);
bool api_error_nomem(struct api_error *e);
/* A library's failure: which status code it is, and its sentence. */
bool api_error_from_status(struct api_error *e, const sluice_error *err);

void api_error_write(const struct api_error *e, struct buf *out);

#endif
