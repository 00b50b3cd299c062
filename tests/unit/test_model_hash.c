/* The model file's fingerprint and SHA-256: what they depend on, what is remembered, and what goes wrong. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/model_impl.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (1u << 20)

static char folder[64];
static char model_path[128], cache[128], memory[192];

/* A GGUF of one tensor of n_bytes, made an hour ago. */
static void write_model(size_t n_bytes) {
    struct gguf_writer *w;
    uint64_t dims[1] = {n_bytes / 4};
    uint32_t *data = malloc(n_bytes);
    for (size_t i = 0; i < n_bytes / 4; i++) {
        data[i] = (uint32_t)i * 2654435761u;
    }
    assert_int_equal(gguf_writer_open(model_path, &w, NULL), SLUICE_OK);
    gguf_writer_kv_str(w, "general.name", "test", 4);
    gguf_writer_tensor(w, "data", DTYPE_F32, 1, dims);
    assert_int_equal(gguf_writer_data(w, data, n_bytes, NULL), SLUICE_OK);
    assert_int_equal(gguf_writer_finish(w, NULL), SLUICE_OK);
    free(data);
}

static void age_model(int seconds) {
    struct timespec now, times[2];
    clock_gettime(CLOCK_REALTIME, &now);
    times[0] = times[1] = (struct timespec){.tv_sec = now.tv_sec - seconds};
    assert_int_equal(utimensat(AT_FDCWD, model_path, times, 0), 0);
}

