/* What things are called on the site, and which column a finding is about. */
#ifndef REPORT_NAMES_H
#define REPORT_NAMES_H

#include "base/buf.h"
#include "record/check.h"

/* "NVIDIA GeForce RTX 3090 · 24 GiB", "AMD EPYC · 2 cores · 24 GiB"; between: " · ". "unknown machine" where
 * nothing is known. */
void name_hardware(const struct record_run *run, struct json_object *target, const char *between, struct buf *out);
/* What the target calls its model, else the file's name; "unknown model". */
const char *name_model(const struct record_run *run, struct json_object *target);
/* legacy, imported, or the test: api, raw, probe. */
const char *name_kind(const struct record_run *run, struct json_object *row);

/* The name of the column that a finding is about, or NULL. */
const char *name_finding_column(const struct finding *f);

#endif
