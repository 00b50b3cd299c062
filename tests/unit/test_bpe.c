/*
 * Byte-pair merging against a slow judge that follows the definition word for word, on random vocabularies, and its
 * behaviour on long runs. `test_bpe --bench FILE...` prints the speed on texts, one core.
 */
#include "test_tokenizer_support.h"

#include "base/clock.h"
#include "text/tokenizer_impl.h"

/* ---- The judge: strings, a list of merges, nothing clever ------------------------------------------------------ */

struct rule {
    char left[16], right[16];
};

struct part {
    size_t at, n;
};

static size_t find_rule(const struct rule *rules, size_t n_rules, const char *s, struct part a, struct part b) {
    for (size_t r = 0; r < n_rules; r++) {
        if (strlen(rules[r].left) == a.n && memcmp(rules[r].left, s + a.at, a.n) == 0 &&
            strlen(rules[r].right) == b.n && memcmp(rules[r].right, s + b.at, b.n) == 0) {
            return r;
        }
    }
    return n_rules;
}

static void judge_emit(const struct tokenizer *t, const char *s, struct part p, struct token_vec *out) {
    char text[64];
    memcpy(text, s + p.at, p.n);
    text[p.n] = '\0';
    int32_t id = tokenizer_find(t, text);
    for (size_t i = 0; id < 0 && i < p.n; i++) { /* merges may build what the vocabulary lacks */
        char byte[2] = {text[i], '\0'};
        assert_int_equal(token_vec_push(out, tokenizer_find(t, byte), NULL), SLUICE_OK);
    }
    if (id >= 0) {
        assert_int_equal(token_vec_push(out, id, NULL), SLUICE_OK);
    }
}

static void judge(const struct tokenizer *t, const struct rule *rules, size_t n_rules, const char *s, size_t n,
                  struct token_vec *out) {
    struct part *parts = malloc(n * sizeof *parts);
    size_t count = n;
    for (size_t i = 0; i < n; i++) {
        parts[i] = (struct part){i, 1};
    }
    for (;;) {
        size_t best = n_rules, where = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            size_t r = find_rule(rules, n_rules, s, parts[i], parts[i + 1]);
            if (r < best) {
                best = r;
                where = i;
            }
        }
        if (best == n_rules) {
            break;
        }
        parts[where].n += parts[where + 1].n;
        memmove(parts + where + 1, parts + where + 2, (count - where - 2) * sizeof *parts);
        count--;
    }
    for (size_t i = 0; i < count; i++) {
        judge_emit(t, s, parts[i], out);
    }
    free(parts);
}

/* ---- Random vocabularies over a few letters -------------------------------------------------------------------- */

#define N_RULES 60

struct random_bpe {
    struct rule rules[N_RULES];
    char lines[N_RULES + 2][40];
    char texts[N_RULES][32];
    struct vocab vocab;
};

static bool rule_known(const struct rule *rules, size_t n, const struct rule *r) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(rules[i].left, r->left) == 0 && strcmp(rules[i].right, r->right) == 0) {
            return true;
        }
    }
    return false;
}

static bool text_known(const struct vocab *v, const char *text) {
    for (size_t i = 0; i < v->n; i++) {
        if (strcmp(v->token[i], text) == 0) {
            return true;
        }
    }
    return false;
}

static void side(struct random_bpe *r, size_t n, uint64_t *seed, char out[16]) {
    unsigned pick = next_random(seed) % (unsigned)(n + 4);
    if (pick < n && strlen(r->rules[pick].left) + strlen(r->rules[pick].right) < 8) {
        snprintf(out, 16, "%.7s%.7s", r->rules[pick].left, r->rules[pick].right);
    } else {
        snprintf(out, 16, "%c", "abcd"[next_random(seed) % 4]);
    }
}

static struct tokenizer *make_random(struct random_bpe *r, uint64_t *seed) {
    const char *merges[N_RULES + 2];
    for (size_t i = 0; i < N_RULES; i++) {
        do {
            side(r, i, seed, r->rules[i].left);
            side(r, i, seed, r->rules[i].right);
        } while (rule_known(r->rules, i, &r->rules[i]));
        snprintf(r->lines[i], sizeof r->lines[i], "%s %s", r->rules[i].left, r->rules[i].right);
        snprintf(r->texts[i], sizeof r->texts[i], "%s%s", r->rules[i].left, r->rules[i].right);
        merges[i] = r->lines[i];
        /* One in six results is missing from the vocabulary. */
        if (next_random(seed) % 6 && !text_known(&r->vocab, r->texts[i])) {
            vocab_add(&r->vocab, r->texts[i], TOKEN_NORMAL);
        }
    }
    merges[N_RULES] = merges[0]; /* said again: the first one counts */
    merges[N_RULES + 1] = "a";
    vocab_add_bytes(&r->vocab);
    return load_vocab(&r->vocab, merges, N_RULES + 2);
}

static void check_word(const struct tokenizer *t, const struct rule *rules, const char *s, size_t n) {
    struct token_vec want = {0}, got = {0};
    char text[256];
    memcpy(text, s, n);
    text[n] = '\0';
    if (tokenizer_find(t, text) >= 0) { /* a whole word needs no merges */
        assert_int_equal(token_vec_push(&want, tokenizer_find(t, text), NULL), SLUICE_OK);
    } else {
        judge(t, rules, N_RULES, s, n, &want);
    }
    assert_int_equal(tokenizer_encode(t, s, n, false, &got, NULL), SLUICE_OK);
    if (strcmp(show_ids(got.ids, got.n), show_ids(want.ids, want.n)) != 0) {
        fail_msg("'%s': got %s, want %s", text, show_ids(got.ids, got.n), show_ids(want.ids, want.n));
    }
    token_vec_free(&want);
    token_vec_free(&got);
}

