/* `sluice probe`: what this machine's memory, cores and GPUs allow. */
#include "cli/cli.h"

#include "base/status.h"
#include "tools/probe.h"
#include "tools/probe_gpu.h"

#include <stdio.h>
#include <stdlib.h>

struct shown {
    bool json, failed;
};

static void on_progress(void *ctx, uint64_t done, uint64_t total) {
    struct cli_progress *progress = ctx;
    progress->total = total;
    cli_progress_update(progress, done);
}

static void show(struct shown *s, struct buf *out) {
    if (s->json) {
        buf_putc(out, '\n');
    }
    if (out->failed || fwrite(out->data, 1, out->len, stdout) != out->len || fflush(stdout) != 0) {
        s->failed = true;
    }
    buf_free(out);
}

static sluice_status measure_cpu(uint32_t threads, double seconds, struct shown *s, sluice_error *err) {
    struct cli_progress progress;
    struct buf out = {0};
    struct probe_report report;
    struct probe_options probe = {
        .n_threads = threads, .seconds = seconds, .progress = on_progress, .progress_ctx = &progress};
    cli_progress_start(&progress, "probe", 100);
    sluice_status status = probe_run(&probe, &report, err);
    cli_progress_end(&progress);
    if (status == SLUICE_OK) {
        if (s->json) {
            probe_report_json(&out, &report);
        } else {
            probe_report_text(&out, &report);
        }
        show(s, &out);
    }
    return status;
}

static void on_gpu(void *ctx, const struct probe_gpu *gpu) {
    struct shown *s = ctx;
    struct buf out = {0};
    if (s->json) {
        probe_gpu_json(&out, gpu);
    } else {
        probe_gpu_text(&out, gpu);
    }
    show(s, &out);
}

static sluice_status measure_gpus(double seconds, const struct probe_gpu_options *caps, struct shown *s,
                                  sluice_error *err) {
    uint32_t n = probe_gpu_count();
    for (uint32_t i = 0; i < n; i++) {
        struct cli_progress progress;
        struct probe_gpu_options o = *caps;
        o.device = i;
        o.seconds = seconds / 10; /* ten measurements each */
        o.progress = on_progress;
        o.progress_ctx = &progress;
        cli_progress_start(&progress, "probe of the GPU", 10);
        sluice_status status = probe_gpu_run(&o, on_gpu, s, err);
        cli_progress_end(&progress);
        if (status != SLUICE_OK) {
            return status;
        }
    }
    return SLUICE_OK;
}

/* "200,300" */
static bool parse_caps(const char *text, struct probe_gpu_options *out) {
    for (const char *at = text; out->n_caps < PROBE_GPU_CAPS_MAX;) {
        char *end;
        double w = strtod(at, &end);
        if (end == at || !(w >= 1) || w > 10000 || (*end != ',' && *end != '\0')) {
            return false;
        }
        out->caps[out->n_caps++] = w;
        if (!*end) {
            return true;
        }
        at = end + 1;
    }
    return false;
}

int cmd_probe(int argc, char **argv) {
    uint32_t threads = 0;
    float seconds = 5;
    struct shown shown = {0};
    struct probe_gpu_options caps = {0};
    const char *power_caps = NULL;
    bool cpu = false, gpu = false;
    const struct cli_option options[] = {
        {'t', "threads", CLI_U32, &threads, "N", "most threads to try; default: the cores this process may use", NULL},
        {0, "seconds", CLI_FLOAT, &seconds, "S",
         "time for the processor, and for each GPU; default 5, longer is steadier and lets power limits act", NULL},
        {0, "cpu", CLI_FLAG, &cpu, NULL, "memory and cores only", NULL},
        {0, "gpu", CLI_FLAG, &gpu, NULL, "GPUs only", NULL},
        {0, "power-caps", CLI_STRING, &power_caps, "W,W,..",
         "measure each GPU under these power limits; put back at the end, also after a crash; needs the right", NULL},
        {0, "json", CLI_FLAG, &shown.json, NULL, "JSON Lines on stdout: the processor, then each GPU and limit", NULL},
        {0},
    };
    const struct cli_command command = {
        .name = "probe",
        .usage = "sluice probe [-t N] [--seconds S] [--cpu | --gpu] [--power-caps W,..] [--json]",
        .about =
            "Measures memory bandwidth (read, write, copy) by number of threads, the cost of a barrier, and\n"
            "multiply-add rates by instruction set (f32, bf16, int8), with the spread of the passes; of NVIDIA GPUs\n"
            "memory, matrix rates (cuBLASLt), launch, barrier and bus. These are the limits that `raw` and `bench`\n"
            "give shares of. A copy's bytes are read and written: both count.",
        .example = "sluice probe\nsluice probe --seconds 20 --json > probe.json\n"
                   "sluice probe --gpu --seconds 60 --power-caps 200,300,450",
        .options = options,
    };
    struct cli_args args;
    int code = cli_parse(&command, argc, argv, &args);
    if (code != CLI_RUN) {
        return code;
    }
    if (!(seconds > 0) || seconds > 3600) {
        return cli_usage_error(&command, "--seconds takes more than 0 and at most 3600");
    }
    if (threads > LIMIT_THREADS) {
        return cli_usage_error(&command, "-t takes at most %u", LIMIT_THREADS);
    }
    if (cpu && (gpu || power_caps)) {
        return cli_usage_error(&command, "--cpu leaves the GPUs out, so neither --gpu nor --power-caps goes with it");
    }
    if (power_caps && !parse_caps(power_caps, &caps)) {
        return cli_usage_error(&command, "--power-caps takes up to %d numbers of watts with commas",
                               PROBE_GPU_CAPS_MAX);
    }
    sluice_error err;
    sluice_status status = SLUICE_OK;
    if ((gpu || power_caps) && probe_gpu_count() == 0) {
        status = fail(&err, SLUICE_E_IO, "no NVIDIA GPU can be used here, or this build has no cuda backend");
    }
    if (status == SLUICE_OK && !gpu) {
        status = measure_cpu(threads, seconds, &shown, &err);
    }
    if (status == SLUICE_OK && !cpu) {
        status = measure_gpus(seconds, &caps, &shown, &err);
    }
    if (status != SLUICE_OK) {
        return cli_fail(&err);
    }
    if (shown.failed) {
        fprintf(stderr, "sluice: the result could not be written to standard output\n");
        return 1;
    }
    return 0;
}
