/* What /proc says of a process (proc(5)); root: "" or a folder in place of / (tests). */
#ifndef MACHINE_PROCESS_H
#define MACHINE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* Processor time in clock ticks of a process with its threads and with its children that have ended, and its parent; false when
 * it is gone. */
bool process_ticks(const char *root, int pid, uint64_t *ticks, int *parent);
/* Memory in bytes: all that is mapped, and what of it is resident; false when it is gone. */
bool process_memory(const char *root, int pid, uint64_t *mapped, uint64_t *resident);

#endif
