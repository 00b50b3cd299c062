#include "machine/power_cap.h"

#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

struct power_cap {
    struct nvml *nvml;
    uint32_t gpu;
    double before_w;
    pid_t guardian;
    int pipe; /* closed by us or by our death: the guardian's sign */
};

/* The guardian: waits for the end of the pipe, puts the limit back. It never returns. */
_Noreturn static void guard(int pipe, const char *library, uint32_t gpu, double watts) {
    char byte;
    struct nvml *n = NULL;
    sluice_error err;
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    setsid();
    dup2(pipe, STDERR_FILENO + 1); /* nothing else of the parent's is held open: no socket, no record file */
    pipe = STDERR_FILENO + 1;
    close_range((unsigned)pipe + 1, ~0u, 0);
    while (read(pipe, &byte, 1) < 0 && errno == EINTR) {
    }
    if (nvml_open(library, &n, &err) != SLUICE_OK || nvml_set_power_limit(n, gpu, watts, &err) != SLUICE_OK) {
        _exit(1);
    }
    nvml_close(n);
    _exit(0);
}

static sluice_status start(struct power_cap *cap, const char *library, sluice_error *err) {
    struct nvml_info info;
    int ends[2];
    TRY(nvml_open(library, &cap->nvml, err));
    nvml_describe(cap->nvml, cap->gpu, &info);
    if (info.power_limit_w <= 0) {
        return fail(err, SLUICE_E_IO, "card %u does not report a power limit, so none can be put back", cap->gpu);
    }
    cap->before_w = info.power_limit_w;
    if (pipe(ends) != 0) {
        return fail(err, SLUICE_E_IO, "no pipe for the guardian of the power limit");
    }
    cap->guardian = fork();
    if (cap->guardian == 0) {
        close(ends[1]);
        guard(ends[0], library, cap->gpu, cap->before_w);
    }
    close(ends[0]);
    if (cap->guardian < 0) {
        close(ends[1]);
        return fail(err, SLUICE_E_IO, "the guardian of the power limit could not be started");
    }
    cap->pipe = ends[1];
    return SLUICE_OK;
}

sluice_status power_cap_start(const char *library, uint32_t gpu, struct power_cap **out, sluice_error *err) {
    struct power_cap *cap = mem_calloc(1, sizeof *cap);
    if (!cap) {
        return fail(err, SLUICE_E_NOMEM, "no memory for a power limit");
    }
    cap->gpu = gpu;
    cap->pipe = -1;
    sluice_status status = start(cap, library, err);
    if (status != SLUICE_OK) {
        nvml_close(cap->nvml);
        mem_free(cap);
        return status;
    }
    *out = cap;
    return SLUICE_OK;
}

sluice_status power_cap_set(struct power_cap *cap, double watts, sluice_error *err) {
    return nvml_set_power_limit(cap->nvml, cap->gpu, watts, err);
}

sluice_status power_cap_end(struct power_cap *cap, sluice_error *err) {
    int how = 0;
    double before = cap->before_w;
    close(cap->pipe); /* the guardian sets the limit, the same way as after a crash */
    while (waitpid(cap->guardian, &how, 0) < 0 && errno == EINTR) {
    }
    nvml_close(cap->nvml);
    mem_free(cap);
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0) {
        return fail(err, SLUICE_E_IO, "the power limit of %.0f W could not be set again; set it by hand", before);
    }
    return SLUICE_OK;
}
