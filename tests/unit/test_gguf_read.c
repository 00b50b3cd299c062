/* The GGUF reader: what it gives for a good file, and one sentence for every kind of bad one. */
#include "base/limits.h"
#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "test_gguf_support.h"

/* Everything gguf.h promises about an open file. */
static void check_invariants(const struct gguf_file *f, const void *base) {
    const uint8_t *begin = base, *end = begin + f->file_bytes;
    uint64_t sum = 0;
    assert_true(f->data_offset <= f->file_bytes || f->n_tensors == 0);
    for (size_t i = 0; i < f->n_kv; i++) {
        const struct gguf_kv *kv = &f->kv[i];
        assert_in_range(kv->type, 0, GGUF_F64);
        assert_true(kv->data >= begin && kv->data <= end);
        assert_true((kv->strings != NULL) == ((kv->type == GGUF_ARRAY ? kv->elem_type : kv->type) == GGUF_STRING));
        for (uint64_t k = 0; k < kv->n; k++) {
            int64_t v;
            double d;
            (void)gguf_kv_int(kv, k, &v);
            (void)gguf_kv_double(kv, k, &d);
            if (kv->strings) {
                const uint8_t *s = (const uint8_t *)kv->strings[k].s;
                assert_true(s >= begin && s <= end && kv->strings[k].n <= (size_t)(end - s));
            }
        }
    }
    for (size_t i = 0; i < f->n_tensors; i++) {
        const struct gguf_tensor *t = &f->tensors[i];
        assert_true(dtype_get(t->type)->usable);
        assert_in_range(t->n_dims, 1, 4);
        assert_int_equal(t->n_elems, t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]);
        assert_int_equal(t->n_bytes, dtype_row_bytes(dtype_get(t->type), t->n_elems));
        assert_true(t->offset >= f->data_offset && t->offset + t->n_bytes <= f->file_bytes);
        assert_ptr_equal(t->data, begin + t->offset);
        assert_int_equal((t->offset - f->data_offset) % f->alignment, 0);
        sum += t->n_bytes;
    }
    assert_int_equal(sum, f->tensor_bytes);
}

/* Expects failure with this text in the message. */
static void expect_bad(struct buf *b, sluice_status status, const char *text) {
    void *copy;
    struct gguf_file *f;
    sluice_error err = {0};
    sluice_status s = open_exact(b->data, b->len, &copy, &f, &err);
    if (s != status || !strstr(err.text, text)) {
        fail_msg("got %s: \"%s\", expected %s: \"...%s...\"", sluice_status_name(s), err.text,
                 sluice_status_name(status), text);
    }
    assert_null(f);
    assert_null(strchr(err.text, '\n'));
    free(copy);
    buf_free(b);
}

static void reads_every_kind(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct buf b = sample_file(version);
        void *copy;
        struct gguf_file *f;
        sluice_error err = {0};
        assert_int_equal(open_exact(b.data, b.len, &copy, &f, &err), SLUICE_OK);
        check_invariants(f, copy);
        assert_int_equal(f->version, version);
        assert_int_equal(f->alignment, 32);
        assert_int_equal(f->n_kv, 9);
        uint32_t u = 0;
        int64_t v = 0;
        double d = 0;
        bool flag = false;
        struct gguf_str s;
        assert_int_equal(gguf_get_str(f, "general.architecture", &s, &err), SLUICE_OK);
        assert_memory_equal(s.s, "lfm2", 4);
        assert_int_equal(gguf_get_u32(f, "a.u8", &u, &err), SLUICE_OK);
        assert_int_equal(u, 200);
        assert_true(gguf_kv_int(gguf_find(f, "a.i64"), 0, &v));
        assert_int_equal(v, -5);
        assert_true(gguf_kv_double(gguf_find(f, "a.f64"), 0, &d));
        assert_true(d == 0.1);
        assert_int_equal(gguf_get_bool(f, "a.bool", &flag, &err), SLUICE_OK);
        assert_true(flag);
        const struct gguf_kv *kv = gguf_find(f, "a.i16s");
        assert_int_equal(kv->n, 3);
        assert_true(gguf_kv_int(kv, 1, &v));
        assert_int_equal(v, -2);
        assert_false(gguf_kv_int(kv, 3, &v));
        kv = gguf_find(f, "a.strings");
        assert_int_equal(kv->strings[0].n, 3);
        assert_int_equal(kv->strings[1].n, 0);
        assert_int_equal(gguf_find(f, "a.empty")->n, 0);
        assert_null(gguf_find(f, "a"));
        const struct gguf_tensor *y = gguf_find_tensor(f, "y.weight");
        assert_int_equal(y->n_bytes, 18);
        assert_int_equal(y->dims[0], 32);
        assert_null(gguf_find_tensor(f, "z.weight"));
        gguf_close(f);
        free(copy);
        buf_free(&b);
    }
}

