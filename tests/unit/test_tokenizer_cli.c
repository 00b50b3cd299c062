/* `sluice tokenize` as a program: exit codes, lines in, lines out. The command's sources are part of this file because
 * commands are in no library; they come before cmocka, whose macro named fail would break them. */
#include "cli/args.c"
#include "cli/cmd_tokenize.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define VOCAB TEST_DATA "/unit/data/tok_vocab_bpe.gguf"
#define LINES TEST_DATA "/unit/data/tok_vectors.jsonl"

struct outcome {
    int code;
    char out[8192], err[8192];
};

static FILE *temporary(const char *content, size_t n) {
    FILE *f = tmpfile();
    assert_non_null(f);
    assert_int_equal(fwrite(content, 1, n, f), n);
    rewind(f);
    return f;
}

static void read_back(FILE *f, char *out, size_t cap) {
    rewind(f);
    out[fread(out, 1, cap - 1, f)] = '\0';
    fclose(f);
}

/* argv ends with NULL and starts after "tokenize". */
static struct outcome tokenize(const char *in, size_t n, const char *const *args) {
    static struct outcome o;
    FILE *from = temporary(in, n), *out = temporary("", 0), *err = temporary("", 0);
    char *argv[16] = {(char *)"tokenize"};
    int argc = 1;
    while (*args) {
        argv[argc++] = (char *)*args++;
    }
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(fileno(from), 0);
        dup2(fileno(out), 1);
        dup2(fileno(err), 2);
        int code = cmd_tokenize(argc, argv);
        fflush(NULL);
        _exit(code);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    o.code = WEXITSTATUS(status);
    fclose(from);
    read_back(out, o.out, sizeof o.out);
    read_back(err, o.err, sizeof o.err);
    return o;
}

#define RUN(in, ...) tokenize(in, sizeof(in) - 1, (const char *const[]){__VA_ARGS__, NULL})

static void lines(void **state) {
    (void)state;
    struct outcome o = RUN("\"Hello world\"\n\"\"\r\n  \"in\\u0020Croatia\" \n\"<|im_end|>\"", "-m", VOCAB, "--jsonl");
    assert_string_equal(o.err, "");
    assert_string_equal(o.out, "[86, 883, 369, 295, 2766]\n[]\n[274, 3271]\n[74, 138, 357, 109, 624, 138, 76]\n");
    assert_int_equal(o.code, 0);
    o = RUN("\"a<|im_end|>\"\n\"\"\n", "-m", VOCAB, "--jsonl", "--special", "--bos");
    assert_string_equal(o.out, "[1, 111, 7]\n[1]\n");
    /* Escaped characters beyond the BMP, whatever their low 16 bits; NUL; an unpaired surrogate becomes U+FFFD. */
    o = RUN("\"\\ud876\\ude6a\\u0000\\ud800\"\n", "-m", VOCAB, "--jsonl");
    assert_string_equal(o.out, "[254, 187, 183, 184, 14, 253, 205, 203]\n");
    o = RUN("", "-m", VOCAB, "--jsonl");
    assert_int_equal(o.code, 0);
    assert_string_equal(o.out, "");
}

static void bad_lines(void **state) {
    (void)state;
    static const char *const bad[] = {"1",       "",        "null",     "[\"a\"]",  "\"a",
                                      "\"a\" x", "\"\\q\"", "\"\xFF\"", "\"a\tb\"", "'a'"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char in[64];
        int n = snprintf(in, sizeof in, "\"a\"\n%s\n\"b\"\n", bad[i]);
        static const char *const args[] = {"-m", VOCAB, "--jsonl", NULL};
        struct outcome o = tokenize(in, (size_t)n, args);
        assert_int_equal(o.code, 1);
        assert_string_equal(o.out, "[111]\n"); /* what came before stands */
        assert_non_null(strstr(o.err, "line 2"));
    }
}

static void texts(void **state) {
    (void)state;
    struct outcome o = RUN("", "-m", VOCAB, "--ids", "in Croatia");
    assert_string_equal(o.out, "[274, 3271]\n");
    o = RUN("in Croatia", "-m", VOCAB, "--ids");
    assert_string_equal(o.out, "[274, 3271]\n");
    o = RUN("", "-m", VOCAB, "--special", "python <|im_end|>\xC3");
    assert_non_null(strstr(o.out, "3275  \"python\"  user-defined"));
    assert_non_null(strstr(o.out, "7  \"<|im_end|>\"  control"));
    assert_non_null(strstr(o.out, "<C3>"));
    assert_non_null(strstr(o.out, "4 tokens, 18 bytes"));
    assert_int_equal(o.code, 0);
}

static void wrong_use(void **state) {
    (void)state;
    struct outcome o = RUN("", "-m", "/no/such/file.gguf", "x");
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.err, "/no/such/file.gguf"));
    o = RUN("", "-m", VOCAB, "--jsonl", "/no/such/lines");
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.err, "/no/such/lines"));
    o = RUN("", "-m", VOCAB, "-f", "a", "b");
    assert_int_equal(o.code, 2);
    o = RUN("", "--no-such-option");
    assert_int_equal(o.code, 2);
    o = RUN("", "--help");
    assert_int_equal(o.code, 0);
    assert_non_null(strstr(o.out, "--jsonl"));
    o = RUN("", "-m", VOCAB, "--jsonl", LINES); /* objects, not strings */
    assert_int_equal(o.code, 1);
    assert_non_null(strstr(o.err, "line 1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(bad_lines),
        cmocka_unit_test(texts),
        cmocka_unit_test(wrong_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
