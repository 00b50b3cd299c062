#include "web/web.h"

#include "base/mem.h"
#include "base/status.h"

#include <string.h>
#include <zlib.h>

#define GZIP_WINDOW (MAX_WBITS + 16) /* + 16: a gzip header and nothing else */

const struct web_file *web_find(const char *name) {
    for (size_t i = 0; i < web_files_n; i++) {
        if (strcmp(web_files[i].name, name) == 0) {
            return &web_files[i];
        }
    }
    return NULL;
}

static voidpf zlib_alloc(voidpf ctx, uInt n, uInt size) {
    (void)ctx;
    return mem_calloc(n, size);
}

static void zlib_free(voidpf ctx, voidpf p) {
    (void)ctx;
    mem_free(p);
}

/* Z_STREAM_END when all of the file is in `to` [plain_n]. */
static int inflate_into(const struct web_file *file, unsigned char *to) {
    z_stream z = {.zalloc = zlib_alloc,
                  .zfree = zlib_free,
                  .next_in = (z_const Bytef *)file->gzip,
                  .avail_in = (uInt)file->gzip_n,
                  .next_out = to,
                  .avail_out = (uInt)file->plain_n};
    int code = inflateInit2(&z, GZIP_WINDOW);
    if (code != Z_OK) {
        return code;
    }
    code = inflate(&z, Z_FINISH);
    bool whole = code == Z_STREAM_END && z.avail_out == 0 && z.avail_in == 0;
    inflateEnd(&z);
    return whole || code == Z_MEM_ERROR ? code : Z_DATA_ERROR;
}

sluice_status web_inflate(const struct web_file *file, struct buf *out, sluice_error *err) {
    unsigned char *plain = mem_alloc(file->plain_n);
    int code = plain ? inflate_into(file, plain) : Z_MEM_ERROR;
    if (code == Z_STREAM_END) {
        buf_append(out, plain, file->plain_n);
    }
    mem_free(plain);
    if (code == Z_MEM_ERROR || out->failed) {
        return fail(err, SLUICE_E_NOMEM, "no memory for the page %s of %zu bytes", file->name, file->plain_n);
    }
    if (code != Z_STREAM_END) {
        return fail(err, SLUICE_E_FORMAT, "the page %s in this program is damaged; build it again", file->name);
    }
    return SLUICE_OK;
}
