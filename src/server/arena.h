/* Memory that lives exactly as long as one parsed request: many small pieces, freed at once. */
#ifndef SERVER_ARENA_H
#define SERVER_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
};

/* Zeroed and aligned for any type; NULL when out of memory. Checks the product. */
void *arena_calloc(struct arena *a, size_t n, size_t bytes);
void arena_free(struct arena *a);

#endif