static void typed_access_names_key_and_types(void **state) {
    (void)state;
    struct buf b = sample_file(3);
    void *copy;
    struct gguf_file *f;
    sluice_error err = {0};
    assert_int_equal(open_exact(b.data, b.len, &copy, &f, &err), SLUICE_OK);
    uint32_t u = 7;
    float x = 0;
    bool flag;
    struct gguf_str s;
    assert_int_equal(gguf_get_u32(f, "a.i64", &u, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "a.i64 is -5"));
    assert_int_equal(gguf_get_u32(f, "missing", &u, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "missing (an integer) is missing"));
    assert_int_equal(gguf_opt_u32(f, "missing", &u, &err), SLUICE_OK);
    assert_int_equal(u, 7);
    assert_int_equal(gguf_opt_u32(f, "a.f64", &u, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "a.f64 is of type f64, but an integer is needed"));
    assert_int_equal(gguf_get_u32(f, "a.i16s", &u, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "a.i16s is an array of i16"));
    assert_int_equal(gguf_get_f32(f, "a.u8", &x, &err), SLUICE_OK);
    assert_true(x == 200.0f);
    assert_int_equal(gguf_get_f32(f, "a.bool", &x, &err), SLUICE_E_FORMAT);
    assert_int_equal(gguf_get_bool(f, "a.u8", &flag, &err), SLUICE_E_FORMAT);
    assert_int_equal(gguf_get_bool(f, "missing", &flag, &err), SLUICE_E_FORMAT);
    assert_int_equal(gguf_get_str(f, "a.strings", &s, &err), SLUICE_E_FORMAT);
    assert_int_equal(gguf_get_str(f, "missing", &s, NULL), SLUICE_E_FORMAT);
    gguf_close(f);
    free(copy);
    buf_free(&b);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    struct buf b = sample_file(3);
    for (size_t n = 0; n < b.len; n++) {
        void *copy;
        struct gguf_file *f;
        sluice_error err = {0};
        assert_int_equal(open_exact(b.data, n, &copy, &f, &err), SLUICE_E_FORMAT);
        assert_true(err.text[0] != '\0');
        if (n >= 24) {
            assert_non_null(strstr(err.text, "download it again"));
        }
        free(copy);
    }
    buf_free(&b);
}

static void every_changed_byte_is_safe(void **state) {
    (void)state;
    struct buf b = sample_file(3);
    static const uint8_t flips[] = {0xFF, 0x01, 0x80, 0x20};
    for (size_t i = 0; i < b.len; i++) {
        for (size_t k = 0; k < sizeof flips; k++) {
            char *bytes = malloc(b.len);
            memcpy(bytes, b.data, b.len);
            bytes[i] = (char)(bytes[i] ^ (char)flips[k]);
            struct gguf_file *f;
            sluice_error err = {0};
            if (gguf_open_memory(bytes, b.len, "test.gguf", &f, &err) == SLUICE_OK) {
                check_invariants(f, bytes);
                gguf_close(f);
            } else {
                assert_true(err.text[0] != '\0');
            }
            free(bytes);
        }
    }
    buf_free(&b);
}

