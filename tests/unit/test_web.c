/* The embedded pages: looked up by name, inflated to what they were; damage and lack of memory are told. */
#include "base/mem.h"
#include "web/web.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define PLAIN "a page, a page, a page that packs well\n"

/* A table's row as web/embed.mjs makes it. */
static struct web_file packed(unsigned char *gzip, size_t cap) {
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (z_const Bytef *)PLAIN;
    z.avail_in = sizeof PLAIN - 1;
    z.next_out = gzip;
    z.avail_out = (uInt)cap;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    struct web_file f = {"a/b.html", "text/html", "\"x\"", gzip, z.total_out, sizeof PLAIN - 1};
    deflateEnd(&z);
    return f;
}

static void a_file_comes_back(void **state) {
    (void)state;
    unsigned char gzip[128];
    struct web_file f = packed(gzip, sizeof gzip);
    struct buf out = {0};
    buf_puts(&out, "before ");
    assert_int_equal(web_inflate(&f, &out, NULL), SLUICE_OK);
    assert_string_equal(out.data, "before " PLAIN);
    buf_free(&out);
}

static void damage_is_told(void **state) {
    (void)state;
    unsigned char gzip[128];
    struct web_file good = packed(gzip, sizeof gzip);
    struct web_file wrong[] = {good, good, good};
    wrong[0].gzip_n--;
    wrong[1].plain_n--;
    wrong[2].plain_n++;
    for (size_t i = 0; i < 3; i++) {
        struct buf out = {0};
        sluice_error err = {0};
        assert_int_equal(web_inflate(&wrong[i], &out, &err), SLUICE_E_FORMAT);
        assert_non_null(strstr(err.text, "a/b.html"));
        assert_int_equal(out.len, 0);
        buf_free(&out);
    }
}

static void every_lack_of_memory_is_told(void **state) {
    (void)state;
    unsigned char gzip[128];
    struct web_file f = packed(gzip, sizeof gzip);
    long n = 1;
    for (sluice_status status = SLUICE_E_NOMEM; status != SLUICE_OK; n++) {
        struct buf out = {0};
        mem_fail_nth(n);
        status = web_inflate(&f, &out, NULL);
        mem_fail_nth(0);
        assert_true(status == SLUICE_OK || status == SLUICE_E_NOMEM);
        buf_free(&out);
    }
    assert_true(n > 3);
}

/* Holds for a build with pages and for one without. */
static void every_file_of_the_table_is_whole(void **state) {
    (void)state;
    assert_null(web_find("no/such.html"));
    assert_null(web_files[web_files_n].name);
    for (size_t i = 0; i < web_files_n; i++) {
        const struct web_file *f = &web_files[i];
        assert_ptr_equal(web_find(f->name), f);
        struct buf out = {0};
        assert_int_equal(web_inflate(f, &out, NULL), SLUICE_OK);
        assert_int_equal(out.len, f->plain_n);
        assert_true(strlen(f->etag) > 4 && strncmp(f->etag, "W/\"", 3) == 0);
        buf_free(&out);
    }
    if (web_files_n == 0) {
        printf("skipped: the embedded web pages (built without Node)\n");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_comes_back),
        cmocka_unit_test(damage_is_told),
        cmocka_unit_test(every_lack_of_memory_is_told),
        cmocka_unit_test(every_file_of_the_table_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
