/*
 * The only doors to the heap: counted, and made to fail on demand by tests (the n-th allocation from now).
 * Large read-mostly blocks (KV, work memory) come from mem_map: zeroed, page-aligned, huge pages where the system gives them.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t bytes);            /* NULL when out of memory; bytes 0 gives a valid pointer */
void *mem_calloc(size_t n, size_t bytes); /* checks the product */
void *mem_realloc(void *p, size_t bytes);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
void mem_free(void *p); /* p may be NULL. mem_* memory may also be released by plain free() */

void *mem_map(size_t bytes); /* NULL when out of memory */
void mem_unmap(void *p, size_t bytes);

/* Bytes that new allocations can still get without swapping (MemAvailable; the control group's limit, where cached files give way).
 * 0 if unknown. */
uint64_t mem_available(void);
uint64_t mem_available_in(const char *root); /* the same from /proc and /sys under this folder */

/* Tests: the n-th allocation from now (1 = the next) of this process fails once; 0 switches it off. */
void mem_fail_nth(long n);
/* Allocations so far, of all threads. */
uint64_t mem_count(void);

#endif