static void wrong_headers(void **state) {
    (void)state;
    struct buf b = {0};
    buf_puts(&b, "<html>404</html>");
    expect_bad(&b, SLUICE_E_FORMAT, "not a GGUF file");
    put(&b, "GGU", 3);
    expect_bad(&b, SLUICE_E_FORMAT, "not a GGUF file");
    put(&b, "GGUF", 4);
    expect_bad(&b, SLUICE_E_FORMAT, "ends at byte 4 inside the header");
    put_header(&b, 1, 0, 0);
    expect_bad(&b, SLUICE_E_UNSUPPORTED, "GGUF version 1; sluice reads versions 2 and 3");
    put_header(&b, 0, 0, 0);
    expect_bad(&b, SLUICE_E_UNSUPPORTED, "version 0");
    put_header(&b, 4, 0, 0);
    expect_bad(&b, SLUICE_E_UNSUPPORTED, "version 4");
    put_header(&b, 0x03000000, 0, 0);
    expect_bad(&b, SLUICE_E_UNSUPPORTED, "big-endian");
}

static void hostile_counts_allocate_nothing(void **state) {
    (void)state;
    static const uint64_t counts[] = {3, 1000, LIMIT_GGUF_KV, LIMIT_GGUF_KV + 1, 1ull << 32, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct buf b = {0};
        put_header(&b, 3, counts[i], 0);
        expect_bad(&b, SLUICE_E_FORMAT, "tensors");
        put_header(&b, 3, 0, counts[i]);
        expect_bad(&b, SLUICE_E_FORMAT, "metadata entries");
        put_header(&b, 3, 0, 1);
        put_key(&b, "k", GGUF_ARRAY);
        put_u32(&b, GGUF_STRING);
        put_u64(&b, counts[i]);
        put_u64(&b, 0);
        put_u64(&b, 0);
        expect_bad(&b, SLUICE_E_FORMAT, "metadata entry k");
        put_header(&b, 3, 0, 1);
        put_key(&b, "k", GGUF_ARRAY);
        put_u32(&b, GGUF_F64);
        put_u64(&b, counts[i]);
        put_u64(&b, 0);
        expect_bad(&b, SLUICE_E_FORMAT, "metadata entry k");
        put_header(&b, 3, 0, 1);
        put_key(&b, "k", GGUF_STRING);
        put_u64(&b, counts[i]);
        put_u8(&b, 'x');
        expect_bad(&b, SLUICE_E_FORMAT, "metadata entry k");
        put_header(&b, 3, 0, 1);
        put_u64(&b, counts[i]);
        put_data(&b, 16);
        expect_bad(&b, SLUICE_E_FORMAT, "metadata entry 1");
    }
}

static void bad_metadata(void **state) {
    (void)state;
    struct buf b = {0};
    put_header(&b, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_key(&b, "same.key", GGUF_U8);
        put_u8(&b, 1);
    }
    expect_bad(&b, SLUICE_E_FORMAT, "the metadata key same.key occurs twice");
    put_header(&b, 3, 0, 1);
    put_key(&b, "k", 13);
    put_u64(&b, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "metadata entry k has the value type 13");
    put_header(&b, 3, 0, 1);
    put_key(&b, "k", GGUF_ARRAY);
    put_u32(&b, GGUF_ARRAY);
    put_u64(&b, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "k is an array of elements of type 9 (array)");
    put_header(&b, 3, 0, 1);
    put_key(&b, "k", GGUF_ARRAY);
    put_u32(&b, 99);
    put_u64(&b, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "type 99");
    put_header(&b, 3, 0, 1);
    put_key(&b, "k", GGUF_BOOL);
    put_u8(&b, 2);
    expect_bad(&b, SLUICE_E_FORMAT, "the boolean 2");
    put_header(&b, 3, 0, 1);
    put_key(&b, "", GGUF_U64);
    put_u64(&b, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "the name of metadata entry 1 is empty");
    put_header(&b, 3, 0, 1);
    put_key(&b, "a\nb", GGUF_U64);
    put_u64(&b, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "not printable");
    put_header(&b, 3, 0, 1);
    put_key(&b, "a\xFF", GGUF_U64);
    put_u64(&b, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "not printable");
    char longest[LIMIT_GGUF_KEY + 2];
    memset(longest, 'k', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    put_header(&b, 3, 0, 1);
    put_key(&b, longest, GGUF_U64);
    put_u64(&b, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "is 257 bytes long; the limit is 256");
}

static void bad_alignment(void **state) {
    (void)state;
    static const uint32_t bad[] = {0, 1, 4, 12, 33, 0xFFFFFFFF};
    struct buf b = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put_header(&b, 3, 0, 1);
        put_key(&b, "general.alignment", GGUF_U32);
        put_u32(&b, bad[i]);
        expect_bad(&b, SLUICE_E_FORMAT, "must be a power of two, 8 or more");
    }
    put_header(&b, 3, 0, 1);
    put_key(&b, "general.alignment", GGUF_STRING);
    put_str(&b, "32");
    expect_bad(&b, SLUICE_E_FORMAT, "general.alignment is of type string, but an integer is needed");
    put_header(&b, 3, 1, 1);
    put_key(&b, "general.alignment", GGUF_U32);
    put_u32(&b, 0x80000000);
    put_tensor(&b, "t", DTYPE_F32, 1, 4, 0);
    put_data(&b, 64);
    expect_bad(&b, SLUICE_E_FORMAT, "its tensor table needs 2147483664");
}

