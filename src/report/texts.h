/* Texts kept once. What a site shows repeats itself (engines, labels, reasons), so a row is a list of numbers of
 * texts. */
#ifndef REPORT_TEXTS_H
#define REPORT_TEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct texts_block;

struct texts {
    const char **text; /* [n]; text[0] is NULL, which stands for "not known" */
    uint32_t n, cap;
    uint32_t *slots; /* open addressing, a power of two of them; 0: free */
    size_t n_slots;
    struct texts_block *blocks;
    bool failed; /* memory was out; what was added since then is 0 */
};

/* The text's number; 0 for NULL and "", and when memory is out. */
uint32_t texts_add(struct texts *p, const char *s);
const char *texts_get(const struct texts *p, uint32_t id); /* NULL for 0 */
void texts_free(struct texts *p);

#endif
