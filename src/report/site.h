/*
 * The folder of a site while it is written: a hidden folder beside the one that is wanted, which takes its place at
 * the end in one step, so that nobody sees half a site and a failed run leaves the old one alone. Only a folder that
 * is empty, or that has the marker file of an earlier report, is replaced; what is not ours in its top level stays in
 * it.
 */
#ifndef REPORT_SITE_H
#define REPORT_SITE_H

#include "base/buf.h"
#include "sluice.h"

#define SITE_MARKER "sluice-report.json"

struct site;

sluice_status site_open(const char *folder, struct site **out, sluice_error *err);
/* path: "runs/x.html": folders are made as needed. */
sluice_status site_put(struct site *s, const char *path, const void *bytes, size_t n, sluice_error *err);
/* The same, at the end of a file that may be there already. */
sluice_status site_append(struct site *s, const char *path, const void *bytes, size_t n, sluice_error *err);
/* The new folder in the place of the old. */
sluice_status site_finish(struct site *s, sluice_error *err);
/* Removes what has not been finished; s may be NULL, and is freed. */
void site_close(struct site *s);

uint64_t site_bytes(const struct site *s); /* written so far */
size_t site_files(const struct site *s);
const char *site_folder(const struct site *s); /* its absolute path, where it is known */

#endif
