/* What is read of the machine: NVML (a library of our own), energy counters, the watch, the environment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "machine/energy.h"
#include "machine/environment.h"
#include "machine/listener.h"
#include "machine/power_cap.h"
#include "machine/process.h"
#include "machine/watch.h"
#include "record/line.h"

#include <json-c/json.h>
#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];
static char state_path[96];

static void put_file(const char *path, const char *text) {
    char full[256];
    snprintf(full, sizeof full, "%s/%s", folder, path);
    for (char *p = full + strlen(folder) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = '\0';
        mkdir(full, 0755);
    }
    FILE *f = fopen(full, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void nvml_state(const char *text) {
    put_file("nvml", text);
}

static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_machine_%d", (int)getpid());
    mkdir(folder, 0755);
    snprintf(state_path, sizeof state_path, "%s/nvml", folder);
    setenv("FAKE_NVML_STATE", state_path, 1);
    nvml_state("");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static struct nvml *open_fake(void) {
    struct nvml *n = NULL;
    sluice_error err;
    if (nvml_open(FAKE_NVML, &n, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    return n;
}

static void test_nvml_describe(void **state) {
    (void)state;
    nvml_state("sm_mhz 1965\nlimit1 200000\n");
    struct nvml *n = open_fake();
    struct nvml_info info;
    assert_int_equal(nvml_count(n), 2);
    nvml_describe(n, 1, &info);
    assert_string_equal(info.name, "Test Card 2");
    assert_string_equal(info.driver, "590.48.01");
    assert_int_equal(info.sms, 82);
    assert_int_equal(info.clock_sm_mhz, 1965);
    assert_int_equal(info.bus_width_bits, 384);
    assert_int_equal(info.ecc, -1); /* not supported */
    assert_int_equal(info.mig, -1); /* not in the library */
    assert_int_equal(info.pcie_gen_max, 0);
    assert_true(fabs(info.power_limit_w - 200) < 1e-9 && fabs(info.power_limit_default_w - 350) < 1e-9);
    nvml_describe(n, 9, &info);
    assert_string_equal(info.name, "");
    nvml_close(n);
}

static void test_nvml_read(void **state) {
    (void)state;
    nvml_state("power 334000\nenergy -1\nbusy 100\nthrottle 36\nprocesses 3\n");
    struct nvml *n = open_fake();
    struct nvml_reading r;
    char text[64];
    const int own[] = {4000001};
    nvml_read(n, 0, &r);
    assert_true(fabs(r.power_w - 334) < 1e-9 && fabs(r.busy_share - 1) < 1e-9);
    assert_true(r.energy_j < 0);
    nvml_throttle_text(r.throttle, text, sizeof text);
    assert_string_equal(text, "power limit, heat");
    assert_int_equal(nvml_foreign(n, 0, own, 1), 2);
    nvml_throttle_text(1, text, sizeof text);
    assert_string_equal(text, "");
    nvml_close(n);
}

static void test_nvml_absent(void **state) {
    (void)state;
    struct nvml *n = NULL;
    sluice_error err = {0};
    assert_int_equal(nvml_open("/nonexistent/libnvml.so", &n, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "management library"));
    nvml_state("broken 1\n");
    assert_int_equal(nvml_open(FAKE_NVML, &n, &err), SLUICE_E_IO);
    nvml_state("cards 0\n");
    assert_int_equal(nvml_open(FAKE_NVML, &n, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "no card"));
    mem_fail_nth(1);
    assert_int_equal(nvml_open(FAKE_NVML, &n, &err), SLUICE_E_NOMEM);
    assert_null(n);
}

static double limit_now(void) {
    struct nvml *n = open_fake();
    struct nvml_info info;
    nvml_describe(n, 0, &info);
    nvml_close(n);
    return info.power_limit_w;
}

