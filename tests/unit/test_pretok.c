/* The pre-tokenizer: pieces spelled out, the hand-written ASCII path and the interpreter against pcre2's JIT. */
#include "test_tokenizer_support.h"

#include "text/pretok.h"

static struct pretok *create(bool jit) {
    struct pretok *p = NULL;
    sluice_error err = {0};
    if (pretok_create(jit, &p, &err) != SLUICE_OK) {
        fail_msg("%s", err.text);
    }
    return p;
}

/* "a|b|c": the pieces of s, with | between them. */
static void split(const struct pretok *p, const char *s, size_t n, bool pcre_only, struct buf *out) {
    struct pretok_match *match = NULL;
    for (size_t i = 0; i < n;) {
        size_t len = 0;
        sluice_error err = {0};
        sluice_status status = pcre_only ? pretok_next_pcre(p, &match, s + i, n - i, &len, &err)
                                         : pretok_next(p, &match, s + i, n - i, &len, &err);
        if (status != SLUICE_OK) {
            fail_msg("%s", err.text);
        }
        assert_true(len > 0 && len <= n - i);
        if (i) {
            buf_putc(out, '|');
        }
        buf_append(out, s + i, len);
        i += len;
    }
    pretok_match_free(match);
}

static void pieces(void **state) {
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"Hello world", "Hello| world"},
        {"I'm you're WE'LL they'd it's 'S", "I|'m| you|'re| WE|'LL| they|'d| it|'s| '|S"},
        {"don'tx 'x '", "don|'t|x| '|x| '"},
        {"x'ſ 'ſa", "x|'ſ| '|ſa"},                    /* U+017F is no s */
        {"'\xE2\x84\xAA 'Kx", "'\xE2\x84\xAA| '|Kx"}, /* U+212A is no k, and 'k is nothing anyway */
        {"'rE'vE'lL'Ld'R", "'rE|'vE|'lL|'Ld|'R"},
        {"123 4567 89", "123| |456|7| |89"},
        {"1٣٤५x", "1٣٤|५|x"},                          /* \p{N} has more digits than ten */
        {"½²Ⅷ①", "½²Ⅷ|①"},                             /* and more numbers than digits */
        {"e\xCC\x81t\xC3\xA9", "e|\xCC\x81t\xC3\xA9"}, /* a combining mark is no letter */
        {"हिन्दी", "ह|िन|्द|ी"},
        {"안녕하세요 日本語。", "안녕하세요| 日本語|。"},
        {"👨‍👩‍👧 👍🏽!", "👨‍👩‍👧| 👍🏽!"}, /* ZWJ and modifiers stay in one piece */
        {"a\xC2\xA0"
         "b\xC2\xA0\xC2\xA0"
         "c",
         "a|\xC2\xA0"
         "b|\xC2\xA0|\xC2\xA0"
         "c"}, /* NBSP is white space, and any non-letter may lead a word */
        {"a\xE1\xA0\x8E!\xE1\xA0\x8E ", "a|\xE1\xA0\x8E!\xE1\xA0\x8E| "}, /* U+180E is not white space */
        {"a\xC2\x85 \xE2\x80\xA8x", "a|\xC2\x85 |\xE2\x80\xA8x"},
        {"\xEF\xBB\xBFHi \xEF\xBB\xBF", "\xEF\xBB\xBFHi| \xEF\xBB\xBF"}, /* a BOM is text */
        {"a\r\nb\r\n\r\n  c", "a|\r\n|b|\r\n\r\n| | c"},
        {"a \n \n  b", "a| \n \n| | b"},
        {"x  \t y   ", "x|  \t| y|   "},
        {"\ty\t\tz", "\ty|\t|\tz"},
        {"!!!\n\nx ?!\r\n.", "!!!\n\n|x| ?!\r\n|."},
        {"f(x_1)", "f|(x|_|1|)"},
        {" (a) ", " (|a|)| "},
        {"\x01\x1F.\x7Fz", "\x01\x1F.\x7F|z"},
        {"\xEE\x80\x80\xEF\xBF\xBFx\xF4\x8F\xBF\xBD", "\xEE\x80\x80\xEF\xBF\xBF|x|\xF4\x8F\xBF\xBD"},
        {"\xF0\xB1\x8D\x90\xF0\xAE\xAF\xB0", "\xF0\xB1\x8D\x90\xF0\xAE\xAF\xB0"}, /* letters since Unicode 15 */
        {"1\xF0\x91\xBD\x90", "1\xF0\x91\xBD\x90"},                               /* a digit since Unicode 15 */
    };
    struct pretok *p = create(true);
    for (size_t i = 0; i < N_OF(cases); i++) {
        for (int pcre_only = 0; pcre_only < 2; pcre_only++) {
            struct buf got = {0};
            split(p, cases[i].text, strlen(cases[i].text), pcre_only, &got);
            if (strcmp(got.data, cases[i].want) != 0) {
                fail_msg("got '%s', want '%s'", got.data, cases[i].want);
            }
            buf_free(&got);
        }
    }
    pretok_free(p);
}

