/* The GGUF writer: round trips, layout, and every way a file must not come into being. */
#include "base/mem.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "test_gguf_support.h"

#include <dirent.h>

static char folder[] = "/tmp/sluice-test-XXXXXX";
static char path[64];

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/out.gguf", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails if a temporary file was left behind */
}

static void check_folder_is_empty(void) {
    DIR *d = opendir(folder);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        assert_true(e->d_name[0] == '.');
    }
    closedir(d);
}

static const float row[40] = {1, 2, 3, -4.5f};

static void declare(struct gguf_writer *w) {
    static const struct gguf_str strings[] = {{"alpha", 5}, {"", 0}, {"gamma\n", 6}};
    gguf_writer_kv_str(w, "general.architecture", "lfm2", 4);
    gguf_writer_kv_u32(w, "a.u32", 4000000000u);
    gguf_writer_kv_f32(w, "a.f32", 0.25f);
    gguf_writer_kv_bool(w, "a.bool", true);
    gguf_writer_kv_i32_array(w, "a.i32s", (const int32_t[]){-1, 2}, 2);
    gguf_writer_kv_f32_array(w, "a.f32s", row, 4);
    gguf_writer_kv_str_array(w, "a.strings", strings, 3);
    gguf_writer_tensor(w, "odd", DTYPE_F32, 1, (const uint64_t[]){5});
    gguf_writer_tensor(w, "blocks", DTYPE_Q8_0, 3, (const uint64_t[]){32, 2, 3});
    gguf_writer_tensor(w, "last", DTYPE_BF16, 2, (const uint64_t[]){3, 7});
}

static const size_t sizes[] = {20, 34 * 6, 42};

static sluice_status fill(struct gguf_writer *w, sluice_error *err) {
    for (size_t t = 0; t < 3; t++) {
        uint8_t bytes[256];
        for (size_t i = 0; i < sizes[t]; i++) {
            bytes[i] = (uint8_t)(i + t);
        }
        size_t half = sizes[t] / 2;
        sluice_status s = gguf_writer_data(w, bytes, half, err);
        s = s == SLUICE_OK ? gguf_writer_data(w, bytes + half, sizes[t] - half, err) : s;
        if (s != SLUICE_OK) {
            return s;
        }
    }
    return SLUICE_OK;
}

static void write_sample(void) {
    struct gguf_writer *w;
    sluice_error err = {0};
    assert_int_equal(gguf_writer_open(path, &w, &err), SLUICE_OK);
    declare(w);
    assert_int_equal(fill(w, &err), SLUICE_OK);
    assert_int_equal(access(path, F_OK), -1); /* not before it is whole */
    assert_int_equal(gguf_writer_finish(w, &err), SLUICE_OK);
}

static void check_sample(const struct gguf_file *f) {
    uint32_t u = 0;
    float x = 0;
    bool flag = false;
    int64_t v = 0;
    assert_int_equal(f->version, 3);
    assert_int_equal(f->n_kv, 7);
    assert_int_equal(gguf_get_u32(f, "a.u32", &u, NULL), SLUICE_OK);
    assert_int_equal(u, 4000000000u);
    assert_int_equal(gguf_get_f32(f, "a.f32", &x, NULL), SLUICE_OK);
    assert_true(x == 0.25f);
    assert_int_equal(gguf_get_bool(f, "a.bool", &flag, NULL), SLUICE_OK);
    assert_true(flag);
    assert_true(gguf_kv_int(gguf_find(f, "a.i32s"), 0, &v) && v == -1);
    assert_int_equal(gguf_find(f, "a.f32s")->n, 4);
    assert_memory_equal(gguf_find(f, "a.strings")->strings[2].s, "gamma\n", 6);
    static const char *const names[] = {"odd", "blocks", "last"};
    for (size_t t = 0; t < 3; t++) {
        const struct gguf_tensor *tensor = gguf_find_tensor(f, names[t]);
        assert_ptr_equal(tensor, &f->tensors[t]);
        assert_int_equal(tensor->n_bytes, sizes[t]);
        for (size_t i = 0; i < sizes[t]; i++) {
            assert_int_equal(((const uint8_t *)tensor->data)[i], (uint8_t)(i + t));
        }
    }
    assert_int_equal(f->tensors[1].n_dims, 3);
    assert_int_equal(f->tensors[1].dims[2], 3);
    assert_int_equal(f->file_bytes, f->data_offset + 32 + 224 + 64); /* the last one is padded as well */
}

