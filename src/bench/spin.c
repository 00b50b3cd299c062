#include "bench/spin.h"

#include "base/clock.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_S      0.2  /* of running streams, between two decisions: the kernel counts in hundredths of a second */
#define FREE_CORES  1.5  /* not used by others: one to poll on, and some that stays free */
#define LEAD_SHARE  0.1  /* of the expected time: how much earlier, and how much later than expected, is polled for */
#define LEAD_LEAST  200e3 /* ns */
#define LEAD_MOST   2e6
#define INTERVAL_MOST 50e6 /* ns: of a longer wait the waking up is less than a third of a percent */

/* Idle time of the processors that this process may use, in clock ticks of all; UINT64_MAX unknown. */
static uint64_t idle_ticks(void) {
    cpu_set_t mine;
    char line[512];
    uint64_t sum = 0;
    FILE *f = sched_getaffinity(0, sizeof mine, &mine) == 0 ? fopen("/proc/stat", "re") : NULL;
    if (!f) {
        return UINT64_MAX;
    }
    while (fgets(line, sizeof line, f) && strncmp(line, "cpu", 3) == 0) {
        unsigned cpu;
        unsigned long long idle, iowait;
        if (sscanf(line, "cpu%u %*u %*u %*u %llu %llu", &cpu, &idle, &iowait) == 3 && cpu < CPU_SETSIZE &&
            CPU_ISSET(cpu, &mine)) {
            sum += idle + iowait;
        }
    }
    fclose(f);
    return sum;
}

static uint64_t own_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void spin_begin(struct spin *s) {
    if (s->wanted) {
        s->idle_from = idle_ticks();
        s->own_from = own_ns();
        s->ns_from = clock_ns();
    }
}

void spin_look(struct spin *s) {
    if (!s->wanted) {
        return;
    }
    uint64_t idle = idle_ticks(), own = own_ns(), now = clock_ns();
    if (idle == UINT64_MAX || s->idle_from == UINT64_MAX) {
        s->wanted = s->allowed = false;
        return;
    }
    s->idle_s += idle > s->idle_from ? (double)(idle - s->idle_from) / (double)sysconf(_SC_CLK_TCK) : 0;
    s->own_s += (double)(own - s->own_from) * 1e-9;
    s->live_s += (double)(now - s->ns_from) * 1e-9;
    if (s->live_s >= LOOK_S) {
        s->allowed = s->idle_s + s->own_s >= FREE_CORES * s->live_s;
        s->idle_s = s->own_s = s->live_s = 0;
    }
    s->idle_from = idle;
    s->own_from = own;
    s->ns_from = now;
}

void spin_learn(struct spin *s, bool first, uint64_t after_ns) {
    uint64_t *mean = first ? &s->first_ns : &s->gap_ns;
    *mean = *mean == 0 ? after_ns : (3 * *mean + after_ns) / 4;
}

uint64_t spin_wake(const struct spin *s, bool first, uint64_t from_ns, uint64_t now_ns) {
    uint64_t expected = first ? s->first_ns : s->gap_ns;
    if (!s->allowed || expected == 0 || (double)expected > INTERVAL_MOST) {
        return UINT64_MAX;
    }
    double lead = LEAD_SHARE * (double)expected;
    lead = lead < LEAD_LEAST ? LEAD_LEAST : lead > LEAD_MOST ? LEAD_MOST : lead;
    uint64_t at = from_ns + expected, early = (uint64_t)lead < expected ? at - (uint64_t)lead : from_ns;
    return now_ns > at + (uint64_t)lead ? UINT64_MAX : early;
}