static void flip(uint64_t at) {
    uint8_t byte;
    int fd = open(model_path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 16;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

struct loaded {
    struct model weights;
    sluice_model model;
};

static sluice_status load(struct loaded *l, sluice_error *err) {
    struct gguf_file *file;
    *l = (struct loaded){0};
    sluice_status status = gguf_open(model_path, &file, err);
    if (status == SLUICE_OK) {
        l->weights.file = file;
        l->model.model = &l->weights;
        status = model_hash_open(&l->model, err);
    }
    return status;
}

static void unload(struct loaded *l) {
    model_hash_close(&l->model);
    gguf_close(l->weights.file);
}

static void get_fingerprint(char out[65]) {
    struct loaded l;
    assert_int_equal(load(&l, NULL), SLUICE_OK);
    assert_int_equal(strlen(l.model.info.fingerprint), 64);
    strcpy(out, l.model.info.fingerprint);
    unload(&l);
}

static uint64_t data_offset(void) {
    struct gguf_file *file;
    assert_int_equal(gguf_open(model_path, &file, NULL), SLUICE_OK);
    uint64_t offset = file->data_offset;
    gguf_close(file);
    return offset;
}

/* SHA-256 of `first` and then the file. */
static void sum_file(const void *first, size_t n_first, char out[65]) {
    uint8_t block[4096], sum[HASH_BYTES];
    struct hash *h = hash_new();
    FILE *f = fopen(model_path, "rb");
    hash_add(h, first, n_first);
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;) {
        hash_add(h, block, n);
    }
    fclose(f);
    assert_true(hash_take(h, sum));
    hash_hex(sum, out);
    hash_free(h);
}

/* ---- Fingerprint ------------------------------------------------------------------------------------------- */

static void fingerprint_of_a_small_file_covers_every_byte(void **state) {
    (void)state;
    char expected[65], got[65];
    write_model(64 * 1024);
    struct stat st;
    assert_int_equal(stat(model_path, &st), 0);
    uint64_t size = (uint64_t)st.st_size;
    sum_file(&size, sizeof size, expected);
    get_fingerprint(got);
    assert_string_equal(got, expected);
    for (uint64_t at = data_offset(); at < size; at += 997) {
        flip(at);
        get_fingerprint(got);
        assert_string_not_equal(got, expected);
        flip(at);
    }
    get_fingerprint(got);
    assert_string_equal(got, expected);
}

static void fingerprint_of_a_large_file_covers_header_samples_and_size(void **state) {
    (void)state;
    char plain[65], got[65];
    uint64_t n = 100 * MIB;
    write_model(n);
    get_fingerprint(plain);
    uint64_t data = data_offset(), step = (n - MIB) / 16;
    uint64_t covered[] = {57 /* in the value of general.name */,
                          data,
                          data + MIB - 1,
                          data + step,
                          data + 7 * step + 9,
                          data + n - MIB,
                          data + n - 1};
    for (size_t i = 0; i < sizeof covered / sizeof covered[0]; i++) {
        flip(covered[i]);
        get_fingerprint(got);
        assert_string_not_equal(got, plain);
        flip(covered[i]);
    }
    flip(data + 2 * MIB);
    get_fingerprint(got);
    assert_string_equal(got, plain); /* between the samples */
    assert_int_equal(truncate(model_path, (off_t)(data + n + 1)), 0);
    get_fingerprint(got);
    assert_string_not_equal(got, plain);
}

/* ---- Whole file -------------------------------------------------------------------------------------------- */

static void forget(void) {
    unlink(memory);
}

static void get_sha256(char out[65]) {
    struct loaded l;
    sluice_error err = {0};
    assert_int_equal(load(&l, &err), SLUICE_OK);
    if (sluice_model_sha256(&l.model, -1, out, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    unload(&l);
}

static size_t read_memory(char *out, size_t cap) {
    FILE *f = fopen(memory, "r");
    if (!f) {
        return 0;
    }
    size_t n = fread(out, 1, cap - 1, f);
    out[n] = '\0';
    fclose(f);
    return n;
}

static void write_memory(const char *text) {
    FILE *f = fopen(memory, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void line_of_model(char *out, size_t cap, const char *sum) {
    struct stat st;
    assert_int_equal(stat(model_path, &st), 0);
    snprintf(out, cap, "%llu %llu %llu %llu %s\n", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
             (unsigned long long)st.st_size,
             (unsigned long long)st.st_mtim.tv_sec * 1000000000u + (unsigned long long)st.st_mtim.tv_nsec, sum);
}

static const char *const invented = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

static void hash_is_right_and_remembered(void **state) {
    (void)state;
    char expected[65], got[65], line[256], text[512];
    forget();
    write_model(3 * MIB);
    age_model(3600);
    sum_file("", 0, expected);
    get_sha256(got);
    assert_string_equal(got, expected);
    line_of_model(line, sizeof line, expected);
    read_memory(text, sizeof text);
    assert_string_equal(text, line);
    line_of_model(line, sizeof line, invented); /* an answer that can only come from there */
    write_memory(line);
    get_sha256(got);
    assert_string_equal(got, invented);
    age_model(1800);
    get_sha256(got);
    assert_string_equal(got, expected);
    line_of_model(line, sizeof line, expected);
    read_memory(text, sizeof text);
    assert_string_equal(text, line); /* what was known of the older file is gone */
}

static void remembered_is_known_at_once(void **state) {
    (void)state;
    char got[65], line[256];
    struct loaded l;
    write_model(MIB);
    age_model(3600);
    line_of_model(line, sizeof line, invented);
    write_memory(line);
    assert_int_equal(load(&l, NULL), SLUICE_OK);
    assert_int_equal(sluice_model_sha256(&l.model, 0, got, NULL), SLUICE_OK);
    assert_string_equal(got, invented);
    unload(&l);
}

static void a_file_just_written_is_not_remembered(void **state) {
    (void)state;
    char expected[65], got[65], text[512];
    forget();
    write_model(MIB);
    age_model(0);
    sum_file("", 0, expected);
    get_sha256(got);
    assert_string_equal(got, expected);
    assert_int_equal(read_memory(text, sizeof text), 0);
}

static void garbage_is_passed_over(void **state) {
    (void)state;
    char expected[65], got[65], line[256], text[4096];
    write_model(MIB);
    age_model(3600);
    sum_file("", 0, expected);
    line_of_model(line, sizeof line, invented);
    static const char *const garbage[] = {
        "\n",           "1 2 3\n",     "1 2 3 4 abc\n", "-1 2 3 4 00\n", "99999999999999999999999 1 1 1 00\n",
        "\x01\xff\xfe", "a b c d e\n",
    };
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0];
         i++) { /* garbage, then a line cut short, then the line */
        snprintf(text, sizeof text, "%s%.100s\n%s", garbage[i], line, i == 5 ? "" : line);
        write_memory(text);
        get_sha256(got);
        assert_string_equal(got, i == 5 ? expected : invented);
    }
    memset(text, '7', sizeof text);
    snprintf(text + 3000, sizeof text - 3000, "\n%s", line);
    write_memory(text);
    get_sha256(got);
    assert_string_equal(got, invented);
    snprintf(text, sizeof text, "%.*s", (int)strlen(line) - 2, line); /* one digit short, no newline */
    write_memory(text);
    get_sha256(got);
    assert_string_equal(got, expected);
    line[strlen(line) - 2] = 'G';
    write_memory(line);
    get_sha256(got);
    assert_string_equal(got, expected);
}

static void the_latest_256_are_kept(void **state) {
    (void)state;
    char got[65];
    static char text[1 << 16];
    size_t at = 0;
    write_model(MIB);
    age_model(3600);
    for (int i = 0; i < 300; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "1 %d 3 4 %s\n", i, invented);
    }
    write_memory(text);
    get_sha256(got);
    read_memory(text, sizeof text);
    size_t lines = 0;
    for (const char *p = text; (p = strchr(p, '\n')); p++) {
        lines++;
    }
    assert_int_equal(lines, 256);
    assert_memory_equal(text, "1 45 3 4 ", 9);
    assert_non_null(strstr(text, got));
}

static void no_place_to_remember_is_no_error(void **state) {
    (void)state;
    char expected[65], got[65], home[192], path[256];
    write_model(MIB);
    age_model(3600);
    sum_file("", 0, expected);
    static const char *const places[] = {"/dev/null/cache", "/proc/cache", "relative"};
    unsetenv("HOME");
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        setenv("XDG_CACHE_HOME", places[i], 1);
        get_sha256(got);
        assert_string_equal(got, expected);
    }
    assert_int_not_equal(access("relative", F_OK), 0);
    unsetenv("XDG_CACHE_HOME");
    get_sha256(got);
    assert_string_equal(got, expected);

    snprintf(home, sizeof home, "%s/home", folder);
    assert_int_equal(mkdir(home, 0700), 0);
    setenv("HOME", home, 1);
    get_sha256(got);
    snprintf(path, sizeof path, "%s/.cache/sluice/sha256", home);
    assert_int_equal(access(path, R_OK), 0);
    setenv("XDG_CACHE_HOME", cache, 1);

    forget(); /* neither a folder nor a pipe in its place may hold anything up */
    assert_int_equal(mkdir(memory, 0700), 0);
    get_sha256(got);
    assert_string_equal(got, expected);
    rmdir(memory);
    assert_int_equal(mkfifo(memory, 0600), 0);
    get_sha256(got);
    assert_string_equal(got, expected);
    forget();
}

/* ---- The thread -------------------------------------------------------------------------------------------- */

/* Grows the model by bytes that are not on the disk, so that its hash takes a while. */
static void write_slow_model(off_t bytes) {
    write_model(MIB);
    assert_int_equal(truncate(model_path, bytes), 0);
    age_model(3600);
    forget();
}

/* The scheduling policy of the thread with this name; -1 if there is none. */
static int policy_of(const char *name) {
    int policy = -1;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *d; (d = readdir(tasks));) {
        char path[320], comm[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", d->d_name);
        FILE *f = fopen(path, "r");
        if (f && fgets(comm, sizeof comm, f) && strncmp(comm, name, strlen(name)) == 0) {
            policy = sched_getscheduler(atoi(d->d_name));
        }
        if (f) {
            fclose(f);
        }
    }
    closedir(tasks);
    return policy;
}

static void runs_when_nothing_else_does_and_ends_with_the_model(void **state) {
    (void)state;
    char got[65];
    struct loaded l;
    sluice_error err = {0};
    write_slow_model((off_t)16 << 30);
    assert_int_equal(load(&l, NULL), SLUICE_OK);
    assert_int_equal(sluice_model_sha256(&l.model, 0, got, &err), SLUICE_E_BUSY);
    assert_non_null(strstr(err.text, "still being computed"));
    uint64_t start = clock_ns();
    assert_int_equal(sluice_model_sha256(&l.model, 30, got, &err), SLUICE_E_BUSY);
    assert_true(clock_ms_since(start) >= 29);
    while (policy_of("sluice-sha256") != SCHED_IDLE && clock_ms_since(start) < 10000) {
        usleep(1000);
    }
    assert_int_equal(policy_of("sluice-sha256"), SCHED_IDLE);
    start = clock_ns();
    unload(&l);
    assert_true(clock_ms_since(start) < 5000); /* 16 GiB would take longer */
    assert_int_equal(policy_of("sluice-sha256"), -1);
}

static void a_change_meanwhile_is_noticed(void **state) {
    (void)state;
    char got[65];
    struct loaded l;
    for (int what = 0; what < 2; what++) {
        sluice_error err = {0};
        write_slow_model((off_t)512 << 20);
        assert_int_equal(load(&l, NULL), SLUICE_OK);
        assert_int_equal(sluice_model_sha256(&l.model, 0, got, &err), SLUICE_E_BUSY);
        if (what == 0) {
            age_model(60);
        } else {
            assert_int_equal(truncate(model_path, ((off_t)512 << 20) + 1), 0);
        }
        assert_int_equal(sluice_model_sha256(&l.model, -1, got, &err), SLUICE_E_IO);
        assert_non_null(strstr(err.text, "changed while its SHA-256 was computed"));
        assert_int_equal(sluice_model_sha256(&l.model, 0, got, &err), SLUICE_E_IO); /* for good */
        unload(&l);
        assert_int_not_equal(access(memory, F_OK), 0);
    }
}

static void another_file_in_its_place_does_not_matter(void **state) {
    (void)state;
    char expected[65], got[65];
    struct loaded l;
    forget();
    write_model(MIB);
    age_model(3600);
    sum_file("", 0, expected);
    assert_int_equal(load(&l, NULL), SLUICE_OK);
    write_model(2 * MIB); /* renamed over the first */
    assert_int_equal(sluice_model_sha256(&l.model, -1, got, NULL), SLUICE_OK);
    assert_string_equal(got, expected);
    unload(&l);
}

static void *ask(void *arg) {
    char *got = calloc(1, 65);
    assert_int_equal(sluice_model_sha256(arg, -1, got, NULL), SLUICE_OK);
    return got;
}

static void many_threads_get_one_answer(void **state) {
    (void)state;
    char expected[65];
    struct loaded l;
    pthread_t threads[8];
    write_slow_model(64 << 20);
    sum_file("", 0, expected);
    assert_int_equal(load(&l, NULL), SLUICE_OK);
    for (int i = 0; i < 8; i++) {
        pthread_create(&threads[i], NULL, ask, &l.model);
    }
    for (int i = 0; i < 8; i++) {
        void *got;
        pthread_join(threads[i], &got);
        assert_string_equal(got, expected);
        free(got);
    }
    unload(&l);
}

static void missing_memory_is_an_error_that_passes(void **state) {
    (void)state;
    char expected[65], got[65];
    int refused = 0;
    write_model(MIB);
    age_model(3600);
    sum_file("", 0, expected);
    for (long n = 1; n < 12; n++) {
        struct loaded l = {0};
        sluice_error err = {0};
        forget();
        struct gguf_file *file;
        assert_int_equal(gguf_open(model_path, &file, &err), SLUICE_OK);
        l.weights.file = file;
        l.model.model = &l.weights;
        mem_fail_nth(n);
        sluice_status status = model_hash_open(&l.model, &err);
        if (status == SLUICE_OK) {
            status = sluice_model_sha256(&l.model, -1, got, &err);
            mem_fail_nth(0);
            assert_int_equal(sluice_model_sha256(&l.model, -1, got, NULL), SLUICE_OK);
            assert_string_equal(got, expected);
        }
        mem_fail_nth(0);
        assert_true(status == SLUICE_OK || status == SLUICE_E_NOMEM);
        assert_true(status == SLUICE_OK || strstr(err.text, "memory"));
        refused += status != SLUICE_OK;
        unload(&l);
    }
    assert_int_equal(refused, 4); /* table, fingerprint's sum; the thread's sum and block */
}

static void a_model_without_a_file_has_none(void **state) {
    (void)state;
    char got[65];
    sluice_model model = {0};
    sluice_error err = {0};
    assert_int_equal(sluice_model_sha256(&model, -1, got, &err), SLUICE_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "not loaded from a file"));
}

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/sluice-hash-XXXXXX");
    if (!mkdtemp(folder) || chdir(folder) != 0) {
        return -1;
    }
    snprintf(model_path, sizeof model_path, "%s/model.gguf", folder);
    snprintf(cache, sizeof cache, "%s/cache", folder);
    snprintf(memory, sizeof memory, "%s/sluice/sha256", cache);
    return setenv("XDG_CACHE_HOME", cache, 1);
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fingerprint_of_a_small_file_covers_every_byte),
        cmocka_unit_test(fingerprint_of_a_large_file_covers_header_samples_and_size),
        cmocka_unit_test(hash_is_right_and_remembered),
        cmocka_unit_test(remembered_is_known_at_once),
        cmocka_unit_test(a_file_just_written_is_not_remembered),
        cmocka_unit_test(garbage_is_passed_over),
        cmocka_unit_test(the_latest_256_are_kept),
        cmocka_unit_test(no_place_to_remember_is_no_error),
        cmocka_unit_test(runs_when_nothing_else_does_and_ends_with_the_model),
        cmocka_unit_test(a_change_meanwhile_is_noticed),
        cmocka_unit_test(another_file_in_its_place_does_not_matter),
        cmocka_unit_test(many_threads_get_one_answer),
        cmocka_unit_test(missing_memory_is_an_error_that_passes),
        cmocka_unit_test(a_model_without_a_file_has_none),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
