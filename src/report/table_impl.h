/* What the parts of table.c share. */
#ifndef REPORT_TABLE_IMPL_H
#define REPORT_TABLE_IMPL_H

#include "report/table.h"

/* Makes room for one more element of an array: array points to its pointer. */
bool table_grow(void *array, size_t *cap, size_t n, size_t size);
sluice_status table_no_memory(sluice_error *err);

/* Into the texts: a buffer, which is freed; a value as JSON; a member's text, of numbers their digits as the record has
 * them. 0 where there is nothing, and when memory is out. */
uint32_t texts_add_buf(struct texts *p, struct buf *b);
uint32_t texts_add_json(struct texts *p, struct json_object *v);
uint32_t texts_add_member(struct texts *p, struct json_object *o, const char *key);

/* A value but for members of those names (NULL at the end), at any depth: as deep as a record's rules allow. */
void table_put_without(struct buf *out, struct json_object *v, const char *const *names);
/* The block of a run line on that machine, made if there is none yet. */
sluice_status table_find_block(struct table *t, struct json_object *run, uint32_t hardware, uint32_t *out,
                               sluice_error *err);

/* All cells of a row whose run, model and hardware are set. */
void table_add_cells(struct table *t, struct table_row *r, const struct record_run *run, const struct record_line *line,
                     const struct check *found, const struct compare_row *compared);

#endif
