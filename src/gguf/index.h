/* A hash index over records that begin with a struct gguf_str: metadata entries and tensors by name. */
#ifndef GGUF_INDEX_H
#define GGUF_INDEX_H

#include "gguf/gguf.h"

struct name_index {
    uint32_t *slots; /* record number + 1; 0 = free */
    uint32_t mask;
    uint64_t seed;
};

#define INDEX_NONE SIZE_MAX

/* Room for n records; false if memory ran out. Records may move as long as their numbers and names stay. */
bool name_index_init(struct name_index *index, size_t n);
/* Adds record i; returns the number of an earlier record with the same name (then i is not added), or INDEX_NONE. */
size_t name_index_add(struct name_index *index, const void *records, size_t stride, size_t i);
/* Init, then add records 0..n. *duplicate is the first record whose name occurred before, or INDEX_NONE. */
bool name_index_build(struct name_index *index, const void *records, size_t stride, size_t n, size_t *duplicate);
size_t name_index_find(const struct name_index *index, const void *records, size_t stride, const char *s, size_t n);
void name_index_free(struct name_index *index);

#endif
