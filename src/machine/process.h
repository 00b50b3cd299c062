/* What /proc says of a process (proc(5)); root: "" or a folder in place of / (tests). */
#ifndef MACHINE_PROCESS_H
#define MACHINE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Processor time in clock ticks of a process with its threads and with its children that have ended, and its parent; false when
 * it is gone. */
bool process_ticks(const char *root, int pid, uint64_t *ticks, int *parent);
/* Memory in bytes: all that is mapped, and what of it is resident; false when it is gone. */
bool process_memory(const char *root, int pid, uint64_t *mapped, uint64_t *resident);
/* The command line it was started with, for records: words without their folders, "***" in place of what follows an option
 * that names a key, token, secret or password, "*" in place of a port, which says nothing of what is measured. false when it is gone or says nothing. */
bool process_command(const char *root, int pid, char *out, size_t cap);

#endif
