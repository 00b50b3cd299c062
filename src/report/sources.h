/* Which files a report is made of. */
#ifndef REPORT_SOURCES_H
#define REPORT_SOURCES_H

#include "sluice.h"

#include <stddef.h>
#include <stdint.h>

struct source {
    char *path;
    uint64_t bytes; /* as far as the system knows before it is read */
};

struct sources {
    struct source *paths; /* [n] */
    size_t n, cap;
    uint64_t bytes;
};

/* Files as they are named ("-": standard input), of folders their *.jsonl by name. Without any name: the records
 * that come with sluice. */
sluice_status sources_find(const char *const *names, size_t n, struct sources *out, sluice_error *err);
void sources_free(struct sources *s);

#endif