static void check_same(const struct pretok *jit, const struct pretok *plain, const char *s, size_t n) {
    struct buf fast = {0}, pcre = {0}, interpreted = {0};
    split(jit, s, n, false, &fast);
    split(jit, s, n, true, &pcre);
    split(plain, s, n, true, &interpreted);
    if (fast.len != pcre.len || interpreted.len != pcre.len || memcmp(fast.data, pcre.data, pcre.len) != 0 ||
        memcmp(interpreted.data, pcre.data, pcre.len) != 0) {
        fail_msg("by hand '%s', JIT '%s', interpreter '%s'", fast.data, pcre.data, interpreted.data);
    }
    buf_free(&fast);
    buf_free(&pcre);
    buf_free(&interpreted);
}

static void same_three_ways(void **state) {
    (void)state;
    static const char *const atoms[] = {
        "a",
        "Z",
        "s",
        "'",
        "'s",
        "'LL",
        "'re",
        "1",
        "9",
        "12",
        " ",
        "  ",
        "\n",
        "\r",
        "\t",
        "\v",
        "\f",
        "!",
        "-",
        "_",
        "(",
        ".",
        "\x1F",
        "\x7F",
        "\xC2\x85",
        "\xC2\xA0",
        "\xE3\x80\x80",
        "é",
        "ß",
        "ſ",
        "日",
        "½",
        "٣",
        "\xCC\x81",
        "😀",
        "\xE2\x80\x8D",
        "\xE1\xA0\x8E",
        "\xEF\xBB\xBF",
    };
    struct pretok *jit = create(true), *plain = create(false);
    uint64_t seed = 1;
    for (int round = 0; round < 40000; round++) {
        struct buf s = {0};
        unsigned n = 1 + next_random(&seed) % 9;
        /* Two of three rounds are ASCII only, where the hand-written path does the work. */
        unsigned choice = round % 3 ? 24 : N_OF(atoms);
        for (unsigned i = 0; i < n; i++) {
            buf_puts(&s, atoms[next_random(&seed) % choice]);
        }
        check_same(jit, plain, s.data, s.len);
        buf_free(&s);
    }
    pretok_free(jit);
    pretok_free(plain);
}

/* Length of the first piece. */
static size_t first_piece(const struct pretok *p, struct pretok_match **match, const char *s, size_t n) {
    size_t len = 0;
    assert_int_equal(pretok_next(p, match, s, n, &len, NULL), SLUICE_OK);
    return len;
}

/* Every character: which class does it have? The numbers are Unicode 15.1's; newer tables only add. */
static void classes(void **state) {
    (void)state;
    struct pretok *p = create(true);
    struct pretok_match *match = NULL;
    unsigned letters = 0, numbers = 0, white = 0;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        if (cp >= 0xD800 && cp < 0xE000) {
            continue;
        }
        char s[8] = "a", t[8], u[8];
        size_t n = utf8_encode(cp, s + 1);
        s[n + 1] = 'a';
        bool letter = first_piece(p, &match, s, n + 2) == n + 2; /* aXa */
        utf8_encode(cp, t);
        t[n] = '1';
        bool number = first_piece(p, &match, t, n + 1) == n + 1; /* X1 */
        utf8_encode(cp, u);
        u[n] = '!';
        bool mark = first_piece(p, &match, u, n + 1) == n + 1; /* X! */
        letters += letter;
        numbers += number;
        white += !letter && !number && !mark && cp != ' ';
        assert_true(letter + number + mark <= 1 || cp == ' ');
    }
    assert_true(letters >= 136674 + 52);
    assert_true(numbers >= 1821 + 10);
    assert_int_equal(white, 19 + 5); /* the space takes marks along, so it counts as one here */
    pretok_match_free(match);
    pretok_free(p);
}

/* Long runs of everything, in the interpreter too. */
static void long_runs(void **state) {
    (void)state;
    static const char *const units[] = {" ",  "\n", " \n", "a", "é", "!", "1", "\xC2\xA0", "'", "\xE3\x80\x80\n",
                                        "日", "\t "};
    struct pretok *jit = create(true), *plain = create(false);
    for (size_t i = 0; i < N_OF(units); i++) {
        struct buf s = {0};
        while (s.len < 100000) {
            buf_puts(&s, units[i]);
        }
        buf_puts(&s, i % 2 ? "é" : "x");
        check_same(jit, plain, s.data, s.len);
        buf_free(&s);
    }
    pretok_free(jit);
    pretok_free(plain);
}

static void without_memory(void **state) {
    (void)state;
    bool done = false;
    for (long n = 1; !done; n++) {
        struct pretok *p = NULL;
        mem_fail_nth(n);
        sluice_status status = pretok_create(true, &p, NULL);
        mem_fail_nth(0);
        done = status == SLUICE_OK;
        assert_true(done || status == SLUICE_E_NOMEM);
        pretok_free(p);
        assert_true(n < 50);
    }
    struct pretok *p = create(false); /* the interpreter allocates while it matches */
    done = false;
    for (long n = 1; !done; n++) {
        struct pretok_match *match = NULL;
        size_t len = 0;
        mem_fail_nth(n);
        sluice_status status = pretok_next(p, &match, "é é", 5, &len, NULL);
        mem_fail_nth(0);
        done = status == SLUICE_OK;
        assert_true(done || status == SLUICE_E_NOMEM);
        pretok_match_free(match);
        assert_true(n < 50);
    }
    pretok_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces),    cmocka_unit_test(same_three_ways), cmocka_unit_test(classes),
        cmocka_unit_test(long_runs), cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
