/* The state file: what is written is read back, and nothing else is believed. */
#include "engine/state_file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define VOCAB      1000
#define PAGE_BYTES 200
#define RECORD     (4 + 4 * KV_PAGE_TOKENS + PAGE_BYTES + 32)

static char folder[64], path[128];

static const struct state_header header = {
    .fingerprint = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    .page_format = "test-1",
    .page_bytes = PAGE_BYTES,
};

struct record {
    uint32_t parent;
    int32_t tokens[KV_PAGE_TOKENS];
    uint8_t page[PAGE_BYTES];
};

static struct record make_record(uint32_t number) {
    struct record r = {.parent = number % 3 == 0 ? STATE_ROOT : number - 1 - number % 2};
    for (uint32_t i = 0; i < KV_PAGE_TOKENS; i++) {
        r.tokens[i] = (int32_t)((number * 31 + i) % VOCAB);
    }
    for (uint32_t i = 0; i < PAGE_BYTES; i++) {
        r.page[i] = (uint8_t)(number * 7 + i * 3);
    }
    return r;
}

static sluice_status write_file_as(const struct state_header *h, uint32_t n, sluice_error *err) {
    struct state_writer *w;
    sluice_status status = state_writer_open(path, h, &w, err);
    for (uint32_t i = 0; i < n && status == SLUICE_OK; i++) {
        struct record r = make_record(i);
        status = state_writer_put(w, r.parent, r.tokens, r.page, err);
        if (status != SLUICE_OK) {
            state_writer_abandon(w);
        }
    }
    uint64_t n_bytes = 0;
    struct stat st;
    if (status == SLUICE_OK && (status = state_writer_finish(w, &n_bytes, err)) == SLUICE_OK) {
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, n_bytes);
    }
    return status;
}

static void write_file(uint32_t n) {
    sluice_error err = {0};
    if (write_file_as(&header, n, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
}

/* Reads all records and compares them with those that write_file makes. */
static sluice_status read_file(uint32_t *n, sluice_error *err) {
    struct state_reader *r;
    struct record got;
    bool end = false;
    *n = 0;
    sluice_status status = state_reader_open(path, &header, &r, err);
    if (status != SLUICE_OK) {
        assert_null(r);
        return status;
    }
    while ((status = state_reader_next(r, VOCAB, &got.parent, got.tokens, got.page, &end, err)) == SLUICE_OK && !end) {
        struct record expected = make_record((*n)++);
        assert_int_equal(got.parent, expected.parent);
        assert_memory_equal(got.tokens, expected.tokens, sizeof got.tokens);
        assert_memory_equal(got.page, expected.page, sizeof got.page);
    }
    if (status == SLUICE_OK) {
        assert_int_equal(state_reader_next(r, VOCAB, &got.parent, got.tokens, got.page, &end, err), SLUICE_OK);
        assert_true(end);
    }
    state_reader_free(r);
    return status;
}

static void expect_refusal(sluice_status status, const char *words) {
    sluice_error err = {0};
    uint32_t n;
    assert_int_equal(read_file(&n, &err), status);
    if (!strstr(err.text, words) || !strstr(err.text, "state.bin")) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    }
}

static size_t file_bytes(void) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

static void poke(size_t at, const void *bytes, size_t n) {
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, bytes, n, (off_t)at), (ssize_t)n);
    close(fd);
}

static void flip(size_t at, int bit) {
    uint8_t byte;
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    close(fd);
    byte ^= (uint8_t)(1 << bit);
    poke(at, &byte, 1);
}

/* Writes the sum that belongs behind n bytes at `at`; number is counted in if it is one. */
static void seal(size_t at, size_t n, const uint64_t *number) {
    uint8_t bytes[RECORD], sum[HASH_BYTES];
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, bytes, n, (off_t)at), (ssize_t)n);
    close(fd);
    struct hash *h = hash_new();
    if (number) {
        hash_add(h, number, sizeof *number);
    }
    hash_add(h, bytes, n);
    assert_true(hash_take(h, sum));
    hash_free(h);
    poke(at + n, sum, sizeof sum);
}

static void only_the_file_is_there(void) {
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] != '.') {
            assert_string_equal(e->d_name, "state.bin");
        }
    }
    closedir(d);
}

/* ---- Round trips ------------------------------------------------------------------------------------------- */

