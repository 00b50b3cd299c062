/*
 * Writes a record: a line at a time, each with the SHA-256 of the line before it, each in the file before the call
 * returns. A line that does not fit on the disk is taken out again, so that what was written stays a whole record.
 */
#ifndef RECORD_WRITER_H
#define RECORD_WRITER_H

#include "base/buf.h"
#include "sluice.h"

struct record_writer;

/* "-" is standard output. append: the chain of an existing file goes on; without, the first line replaces what is in the
 * file, so that a run that fails before it leaves the old record alone. A file that another process is writing, or whose
 * last line has no end, is refused. */
sluice_status record_writer_open(const char *path, bool append, struct record_writer **out, sluice_error *err);
/* line: one JSON object as record/line.h makes it: begins with {"kind":"..." and has no "prev" and no newline. */
sluice_status record_write(struct record_writer *w, const struct buf *line, sluice_error *err);
/* w may be NULL and is freed in any case; the error is that of closing the file. */
sluice_status record_writer_close(struct record_writer *w, sluice_error *err);

#endif