static void test_power_cap(void **state) {
    (void)state;
    struct power_cap *cap = NULL;
    sluice_error err = {0};
    nvml_state("limit0 350000\n");
    assert_int_equal(power_cap_start(FAKE_NVML, 0, &cap, &err), SLUICE_OK);
    assert_int_equal(power_cap_set(cap, 200, &err), SLUICE_OK);
    assert_true(fabs(limit_now() - 200) < 1e-9);
    assert_int_equal(power_cap_set(cap, 900, &err), SLUICE_E_ARG); /* outside what the card allows */
    assert_non_null(strstr(err.text, "100 to 480 W"));
    assert_int_equal(power_cap_end(cap, &err), SLUICE_OK);
    assert_true(fabs(limit_now() - 350) < 1e-9);

    nvml_state("limit0 350000\nreadonly 1\n");
    assert_int_equal(power_cap_start(FAKE_NVML, 0, &cap, &err), SLUICE_OK);
    assert_int_equal(power_cap_set(cap, 200, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "administrator"));
    assert_int_equal(power_cap_end(cap, &err), SLUICE_E_IO); /* nor could the guardian set it */
}

/* A process that is killed outright leaves no card throttled. */
static void test_power_cap_crash(void **state) {
    (void)state;
    nvml_state("limit0 350000\n");
    pid_t pid = fork();
    if (pid == 0) {
        struct power_cap *cap = NULL;
        sluice_error err;
        if (power_cap_start(FAKE_NVML, 0, &cap, &err) == SLUICE_OK) {
            power_cap_set(cap, 150, &err);
        }
        kill(getpid(), SIGKILL);
    }
    assert_true(pid > 0);
    int how;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFSIGNALED(how));
    for (int i = 0; i < 500 && fabs(limit_now() - 350) > 1e-9; i++) {
        usleep(10000);
    }
    assert_true(fabs(limit_now() - 350) < 1e-9);
}

static void test_energy_nvml(void **state) {
    (void)state;
    nvml_state("energy 1000000\n");
    struct nvml *n = open_fake();
    struct energy *e = energy_open(folder, n);
    struct energy_reading a;
    struct energy_reading b;
    struct energy_use use;
    assert_int_equal(energy_domains(e), 2);
    assert_string_equal(energy_source(e), "gpu0 (NVML counter), gpu1 (NVML counter)");
    energy_read(e, &a);
    nvml_state("energy 1900000\n");
    energy_read(e, &b);
    energy_between(e, &a, &b, 0, &use);
    assert_true(use.valid && fabs(use.joules - 1800) < 1e-6);
    energy_between(e, &a, &b, 5, &use);
    assert_false(use.valid);
    assert_non_null(strstr(use.reason, "shorter than 5 s"));
    energy_between(e, &b, &b, 0, &use);
    assert_non_null(strstr(use.reason, "stood still"));
    nvml_state("energy -1\n");
    energy_read(e, &b);
    energy_between(e, &a, &b, 0, &use);
    assert_non_null(strstr(use.reason, "could not be read"));
    energy_close(e);
    nvml_close(n);
}