static void honours_alignment(void **state) {
    (void)state;
    struct buf b = {0};
    put_header(&b, 3, 2, 1);
    put_key(&b, "general.alignment", GGUF_U64);
    put_u64(&b, 128);
    put_tensor(&b, "t", DTYPE_F32, 1, 4, 128);
    put_tensor(&b, "u", DTYPE_BF16, 1, 4, 0); /* data in another order than the table */
    put_padding(&b, 128);
    put_data(&b, 128 + 16);
    void *copy;
    struct gguf_file *f;
    sluice_error err = {0};
    assert_int_equal(open_exact(b.data, b.len, &copy, &f, &err), SLUICE_OK);
    check_invariants(f, copy);
    assert_int_equal(f->data_offset % 128, 0);
    gguf_close(f);
    free(copy);
    buf_free(&b);
}

static void one_tensor(struct buf *b, const char *name, uint32_t type, uint64_t rows, uint64_t cols, uint64_t offset) {
    put_header(b, 3, 1, 0);
    put_tensor(b, name, type, rows, cols, offset);
    put_padding(b, 32);
    put_data(b, 256);
}

static void bad_tensors(void **state) {
    (void)state;
    struct buf b = {0};
    one_tensor(&b, "t", 10, 1, 256, 0);
    expect_bad(&b, SLUICE_E_UNSUPPORTED,
               "tensor t has type Q2_K, which sluice does not compute with; get a file made of F32, F16, Q4_0, Q8_0, "
               "Q4_K, Q5_K, Q6_K, BF16");
    one_tensor(&b, "t", 4, 1, 256, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "tensor t has the type number 4, which is unknown");
    one_tensor(&b, "t", 0xFFFFFFFF, 1, 256, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "type number 4294967295");
    one_tensor(&b, "t", DTYPE_Q4_0, 1, 33, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "rows of tensor t have 33 elements, not a multiple of 32 as Q4_0 needs");
    one_tensor(&b, "t", DTYPE_F32, 1, 4, 4);
    expect_bad(&b, SLUICE_E_FORMAT, "tensor t begins at offset 4, not a multiple of the alignment 32");
    one_tensor(&b, "t", DTYPE_F32, 0, 4, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "dimension 2 of tensor t is 0");
    one_tensor(&b, "t", DTYPE_F32, LIMIT_GGUF_DIM, LIMIT_GGUF_DIM, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "their product below 2^64");
    one_tensor(&b, "t", DTYPE_F32, 1, UINT64_MAX, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "dimension 1 of tensor t is 18446744073709551615");
    one_tensor(&b, "t", DTYPE_F32, 1ull << 24, LIMIT_GGUF_DIM - 1, 0); /* 2^64 elements fit, their bytes do not */
    expect_bad(&b, SLUICE_E_FORMAT, "more than 2^64 bytes");
    one_tensor(&b, "t", DTYPE_F32, 1, 4, UINT64_MAX - 31);
    expect_bad(&b, SLUICE_E_FORMAT, "would end beyond 2^64 bytes");
    one_tensor(&b, "t", DTYPE_F32, 1, 65, 0);
    expect_bad(&b, SLUICE_E_FORMAT,
               "half-downloaded: the file has 352 bytes, its tensor table needs 356; download it again");
    one_tensor(&b, "", DTYPE_F32, 1, 4, 0);
    expect_bad(&b, SLUICE_E_FORMAT, "the name of the description of tensor 1 is empty");
    put_header(&b, 3, 1, 0);
    put_str(&b, "t");
    put_u32(&b, 5);
    put_data(&b, 64);
    expect_bad(&b, SLUICE_E_FORMAT, "tensor t has 5 dimensions");
    put_header(&b, 3, 1, 0);
    put_str(&b, "t");
    put_u32(&b, 0);
    put_data(&b, 64);
    expect_bad(&b, SLUICE_E_FORMAT, "tensor t has 0 dimensions");
}

