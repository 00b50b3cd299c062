/*
 * A power limit for a while. Before the first change a guardian process is started; it puts the old limit back when this
 * process ends in whatever way, so that neither a crash nor a kill leaves a card throttled.
 */
#ifndef MACHINE_POWER_CAP_H
#define MACHINE_POWER_CAP_H

#include "machine/nvml.h"

struct power_cap;

/* Remembers the limit of the card and starts the guardian. library as in nvml_open: the guardian opens its own. */
sluice_status power_cap_start(const char *library, uint32_t gpu, struct power_cap **out, sluice_error *err);
sluice_status power_cap_set(struct power_cap *cap, double watts, sluice_error *err);
/* Puts the old limit back and waits for the guardian. SLUICE_E_IO when the old limit could not be set again. */
sluice_status power_cap_end(struct power_cap *cap, sluice_error *err);

#endif