static void test_energy_rapl(void **state) {
    (void)state;
    put_file("sys/class/powercap/intel-rapl:0/name", "package-0\n");
    put_file("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "100000000\n");
    put_file("sys/class/powercap/intel-rapl:0/energy_uj", "90000000\n");
    put_file("sys/class/powercap/intel-rapl:0:0/name", "core\n"); /* part of the package */
    put_file("sys/class/powercap/intel-rapl:0:0/energy_uj", "5\n");
    put_file("sys/class/hwmon/hwmon3/name", "amdgpu\n");
    put_file("sys/class/hwmon/hwmon3/energy1_input", "1000000\n");
    struct energy *e = energy_open(folder, NULL);
    struct energy_reading a;
    struct energy_reading b;
    struct energy_use use;
    assert_int_equal(energy_domains(e), 2);
    energy_read(e, &a);
    put_file("sys/class/powercap/intel-rapl:0/energy_uj", "20000000\n"); /* once round: 30 J */
    put_file("sys/class/hwmon/hwmon3/energy1_input", "3500000\n");
    energy_read(e, &b);
    energy_between(e, &a, &b, 0, &use);
    assert_true(use.valid && fabs(use.joules - 32.5) < 1e-6);
    energy_close(e);
    e = energy_open("/nonexistent", NULL);
    assert_int_equal(energy_domains(e), 0);
    energy_between(e, &a, &b, 0, &use);
    assert_non_null(strstr(use.reason, "no energy counter"));
    energy_close(e);
}

/* Folders and secrets stay out of a server's command line. */
static void test_process_command(void **state) {
    (void)state;
    static const struct {
        const char *words; /* with | for the NUL between */
        const char *line;
    } cases[] = {
        {"/opt/x/llama-server|-m|/models/a.gguf|--port|8080", "llama-server -m a.gguf --port *"},
        {"server|--api-key|sesame|-n|5", "server --api-key *** -n 5"},
        {"server|--api-key=sesame|--hf-token|t", "server --api-key=*** --hf-token ***"},
        {"server|--model=/models/a.gguf|--max-tokens|9|--tokenizer|/t/tok",
         "server --model=a.gguf --max-tokens 9 --tokenizer tok"},
        {"server|--url|http://127.0.0.1:1/x|a=b", "server --url http://127.0.0.1:1/x a=b"},
    };
    char path[64], full[256], text[256], out[128], tight[8];
    snprintf(path, sizeof path, "proc/%d/cmdline", (int)getpid());
    snprintf(full, sizeof full, "%s/%s", folder, path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = strlen(cases[i].words);
        snprintf(text, sizeof text, "%s", cases[i].words);
        for (size_t k = 0; k < n; k++) {
            text[k] = text[k] == '|' ? '\0' : text[k];
        }
        put_file(path, "");
        FILE *f = fopen(full, "we");
        assert_non_null(f);
        assert_int_equal(fwrite(text, 1, n + 1, f), n + 1);
        fclose(f);
        assert_true(process_command(folder, (int)getpid(), out, sizeof out));
        assert_string_equal(out, cases[i].line);
        assert_true(process_command(folder, (int)getpid(), tight, sizeof tight));
        assert_true(strlen(tight) < sizeof tight && strncmp(tight, out, strlen(tight)) == 0);
    }
    assert_false(process_command(folder, 999999, out, sizeof out));
}

/* A /proc of our own: 1000 ticks pass, 300 of them stolen and 200 used by others. */
static void test_watch_shares(void **state) {
    (void)state;
    char stat[64];
    char line[256];
    snprintf(stat, sizeof stat, "proc/%d/stat", (int)getpid());
    put_file("proc/stat", "cpu 1000 0 0 9000 0 0 0 100\n");
    put_file(stat, "1 (a ) b) S 1 1 1 0 -1 0 0 0 0 0 60 30 10 0\n");
    put_file("proc/cpuinfo", "processor : 0\ncpu MHz\t\t: 2500.5\n");
    nvml_state("busy 90\nthrottle 4\nprocesses 1\npower 300000\ntemperature 50\n");
    struct nvml *n = open_fake();
    struct watch_options o = {.root = folder, .nvml = n, .interval_s = 0.01, .calibration_s = -1};
    struct watch *w = NULL;
    struct watch_summary sum;
    sluice_error err;
    char reasons[512];
    assert_int_equal(watch_start(&o, &w, &err), SLUICE_OK);
    usleep(50000);
    put_file("proc/stat", "cpu 1400 0 0 9300 0 0 0 400\n");
    snprintf(line, sizeof line, "1 (a ) b) S 1 1 1 0 -1 0 0 0 0 0 200 100 0 0\n");
    put_file(stat, line);
    nvml_state("busy 90\nthrottle 4\nprocesses 1\npower 380000\ntemperature 66\n");
    usleep(50000);
    watch_stop(w, &sum);
    assert_true(fabs(sum.steal_share - 0.3) < 1e-9);
    assert_true(fabs(sum.foreign_cpu_share - 0.2) < 1e-9); /* 400 busy, 200 of them ours */
    assert_true(sum.idle_c > 49 && sum.idle_c < 51 && sum.peak_c > 65 && fabs(sum.peak_w - 380) < 1e-6);
    assert_int_equal(sum.throttled, NVML_THROTTLE_POWER);
    assert_int_equal(sum.foreign_gpu_processes, 1);
    assert_int_equal(watch_verdict(&sum, reasons, sizeof reasons), VERDICT_NOISY);
    assert_null(strstr(reasons, "power limit")); /* the clock stood still under it */
    sum.throttled |= NVML_THROTTLE_THERMAL;
    assert_int_equal(watch_verdict(&sum, reasons, sizeof reasons), VERDICT_NOISY);
    assert_non_null(strstr(reasons, "held back (heat)"));
    sum.throttled = NVML_THROTTLE_POWER;
    sum.sm_mhz_min = 0.85 * sum.sm_mhz_max;
    assert_int_equal(watch_verdict(&sum, reasons, sizeof reasons), VERDICT_NOISY);
    assert_string_equal(reasons, "the hypervisor took 30.0% of the processor time; other programs used 20.0% of the "
                                 "processor time; the GPU's clocks were held back (power limit); 1 other processes "
                                 "computed on the GPU");
    struct buf b = {0};
    line_start(&b, "trace");
    line_key(&b, "x");
    buf_puts(&b, "1,");
    watch_trace_json(&b, w);
    line_end(&b);
    struct json_object *v = json_tokener_parse(b.data);
    struct json_object *series = NULL;
    struct json_object *mhz = NULL;
    assert_non_null(v);
    assert_true(json_object_object_get_ex(v, "series", &series));
    assert_true(json_object_object_get_ex(series, "cpu_mhz", &mhz));
    assert_true(json_object_array_length(mhz) >= 3);
    assert_true(fabs(json_object_get_double(json_object_array_get_idx(mhz, 0)) - 2500.5) < 0.01);
    json_object_put(v);
    buf_free(&b);
    watch_free(w);
    nvml_close(n);
}

static void test_watch_here(void **state) {
    (void)state;
    struct watch_options o = {.root = "", .interval_s = 0.02, .calibration_s = 0.02};
    struct watch *w = NULL;
    struct watch_summary sum;
    sluice_error err;
    char reasons[512];
    assert_int_equal(watch_start(&o, &w, &err), SLUICE_OK);
    watch_own(w, getppid());
    usleep(100000);
    watch_row(w, &sum);
    assert_true(sum.rss_peak > 0 && sum.seconds > 0.09 && sum.calibration_before_ms < 0);
    assert_true(sum.vram_peak == -1);
    watch_stop(w, &sum);
    assert_true(sum.calibration_before_ms > 0 && sum.calibration_after_ms > 0 && sum.seconds > 0.09);
    watch_verdict(&sum, reasons, sizeof reasons);
    watch_free(w);
    assert_int_equal(watch_start(&o, &w, &err), SLUICE_OK); /* freed without being stopped */
    watch_free(w);
    struct watch_summary quiet = {
        .steal_share = -1, .foreign_cpu_share = -1, .drift_share = -1, .throttled = -1, .foreign_gpu_processes = -1};
    assert_int_equal(watch_verdict(&quiet, reasons, sizeof reasons), VERDICT_CLEAN);
    assert_string_equal(reasons, "");
    for (long i = 1; i < 4; i++) {
        mem_fail_nth(i);
        if (watch_start(&o, &w, &err) == SLUICE_OK) {
            watch_free(w);
        }
        mem_fail_nth(0);
    }
}

/* Work of a process that we start, and that has ended when we look, is ours and not foreign. */
static void test_watch_children(void **state) {
    (void)state;
    struct watch_options o = {.root = "", .interval_s = 0.05, .calibration_s = -1};
    struct watch *w = NULL;
    struct watch_summary with;
    sluice_error err;
    assert_int_equal(watch_start(&o, &w, &err), SLUICE_OK);
    uint64_t end = clock_ns() + 400000000u;
    pid_t pid = fork();
    if (pid == 0) {
        while (clock_ns() < end) {
        }
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    watch_row(w, &with);
    double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
    /* other programs may be at work here too: what is sure is that our child's time is not among theirs */
    assert_true(with.foreign_cpu_share >= 0 && with.foreign_cpu_share <= 1 - 0.2 / cores);
    watch_free(w);
}

static void test_environment(void **state) {
    (void)state;
    put_file("proc/cpuinfo", "processor : 0\nmodel name\t: Some CPU\nmicrocode\t: 0x2b\nflags\t: fpu hypervisor sse\n");
    put_file("proc/loadavg", "0.50 0.1 0.1 1/1 1\n");
    put_file("etc/os-release", "NAME=x\nPRETTY_NAME=\"Some OS 12\"\n");
    put_file("sys/fs/cgroup/cpu.max", "150000 100000\n");
    put_file("sys/fs/cgroup/memory.max", "1073741824\n");
    nvml_state("");
    struct nvml *n = open_fake();
    struct environment e;
    environment_read(&e, folder, n);
    assert_string_equal(e.cpu, "Some CPU");
    assert_string_equal(e.os, "Some OS 12");
    assert_string_equal(e.microcode, "0x2b");
    assert_int_equal(e.virtualised, 1);
    assert_true(fabs(e.cpu_limit - 1.5) < 1e-9 && fabs(e.load1 - 0.5) < 1e-9);
    assert_true(e.memory_limit == 1u << 30);
    assert_int_equal(e.n_gpus, 2);
    struct buf b = {0};
    line_start(&b, "run");
    environment_json(&b, &e);
    line_end(&b);
    struct json_object *v = json_tokener_parse(b.data);
    struct json_object *env = NULL;
    struct json_object *gpus = NULL;
    assert_non_null(v);
    assert_true(json_object_object_get_ex(v, "environment", &env));
    assert_true(json_object_object_get_ex(env, "gpus", &gpus));
    assert_int_equal(json_object_array_length(gpus), 2);
    json_object_put(v);
    buf_free(&b);
    nvml_close(n);
    environment_read(&e, "", NULL); /* this machine */
    assert_true(e.cores_allowed > 0 && e.memory_total > 0 && e.kernel[0]);
    environment_read(&e, "/nonexistent", NULL);
    assert_int_equal(e.virtualised, -1);
    assert_true(e.load1 < 0);
}

static void test_listener(void **state) {
    (void)state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(getsockname(s, (struct sockaddr *)&a, &n), 0);
    assert_int_equal(listener_pid(ntohs(a.sin_port)), -1); /* bound, not listening */
    assert_int_equal(listen(s, 1), 0);
    assert_int_equal(listener_pid(ntohs(a.sin_port)), getpid());
    close(s);
    assert_int_equal(listener_port("http://127.0.0.1:8080/v1"), 8080);
    assert_int_equal(listener_port("http://localhost:1"), 1);
    assert_int_equal(listener_port("http://example.org:80"), 0);
    assert_int_equal(listener_port("http://127.0.0.1:99999"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nvml_describe),   cmocka_unit_test(test_nvml_read),
        cmocka_unit_test(test_nvml_absent),     cmocka_unit_test(test_power_cap),
        cmocka_unit_test(test_energy_nvml),     cmocka_unit_test(test_power_cap_crash),
        cmocka_unit_test(test_energy_rapl),     cmocka_unit_test(test_environment),
        cmocka_unit_test(test_process_command), cmocka_unit_test(test_watch_shares),
        cmocka_unit_test(test_watch_here),      cmocka_unit_test(test_watch_children),
        cmocka_unit_test(test_listener),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