static void random_merges(void **state) {
    (void)state;
    uint64_t seed = 42;
    for (int round = 0; round < 20; round++) {
        struct random_bpe *r = calloc(1, sizeof *r);
        struct tokenizer *t = make_random(r, &seed);
        for (int word = 0; word < 150; word++) {
            char s[200];
            /* Both ways of merging: up to 48 bytes, and beyond. */
            size_t n = 1 + next_random(&seed) % (word % 4 ? 60 : sizeof s - 1);
            for (size_t i = 0; i < n; i++) {
                s[i] = "abcd"[next_random(&seed) % 4];
            }
            check_word(t, r->rules, s, n);
        }
        tokenizer_free(t);
        free(r);
    }
}

/* Repeated words come out of the cache: same ids as without. */
static void repeated_words(void **state) {
    (void)state;
    struct tokenizer *t = load_golden();
    static const char *const words[] = {
        " convey", " zzqq",         " Reykjavi", "antidisestablishment", " \xF0\x9F\x98\x80\xF0\x9F\x98\x81",
        "  ",      " unconveyable", "qqqq"};
    struct buf text = {0};
    struct token_vec want = {0};
    uint64_t seed = 5;
    while (text.len < 20000) {
        const char *w = words[next_random(&seed) % N_OF(words)];
        /* A newline between words keeps the pieces apart, so that short calls give the same ids. */
        struct buf piece = {0};
        buf_printf(&piece, "%s.\n", w);
        buf_append(&text, piece.data, piece.len);
        buf_free(&piece);
    }
    for (size_t i = 0, from = 0; i + 1 < text.len; i++) {
        if (text.data[i] == '.' && text.data[i + 1] == '\n') {
            assert_int_equal(tokenizer_encode(t, text.data + from, i + 2 - from, false, &want, NULL), SLUICE_OK);
            from = i + 2;
        }
    }
    struct token_vec got = encode(t, text.data, text.len, false);
    assert_int_equal(got.n, want.n);
    assert_memory_equal(got.ids, want.ids, want.n * sizeof *want.ids);
    token_vec_free(&got);
    token_vec_free(&want);
    buf_free(&text);
    tokenizer_free(t);
}

/* A megabyte without a word boundary stays n log n (quadratic merging would take hours). */
static void megabyte_of_one_letter(void **state) {
    (void)state;
    struct tokenizer *t = load_golden();
    static const char *const units[] = {"a", " ", "ab", "\n", "\xFF", "!", "\xE6\x97\xA5"};
    for (size_t u = 0; u < N_OF(units); u++) {
        struct buf text = {0};
        while (text.len < 1000000) {
            buf_puts(&text, units[u]);
        }
        uint64_t start = clock_ns();
        struct token_vec ids = encode(t, text.data, text.len, false);
        assert_true(clock_ms_since(start) < 20000); /* a loaded machine with sanitizers; the target is 1000 */
        struct buf back = decode(t, &ids);
        assert_int_equal(back.len, text.len);
        assert_memory_equal(back.data, text.data, text.len);
        buf_free(&back);
        token_vec_free(&ids);
        buf_free(&text);
    }
    tokenizer_free(t);
}

/* ---- --bench ---------------------------------------------------------------------------------------------------- */

static void bench_text(const struct tokenizer *t, const char *label, const char *s, size_t n) {
    double best_ms = 1e30;
    size_t n_ids = 0;
    for (int round = 0; round < 5; round++) {
        uint64_t start = clock_ns();
        struct token_vec ids = encode(t, s, n, false);
        double ms = clock_ms_since(start);
        best_ms = ms < best_ms ? ms : best_ms;
        n_ids = ids.n;
        token_vec_free(&ids);
    }
    printf("%-40s %9zu bytes %9zu ids %8.2f ms %7.1f MB/s\n", label, n, n_ids, best_ms, (double)n / best_ms * 1e-3);
}

static int bench(int n_files, char **files) {
    uint64_t start = clock_ns();
    struct tokenizer *t = load_golden();
    printf("loading %.2f ms\n", clock_ms_since(start));
    for (int i = 0; i < n_files; i++) {
        FILE *f = fopen(files[i], "rb");
        if (!f) {
            perror(files[i]);
            return 1;
        }
        struct buf text = {0};
        char block[65536];
        for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;) {
            buf_append(&text, block, n);
        }
        fclose(f);
        bench_text(t, files[i], text.data, text.len);
        buf_free(&text);
    }
    static const char *const units[] = {"a", " "};
    for (size_t u = 0; u < N_OF(units); u++) {
        char *s = malloc(1000000);
        memset(s, units[u][0], 1000000);
        bench_text(t, u ? "a megabyte of spaces" : "a megabyte of one letter", s, 1000000);
        free(s);
    }
    tokenizer_free(t);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        return bench(argc - 2, argv + 2);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_merges),
        cmocka_unit_test(repeated_words),
        cmocka_unit_test(megabyte_of_one_letter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
