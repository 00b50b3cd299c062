/*
 * The pages built from web/ and carried in the binary: looked up by name, kept gzip'd.
 * A build without Node carries none; who uses them then writes plain HTML.
 */
#ifndef WEB_WEB_H
#define WEB_WEB_H

#include "base/buf.h"
#include "sluice.h"

struct web_file {
    const char *name; /* "chat/index.html"; NULL ends the table */
    const char *type; /* Content-Type */
    const char *etag; /* W/"...": of the plain bytes, whatever form they are sent in */
    const unsigned char *gzip;
    size_t gzip_n;
    size_t plain_n;
};

/* The table: made by web/embed.mjs, or empty. */
extern const struct web_file web_files[];
extern const size_t web_files_n;

/* NULL: this build has no such file. */
const struct web_file *web_find(const char *name);
/* Appends the plain bytes. SLUICE_E_NOMEM; SLUICE_E_FORMAT where the bytes do not inflate to plain_n. */
sluice_status web_inflate(const struct web_file *file, struct buf *out, sluice_error *err);

#endif
