#include "cli/cli.h"

#include "base/clock.h"

#include <stdio.h>
#include <unistd.h>

void cli_progress_start(struct cli_progress *p, const char *label, uint64_t total) {
    *p =
        (struct cli_progress){.label = label, .total = total, .start_ns = clock_ns(), .enabled = isatty(STDERR_FILENO)};
}

void cli_progress_update(struct cli_progress *p, uint64_t done) {
    uint64_t now = clock_ns();
    /* nothing for work under a second; then ten redraws a second at most */
    if (!p->enabled || !p->total || now - p->start_ns < 1000000000u || now - p->shown_ns < 100000000u) {
        return;
    }
    p->shown_ns = now;
    p->visible = true;
    double share = done >= p->total ? 1 : (double)done / (double)p->total;
    double elapsed = (double)(now - p->start_ns) * 1e-9;
    char bar[33];
    for (int i = 0; i < 32; i++) {
        bar[i] = (double)i < share * 32 ? '#' : '.';
    }
    bar[32] = '\0';
    double left = share > 0 ? elapsed / share - elapsed : 0;
    fprintf(stderr, "\r%s [%s] %3.0f%%  %.0f s left \x1b[K", p->label, bar, share * 100, left);
    fflush(stderr);
}

void cli_progress_end(struct cli_progress *p) {
    if (p->visible) {
        fprintf(stderr, "\r\x1b[K");
        fflush(stderr);
        p->visible = false;
    }
}