static void round_trip(void **state) {
    (void)state;
    write_sample();
    struct gguf_file *f;
    sluice_error err = {0};
    assert_int_equal(gguf_open(path, &f, &err), SLUICE_OK);
    check_sample(f);
    gguf_close(f);
    unlink(path);
    check_folder_is_empty();
}

/* Copying every entry and tensor of a file gives the same bytes. */
static void copy_is_identical(void **state) {
    (void)state;
    struct buf b = sample_file(3);
    put_padding(&b, 32);
    struct gguf_file *in;
    struct gguf_writer *w;
    sluice_error err = {0};
    assert_int_equal(gguf_open_memory(b.data, b.len, "in.gguf", &in, &err), SLUICE_OK);
    assert_int_equal(gguf_writer_open(path, &w, &err), SLUICE_OK);
    for (size_t i = 0; i < in->n_kv; i++) {
        gguf_writer_kv_copy(w, &in->kv[i]);
    }
    for (size_t i = 0; i < in->n_tensors; i++) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)in->tensors[i].name.n, in->tensors[i].name.s);
        gguf_writer_tensor(w, name, in->tensors[i].type, in->tensors[i].n_dims, in->tensors[i].dims);
    }
    for (size_t i = 0; i < in->n_tensors; i++) {
        assert_int_equal(gguf_writer_data(w, in->tensors[i].data, in->tensors[i].n_bytes, &err), SLUICE_OK);
    }
    assert_int_equal(gguf_writer_finish(w, &err), SLUICE_OK);
    struct gguf_file *out;
    assert_int_equal(gguf_open(path, &out, &err), SLUICE_OK);
    assert_int_equal(out->file_bytes, b.len);
    /* the bytes between the tensors are padding: the sample fills them, the writer zeroes them */
    assert_memory_equal(out->map, b.data, out->data_offset + 40);
    assert_memory_equal(out->tensors[1].data, in->tensors[1].data, 18);
    gguf_close(out);
    gguf_close(in);
    buf_free(&b);
    unlink(path);
}

static void vocabulary_only(void **state) {
    (void)state;
    struct gguf_writer *w;
    sluice_error err = {0};
    assert_int_equal(gguf_writer_open(path, &w, &err), SLUICE_OK);
    gguf_writer_kv_u32(w, "a.u32", 1);
    assert_int_equal(gguf_writer_finish(w, &err), SLUICE_OK);
    struct gguf_file *f;
    assert_int_equal(gguf_open(path, &f, &err), SLUICE_OK);
    assert_int_equal(f->n_kv, 1);
    gguf_close(f);
    unlink(path);
}

/* Ends the writer and expects this text; nothing may be left on disk. */
static void expect_failure(struct gguf_writer *w, sluice_status status, const char *text) {
    sluice_error err = {0};
    assert_int_equal(gguf_writer_finish(w, &err), status);
    assert_non_null(strstr(err.text, text));
    check_folder_is_empty();
}

static struct gguf_writer *open_writer(void) {
    struct gguf_writer *w;
    assert_int_equal(gguf_writer_open(path, &w, NULL), SLUICE_OK);
    return w;
}