static void what_was_written_is_read(void **state) {
    (void)state;
    static const uint32_t counts[] = {0, 1, 2, 100};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        uint32_t n;
        sluice_error err = {0};
        write_file(counts[i]);
        assert_int_equal(file_bytes(), 160 + counts[i] * RECORD + 40);
        assert_int_equal(read_file(&n, &err), SLUICE_OK);
        assert_int_equal(n, counts[i]);
        only_the_file_is_there();
    }
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void works_without_a_folder_in_the_path(void **state) {
    (void)state;
    struct state_writer *w;
    struct state_reader *r;
    assert_int_equal(state_writer_open("state.bin", &header, &w, NULL), SLUICE_OK);
    assert_int_equal(state_writer_finish(w, NULL, NULL), SLUICE_OK);
    assert_int_equal(state_reader_open("state.bin", &header, &r, NULL), SLUICE_OK);
    assert_int_equal(state_reader_bytes(r), 200);
    state_reader_free(r);
    only_the_file_is_there();
}

static void the_old_file_stays_until_the_new_one_is_whole(void **state) {
    (void)state;
    struct state_writer *w;
    struct record r = make_record(0);
    uint32_t n;
    write_file(3);
    assert_int_equal(state_writer_open(path, &header, &w, NULL), SLUICE_OK);
    assert_int_equal(state_writer_put(w, r.parent, r.tokens, r.page, NULL), SLUICE_OK);
    assert_int_equal(read_file(&n, NULL), SLUICE_OK);
    assert_int_equal(n, 3);
    state_writer_abandon(w);
    only_the_file_is_there();
    assert_int_equal(read_file(&n, NULL), SLUICE_OK);
    assert_int_equal(n, 3);
    state_writer_abandon(NULL);
}

static void a_parent_must_come_first(void **state) {
    (void)state;
    struct state_writer *w;
    struct record r = make_record(0);
    sluice_error err = {0};
    assert_int_equal(state_writer_open(path, &header, &w, NULL), SLUICE_OK);
    assert_int_equal(state_writer_put(w, 0, r.tokens, r.page, &err), SLUICE_E_ARG);
    assert_non_null(strstr(err.text, "parent 0"));
    state_writer_abandon(w);
}

/* ---- Files not to be believed ------------------------------------------------------------------------------ */

static void every_cut_is_noticed(void **state) {
    (void)state;
    write_file(3);
    for (size_t n = file_bytes(); n-- > 0;) {
        assert_int_equal(truncate(path, (off_t)n), 0);
        expect_refusal(SLUICE_E_FORMAT, n < 16 ? "no sluice state file" : n < 160 ? "inside its header" : "cut off: ");
    }
    write_file(3);
    assert_int_equal(truncate(path, 160 + 2 * RECORD), 0);
    expect_refusal(SLUICE_E_FORMAT, "ends after 2 whole pages");
}

static void every_flipped_bit_is_noticed(void **state) {
    (void)state;
    write_file(2);
    size_t size = file_bytes();
    for (size_t at = 0; at < size; at++) {
        int bit = (int)(at * 5 % 8);
        flip(at, bit);
        expect_refusal(SLUICE_E_FORMAT, at < 16                     ? "no sluice state file"
                                        : at < 160                  ? "checksum of its header"
                                        : at < 160 + RECORD         ? "checksum of page 0"
                                        : at < 160 + 2 * RECORD     ? "checksum of page 1"
                                        : at < 160 + 2 * RECORD + 4 ? "cut off: " /* seen as one more record */
                                                                    : "checksum of the end mark behind page 2");
        flip(at, bit);
    }
    uint32_t n;
    assert_int_equal(read_file(&n, NULL), SLUICE_OK);
}

static void bytes_behind_the_end_are_noticed(void **state) {
    (void)state;
    write_file(1);
    poke(file_bytes(), "x", 1);
    expect_refusal(SLUICE_E_FORMAT, "more bytes follow");
}

static void exchanged_records_are_noticed(void **state) {
    (void)state;
    uint8_t first[RECORD], second[RECORD];
    write_file(6);
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, first, RECORD, 160), RECORD);
    assert_int_equal(pread(fd, second, RECORD, 160 + 3 * RECORD), RECORD); /* also a child of the root */
    close(fd);
    poke(160, second, RECORD);
    poke(160 + 3 * RECORD, first, RECORD);
    expect_refusal(SLUICE_E_FORMAT, "checksum of page 0");
}

