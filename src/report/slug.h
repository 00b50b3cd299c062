/* Names of files that are made of texts from records. */
#ifndef REPORT_SLUG_H
#define REPORT_SLUG_H

#include "base/buf.h"

/* Only a-z, 0-9 and single dashes between them, 1 to 96 characters: "LFM2 8B-A1B Q4_K_M" gives
 * "lfm2-8b-a1b-q4-k-m". Where letters had to be left out or the text is too long, eight digits of its sum follow,
 * so that two such texts differ. */
void slug_put(struct buf *out, const char *text);

/* The last part of a path as a file name of A-Za-z0-9._- that begins with none of ".-"; other bytes become "_". */
void slug_put_file(struct buf *out, const char *path);

#endif