static void two_tensors(struct buf *b, const char *second, uint64_t offset) {
    put_header(b, 3, 2, 0);
    put_tensor(b, "t", DTYPE_F32, 1, 16, 32);
    put_tensor(b, second, DTYPE_F32, 1, 16, offset);
    put_padding(b, 32);
    put_data(b, 256);
}

static void tensors_may_not_share(void **state) {
    (void)state;
    struct buf b = {0};
    two_tensors(&b, "t", 128);
    expect_bad(&b, SLUICE_E_FORMAT, "the tensor name t occurs twice");
    two_tensors(&b, "u", 32);
    expect_bad(&b, SLUICE_E_FORMAT, "overlap");
    two_tensors(&b, "u", 64);
    expect_bad(&b, SLUICE_E_FORMAT, "the data of tensors t and u overlap");
    two_tensors(&b, "u", 0);
    expect_bad(&b, SLUICE_E_FORMAT, "the data of tensors u and t overlap");
}

static void vocabulary_only(void **state) {
    (void)state;
    struct buf b = {0};
    put_header(&b, 3, 0, 1);
    put_key(&b, "tokenizer.ggml.tokens", GGUF_ARRAY);
    put_u32(&b, GGUF_STRING);
    put_u64(&b, 1);
    put_str(&b, "x");
    void *copy;
    struct gguf_file *f;
    sluice_error err = {0};
    assert_int_equal(open_exact(b.data, b.len, &copy, &f, &err), SLUICE_OK);
    check_invariants(f, copy);
    assert_int_equal(f->n_tensors, 0);
    assert_int_equal(f->data_offset, f->file_bytes);
    assert_null(gguf_find_tensor(f, "token_embd.weight"));
    gguf_close(f);
    free(copy);
    buf_free(&b);
}

static void out_of_memory_leaks_nothing(void **state) {
    (void)state;
    struct buf b = sample_file(3);
    sluice_status s = SLUICE_E_NOMEM;
    int failures = 0;
    for (long nth = 1; s != SLUICE_OK; nth++) {
        struct gguf_file *f;
        sluice_error err = {0};
        mem_fail_nth(nth);
        s = gguf_open_memory(b.data, b.len, "test.gguf", &f, &err);
        mem_fail_nth(0);
        if (s == SLUICE_OK) {
            gguf_close(f);
        } else {
            assert_int_equal(s, SLUICE_E_NOMEM);
            assert_non_null(strstr(err.text, "no memory"));
            failures++;
        }
    }
    assert_true(failures >= 8);
    buf_free(&b);
}

static void files_and_what_is_none(void **state) {
    (void)state;
    struct gguf_file *f;
    sluice_error err = {0};
    assert_int_equal(gguf_open("/nonexistent/model.gguf", &f, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "cannot open /nonexistent/model.gguf: No such file"));
    assert_int_equal(gguf_open("/", &f, &err), SLUICE_E_IO);
    assert_non_null(strstr(err.text, "a folder"));
    assert_int_equal(gguf_open("/dev/null", &f, NULL), SLUICE_E_IO);
    char path[] = "/tmp/sluice-test-XXXXXX";
    int fd = mkstemp(path);
    char pipe_path[sizeof path + 5];
    snprintf(pipe_path, sizeof pipe_path, "%s.pipe", path);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(gguf_open(pipe_path, &f, &err), SLUICE_E_IO); /* and does not wait for a writer */
    assert_non_null(strstr(err.text, "pipe"));
    unlink(pipe_path);
    assert_int_equal(gguf_open(path, &f, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "not a GGUF file"));
    struct buf b = sample_file(3);
    assert_int_equal(write(fd, b.data, b.len), b.len);
    close(fd);
    assert_int_equal(gguf_open(path, &f, &err), SLUICE_OK);
    check_invariants(f, f->map);
    assert_string_equal(f->path, path);
    gguf_release(f, f->map, (size_t)f->file_bytes); /* less than a page: nothing happens */
    gguf_release(f, f->tensors[0].data, 0);
    assert_memory_equal(f->map, b.data, b.len);
    gguf_close(f);
    unlink(path);
    buf_free(&b);
    gguf_close(NULL);
}