static void another_model_backend_or_build_is_told(void **state) {
    (void)state;
    struct state_header other = header;
    other.fingerprint[5] = 'f';
    assert_int_equal(write_file_as(&other, 1, NULL), SLUICE_OK);
    expect_refusal(SLUICE_E_UNSUPPORTED, "another model (fingerprint 00112f334455..., that of this one begins with "
                                         "001122334455)");
    other = header;
    strcpy(other.page_format, "cpu\n9");
    assert_int_equal(write_file_as(&other, 1, NULL), SLUICE_OK);
    expect_refusal(SLUICE_E_UNSUPPORTED, "in the form cpu?9; this backend's are in the form test-1");
    other = header;
    other.page_bytes = PAGE_BYTES - 1;
    assert_int_equal(write_file_as(&other, 1, NULL), SLUICE_OK);
    expect_refusal(SLUICE_E_UNSUPPORTED, "pages of 64 tokens in 199 bytes; those of this engine are 64 tokens in 200");
    write_file(1);
    uint32_t value = 2;
    poke(16, &value, sizeof value);
    seal(0, 128, NULL);
    expect_refusal(SLUICE_E_UNSUPPORTED, "version 2; this build reads version 1");
    write_file(1);
    value = 32;
    poke(20, &value, sizeof value);
    seal(0, 128, NULL);
    expect_refusal(SLUICE_E_UNSUPPORTED, "pages of 32 tokens");
}

static void wrong_fields_under_a_right_sum_are_refused(void **state) {
    (void)state;
    static const int32_t tokens[] = {VOCAB, -1, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        write_file(1);
        poke(160 + 4 + 4 * 63, &tokens[i], 4);
        seal(160, RECORD - 32, &(uint64_t){0});
        expect_refusal(SLUICE_E_FORMAT, "the vocabulary has 1000");
    }
    static const uint32_t parents[] = {2, 3, UINT32_MAX - 1};
    for (size_t i = 0; i < sizeof parents / sizeof parents[0]; i++) {
        write_file(2);
        poke(160 + RECORD, &parents[i], 4);
        seal(160 + RECORD, RECORD - 32, &(uint64_t){1});
        expect_refusal(SLUICE_E_FORMAT, "which does not come before it");
    }
    uint32_t n = 2;
    write_file(1);
    poke(160 + RECORD + 4, &n, 4);
    seal(160 + RECORD, 8, &(uint64_t){1});
    expect_refusal(SLUICE_E_FORMAT, "should hold 2 pages and holds 1");
}

static void what_is_no_file_is_not_read(void **state) {
    (void)state;
    uint32_t n;
    sluice_error err = {0};
    unlink(path);
    assert_int_equal(read_file(&n, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, strerror(ENOENT)));
    assert_int_equal(mkdir(path, 0700), 0);
    expect_refusal(SLUICE_E_IO, "it is a folder, not a file");
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refusal(SLUICE_E_IO, "it is a device or pipe, not a file");
    unlink(path);
}

/* ---- Writing that fails ------------------------------------------------------------------------------------ */

/* The limit on a file's size stands for a full disk: write() fails after some of the bytes. */
static void a_full_disk_leaves_the_old_file(void **state) {
    (void)state;
    struct rlimit before, limit;
    uint32_t n;
    write_file(2);
    size_t whole = 160 + 5 * RECORD + 40;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    for (size_t room = 0; room < whole; room += room < 200 ? 40 : 90) {
        sluice_error err = {0};
        limit = before;
        limit.rlim_cur = room;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        sluice_status status = write_file_as(&header, 5, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, SLUICE_E_IO);
        assert_non_null(strstr(err.text, strerror(EFBIG)));
        only_the_file_is_there();
        assert_int_equal(read_file(&n, NULL), SLUICE_OK);
        assert_int_equal(n, 2);
    }
    signal(SIGXFSZ, SIG_DFL);
}

static void devices_and_folders_are_not_replaced(void **state) {
    (void)state;
    struct state_writer *w;
    sluice_error err = {0};
    assert_int_equal(state_writer_open("/dev/full", &header, &w, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "device or pipe, not a file"));
    assert_int_not_equal(access("/dev/full.tmp", F_OK), 0);
    assert_int_equal(state_writer_open(folder, &header, &w, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "a folder, not a file"));
    assert_int_equal(state_writer_open("/nowhere/state.bin", &header, &w, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, strerror(ENOENT)));
}