static void misuse_is_reported(void **state) {
    (void)state;
    sluice_error err = {0};
    struct gguf_writer *w = open_writer();
    gguf_writer_kv_u32(w, "k", 1);
    gguf_writer_kv_bool(w, "k", true);
    expect_failure(w, SLUICE_E_ARG, "metadata key k was given twice");
    w = open_writer();
    gguf_writer_tensor(w, "t", DTYPE_F32, 1, (const uint64_t[]){8});
    gguf_writer_tensor(w, "t", DTYPE_F32, 1, (const uint64_t[]){8});
    expect_failure(w, SLUICE_E_ARG, "tensor name t was given twice");
    w = open_writer();
    gguf_writer_tensor(w, "t", DTYPE_Q4_K, 1, (const uint64_t[]){255});
    expect_failure(w, SLUICE_E_ARG, "cannot add tensor t");
    w = open_writer();
    gguf_writer_tensor(w, "t", DTYPE_F32, 4, (const uint64_t[]){1ull << 39, 1ull << 39, 1ull << 39, 2});
    expect_failure(w, SLUICE_E_ARG, "cannot add tensor t");
    w = open_writer();
    gguf_writer_tensor(w, "t", (enum dtype)10, 1, (const uint64_t[]){256});
    expect_failure(w, SLUICE_E_ARG, "cannot add tensor t");
    w = open_writer();
    declare(w);
    expect_failure(w, SLUICE_E_ARG, "the data of tensor odd are not complete");
    w = open_writer();
    declare(w);
    assert_int_equal(gguf_writer_data(w, row, 24, &err), SLUICE_E_ARG);
    assert_non_null(strstr(err.text, "more data than its tensors hold"));
    expect_failure(w, SLUICE_E_ARG, "more data");
    w = open_writer();
    declare(w);
    assert_int_equal(gguf_writer_data(w, row, 20, &err), SLUICE_OK);
    gguf_writer_kv_u32(w, "late", 1);
    expect_failure(w, SLUICE_E_ARG, "after the header");
    w = open_writer();
    declare(w);
    gguf_writer_abort(w);
    check_folder_is_empty();
    gguf_writer_abort(NULL);
    assert_int_equal(gguf_writer_open("/nonexistent/x.gguf", &w, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "cannot create /nonexistent/x.gguf: No such file"));
}

/* A limit on the file size stands for a full disk: the write comes back short, the next one fails. */
static void full_disk(void **state) {
    (void)state;
    struct rlimit old, small = {0};
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    for (rlim_t bytes = 0; bytes < 700; bytes += 100) {
        small = old;
        small.rlim_cur = bytes;
        struct gguf_writer *w = open_writer();
        declare(w);
        sluice_error err = {0};
        setrlimit(RLIMIT_FSIZE, &small);
        sluice_status s = fill(w, &err);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(s, SLUICE_E_IO);
        assert_non_null(strstr(err.text, "cannot write"));
        expect_failure(w, SLUICE_E_IO, "File too large");
    }
}

/* An earlier file of that name survives a failed write and is replaced by a good one. */
static void replaces_only_when_whole(void **state) {
    (void)state;
    write_sample();
    struct stat before, after;
    stat(path, &before);
    struct gguf_writer *w = open_writer();
    declare(w);
    sluice_error err = {0};
    assert_int_equal(gguf_writer_finish(w, &err), SLUICE_E_ARG);
    stat(path, &after);
    assert_int_equal(before.st_ino, after.st_ino);
    w = open_writer();
    declare(w);
    assert_int_equal(fill(w, &err), SLUICE_OK);
    assert_int_equal(gguf_writer_finish(w, &err), SLUICE_OK);
    stat(path, &after);
    assert_int_not_equal(before.st_ino, after.st_ino);
    unlink(path);
}

static void out_of_memory_leaks_nothing(void **state) {
    (void)state;
    sluice_status s = SLUICE_E_NOMEM;
    for (long nth = 1; s != SLUICE_OK; nth++) {
        sluice_error err = {0};
        struct gguf_writer *w = NULL;
        mem_fail_nth(nth);
        s = gguf_writer_open(path, &w, &err);
        if (s == SLUICE_OK) {
            declare(w);
            s = fill(w, &err);
            sluice_status end = gguf_writer_finish(w, &err);
            s = s == SLUICE_OK ? end : s;
        }
        mem_fail_nth(0);
        if (s != SLUICE_OK) {
            assert_int_equal(s, SLUICE_E_NOMEM);
            assert_non_null(strstr(err.text, "no memory"));
            check_folder_is_empty();
        }
    }
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(copy_is_identical),
        cmocka_unit_test(vocabulary_only),
        cmocka_unit_test(misuse_is_reported),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(replaces_only_when_whole),
        cmocka_unit_test(out_of_memory_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