/* Whether a page of a mapping is in this process's memory. */
static bool holds_page(const void *page) {
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);
    assert_true(fd >= 0);
    off_t at = (off_t)((uintptr_t)page / (uintptr_t)sysconf(_SC_PAGESIZE) * sizeof entry);
    assert_int_equal(pread(fd, &entry, sizeof entry, at), sizeof entry);
    close(fd);
    return entry >> 63;
}

static void whole_pages_are_released(void **state) {
    (void)state;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char path[] = "/tmp/sluice-test-XXXXXX";
    int fd = mkstemp(path);
    struct buf b = sample_file(3);
    uint64_t tensors = b.len;
    while (b.len < 4 * page) {
        put_u8(&b, (uint8_t)b.len);
    }
    assert_int_equal(write(fd, b.data, b.len), b.len);
    close(fd);
    struct gguf_file *f;
    sluice_error err = {0};
    assert_int_equal(gguf_open(path, &f, &err), SLUICE_OK);
    assert_true(f->data_offset < tensors);
    const uint8_t *map = f->map;
    assert_memory_equal(map, b.data, b.len);
    gguf_release(f, map + 1, 3 * page - 1); /* the first page is wanted in part */
    assert_true(holds_page(map) && !holds_page(map + page) && !holds_page(map + 2 * page) &&
                holds_page(map + 3 * page));
    assert_memory_equal(map, b.data, b.len);
    gguf_release(f, map + page, 2 * page - 1); /* the third in part */
    assert_true(!holds_page(map + page) && holds_page(map + 2 * page));
    gguf_close(f);
    unlink(path);
    buf_free(&b);
}

static void long_paths_leave_room_for_the_message(void **state) {
    (void)state;
    char label[2000];
    memset(label, 'p', sizeof label - 1);
    label[sizeof label - 1] = '\0';
    struct gguf_file *f;
    sluice_error err = {0};
    assert_int_equal(gguf_open_memory("x", 1, label, &f, &err), SLUICE_E_FORMAT);
    assert_non_null(strstr(err.text, "is not a GGUF file"));
}

/* As many names as the limit allows, all of one length, are found again, and quickly. */
static void many_names(void **state) {
    (void)state;
    struct buf b = {0};
    uint32_t n = LIMIT_GGUF_KV;
    put_header(&b, 3, 0, n);
    for (uint32_t i = 0; i < n; i++) {
        char key[16];
        snprintf(key, sizeof key, "key.%08x", i);
        put_key(&b, key, GGUF_U32);
        put_u32(&b, i);
    }
    void *copy;
    struct gguf_file *f;
    sluice_error err = {0};
    assert_int_equal(open_exact(b.data, b.len, &copy, &f, &err), SLUICE_OK);
    for (uint32_t i = 0; i < n; i++) {
        char key[16];
        uint32_t v = 0;
        snprintf(key, sizeof key, "key.%08x", i);
        assert_int_equal(gguf_get_u32(f, key, &v, &err), SLUICE_OK);
        assert_int_equal(v, i);
    }
    gguf_close(f);
    free(copy);
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_kind),
        cmocka_unit_test(typed_access_names_key_and_types),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_changed_byte_is_safe),
        cmocka_unit_test(wrong_headers),
        cmocka_unit_test(hostile_counts_allocate_nothing),
        cmocka_unit_test(bad_metadata),
        cmocka_unit_test(bad_alignment),
        cmocka_unit_test(honours_alignment),
        cmocka_unit_test(bad_tensors),
        cmocka_unit_test(tensors_may_not_share),
        cmocka_unit_test(vocabulary_only),
        cmocka_unit_test(out_of_memory_leaks_nothing),
        cmocka_unit_test(files_and_what_is_none),
        cmocka_unit_test(whole_pages_are_released),
        cmocka_unit_test(long_paths_leave_room_for_the_message),
        cmocka_unit_test(many_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
