#include "cli/cli.h"

#include "base/buf.h"

#include <stdio.h>
#include <string.h>

/* One word of a command without its folders; of a URL without user and password. */
static void put_word(struct buf *b, const char *word, size_t n) {
    const char *scheme = memmem(word, n, "://", 3);
    const char *at = scheme ? memrchr(scheme, '@', (size_t)(word + n - scheme)) : NULL;
    const char *slash = scheme ? NULL : memrchr(word, '/', n);
    if (at) {
        buf_append(b, word, (size_t)(scheme + 3 - word));
        buf_append(b, at + 1, (size_t)(word + n - at - 1));
    } else if (slash && slash + 1 < word + n) {
        buf_append(b, slash + 1, (size_t)(word + n - slash - 1));
    } else {
        buf_append(b, word, n);
    }
}

/* An argument may itself be a command line (ab): a key is a key there too. */
void cli_command_text(int argc, char **argv, char *out, size_t cap) {
    static const char key[] = "--api-key";
    struct buf b = {0};
    bool secret = false; /* the next word is one */
    buf_puts(&b, "sluice");
    for (int i = 0; i < argc; i++) {
        bool quoted = strchr(argv[i], ' ') != NULL;
        bool text = i > 0 && strcmp(argv[i - 1], "--label") == 0;
        buf_puts(&b, quoted ? " '" : " ");
        for (const char *a = argv[i]; *a || secret;) {
            size_t n = strcspn(a, " ");
            bool is_key = n == strlen(key) && memcmp(a, key, n) == 0;
            if (secret && (n > 0 || !*a)) {
                buf_puts(&b, "***");
                secret = false;
            } else if (n > strlen(key) && memcmp(a, "--api-key=", 10) == 0) {
                buf_puts(&b, "--api-key=***");
            } else if (text) {
                buf_append(&b, a, n);
            } else {
                put_word(&b, a, n);
            }
            secret = secret || is_key;
            a += n;
            if (!*a) {
                break;
            }
            buf_putc(&b, *a++);
        }
        buf_puts(&b, quoted ? "'" : "");
    }
    snprintf(out, cap, "%s", b.failed ? "" : b.data);
    buf_free(&b);
}