static void a_full_device_behind_the_temporary_name_is_not_followed(void **state) {
    (void)state;
    char tmp[160];
    sluice_error err = {0};
    write_file(1);
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    assert_int_equal(symlink("/dev/full", tmp), 0);
    assert_int_equal(write_file_as(&header, 1, &err), SLUICE_E_IO);
    unlink(tmp);
    assert_int_equal(mkfifo(tmp, 0600), 0);
    assert_int_equal(write_file_as(&header, 1, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "in the way"));
    unlink(tmp);
}

static void one_writer_at_a_time(void **state) {
    (void)state;
    struct state_writer *w, *second;
    sluice_error err = {0};
    uint32_t n;
    assert_int_equal(state_writer_open(path, &header, &w, NULL), SLUICE_OK);
    assert_int_equal(state_writer_open(path, &header, &second, &err), SLUICE_E_BUSY);
    assert_non_null(strstr(err.text, "being written by another engine"));
    assert_int_equal(state_writer_finish(w, NULL, NULL), SLUICE_OK);
    assert_int_equal(read_file(&n, NULL), SLUICE_OK);
    only_the_file_is_there();
}

static void what_a_dead_writer_left_is_used_up(void **state) {
    (void)state;
    char tmp[160];
    uint32_t n;
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    FILE *f = fopen(tmp, "w");
    for (int i = 0; i < 10000; i++) {
        fputs("left behind", f);
    }
    fclose(f);
    write_file(2);
    only_the_file_is_there();
    assert_int_equal(read_file(&n, NULL), SLUICE_OK);
    assert_int_equal(n, 2);
}

static void missing_memory_is_an_error(void **state) {
    (void)state;
    uint32_t n;
    write_file(2);
    for (long fail_at = 1; fail_at <= 4; fail_at++) {
        sluice_error err = {0};
        mem_fail_nth(fail_at);
        sluice_status status = write_file_as(&header, 5, &err);
        mem_fail_nth(0);
        assert_int_equal(status, SLUICE_E_NOMEM);
        assert_non_null(strstr(err.text, "out of memory"));
        only_the_file_is_there();
        assert_int_equal(read_file(&n, NULL), SLUICE_OK);
        assert_int_equal(n, 2);
    }
    for (long fail_at = 1; fail_at <= 2; fail_at++) {
        mem_fail_nth(fail_at);
        expect_refusal(SLUICE_E_NOMEM, "out of memory");
        mem_fail_nth(0);
    }
    mem_fail_nth(1);
    state_set_aside(path);
    mem_fail_nth(0);
    only_the_file_is_there();
}

static void a_refused_file_is_set_aside(void **state) {
    (void)state;
    char refused[160];
    snprintf(refused, sizeof refused, "%s.refused", path);
    for (int i = 0; i < 2; i++) {
        write_file(1);
        state_set_aside(path);
        assert_int_equal(access(refused, F_OK), 0);
        assert_int_not_equal(access(path, F_OK), 0);
    }
    unlink(refused);
    state_set_aside(path); /* nothing there */
    assert_int_not_equal(access(refused, F_OK), 0);
}

static void long_paths_are_shortened_in_messages(void **state) {
    (void)state;
    char deep[400];
    struct state_reader *r;
    sluice_error err = {0};
    memset(deep, 'a', sizeof deep);
    deep[0] = '/';
    strcpy(deep + 380, "/state.bin");
    assert_int_equal(state_reader_open(deep, &header, &r, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "cannot open ...aaa"));
    assert_non_null(strstr(err.text, "/state.bin: "));
}

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/sluice-state-XXXXXX");
    if (!mkdtemp(folder) || chdir(folder) != 0) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/state.bin", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(works_without_a_folder_in_the_path),
        cmocka_unit_test(the_old_file_stays_until_the_new_one_is_whole),
        cmocka_unit_test(a_parent_must_come_first),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(bytes_behind_the_end_are_noticed),
        cmocka_unit_test(exchanged_records_are_noticed),
        cmocka_unit_test(another_model_backend_or_build_is_told),
        cmocka_unit_test(wrong_fields_under_a_right_sum_are_refused),
        cmocka_unit_test(what_is_no_file_is_not_read),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(devices_and_folders_are_not_replaced),
        cmocka_unit_test(a_full_device_behind_the_temporary_name_is_not_followed),
        cmocka_unit_test(one_writer_at_a_time),
        cmocka_unit_test(what_a_dead_writer_left_is_used_up),
        cmocka_unit_test(missing_memory_is_an_error),
        cmocka_unit_test(a_refused_file_is_set_aside),
        cmocka_unit_test(long_paths_are_shortened_in_messages),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
