/*
 * Golden logits (tests/golden/README.md): `ref` must equal them, `cpu` may not stray further from them than the peer does.
 * SLUICE_GOLDEN_DIR names a folder with more files of the same form.
 */
#include "backend/cpu/kernels.h"
#include "tools/logits.h"

#include <dirent.h>
#include <json.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct golden {
    const float *truth;   /* [n_kept][n_vocab] */
    const int *positions; /* [n_kept] */
    int n_kept, next, n_vocab;
    double *kl; /* all cases of a model, appended */
    int n_kl;
    double worst; /* largest absolute difference */
    int beyond;   /* positions with a difference above 1e-3 */
    float *all;   /* every logit seen, for comparing runs; may be NULL */
};

static double log_sum_exp(const float *x, int n) {
    double top = x[0];
    double sum = 0;
    for (int i = 1; i < n; i++) {
        top = x[i] > top ? x[i] : top;
    }
    for (int i = 0; i < n; i++) {
        sum += exp(x[i] - top);
    }
    return top + log(sum);
}

static sluice_status judge(void *ctx, uint32_t pos, const float *logits, sluice_error *err) {
    (void)err;
    struct golden *g = ctx;
    if (g->all) {
        memcpy(g->all + (size_t)pos * (size_t)g->n_vocab, logits, (size_t)g->n_vocab * sizeof(float));
    }
    if (g->next >= g->n_kept || (uint32_t)g->positions[g->next] != pos) {
        return SLUICE_OK;
    }
    const float *truth = g->truth + (size_t)g->next++ * (size_t)g->n_vocab;
    double a = log_sum_exp(truth, g->n_vocab);
    double b = log_sum_exp(logits, g->n_vocab);
    double kl = 0;
    double most = 0;
    for (int i = 0; i < g->n_vocab; i++) {
        kl += exp(truth[i] - a) * ((truth[i] - a) - (logits[i] - b));
        most = fmax(most, fabs((double)truth[i] - logits[i]));
    }
    g->kl[g->n_kl++] = kl;
    g->worst = fmax(g->worst, most);
    g->beyond += !(most <= 1e-3);
    return SLUICE_OK;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static float *read_floats(const char *path, size_t n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    float *data = malloc(n * sizeof(float));
    assert_int_equal(fread(data, sizeof(float), n, f), n);
    fclose(f);
    return data;
}

static int int_array(json_object *a, int **out) {
    int n = (int)json_object_array_length(a);
    *out = malloc((size_t)n * sizeof(int));
    for (int i = 0; i < n; i++) {
        (*out)[i] = json_object_get_int(json_object_array_get_idx(a, (size_t)i));
    }
    return n;
}

/* Runs all cases of one golden file; ubatch 0 = the default. */
static void run_cases(const char *dir, json_object *root, const struct model *m, const char *backend, uint32_t ubatch,
                      uint32_t threads, struct golden *g) {
    json_object *cases = json_object_object_get(root, "cases");
    for (size_t i = 0; i < json_object_array_length(cases); i++) {
        json_object *c = json_object_array_get_idx(cases, i);
        char path[1024];
        int *tokens;
        int *positions;
        int n = int_array(json_object_object_get(c, "tokens"), &tokens);
        g->n_kept = int_array(json_object_object_get(c, "positions"), &positions);
        g->positions = positions;
        g->next = 0;
        snprintf(path, sizeof path, "%s/%s", dir, json_object_get_string(json_object_object_get(c, "logits")));
        float *truth = read_floats(path, (size_t)g->n_kept * (size_t)g->n_vocab);
        g->truth = truth;
        sluice_error err = {0};
        if (logits_run(m, backend, threads, tokens, (uint32_t)n, ubatch, judge, g, &err) != SLUICE_OK) {
            fail_msg("%s", err.text);
        }
        assert_int_equal(g->next, g->n_kept);
        free(truth);
        free(tokens);
        free(positions);
    }
}

static double number(json_object *root, const char *key) {
    json_object *v = json_object_object_get(root, key);
    return v ? json_object_get_double(v) : NAN;
}

static void check_ref(const char *dir, json_object *root, const struct model *m) {
    static double kl[100000];
    struct golden g = {.n_vocab = (int)m->n_vocab, .kl = kl};
    run_cases(dir, root, m, "ref", 0, 0, &g);
    printf("  ref: largest difference %.2e, %d of %d positions beyond 1e-3\n", g.worst, g.beyond, g.n_kl);
    /* a flipped near tie of the router may throw one position in twenty (design section 4.1) */
    assert_true(g.beyond * 20 <= g.n_kl);
}

static void check_cpu(const char *dir, json_object *root, const struct model *m) {
    static double kl[100000];
    double peer_mean = number(root, "peer_kl_mean");
    double peer_median = number(root, "peer_kl_median");
    struct golden g = {.n_vocab = (int)m->n_vocab, .kl = kl};
    run_cases(dir, root, m, "cpu", 0, 0, &g);
    double mean = 0;
    for (int i = 0; i < g.n_kl; i++) {
        mean += kl[i] / g.n_kl;
    }
    double mid = median(kl, g.n_kl);
    printf("  cpu %s: KL mean %.3e (peer %.3e), median %.3e (peer %.3e)\n", kernels_select()->name, mean, peer_mean,
           mid, peer_median);
    if (!isnan(peer_mean)) { /* a set without a peer (PyTorch's) has no bar of this kind */
        assert_true(mean <= 1.15 * peer_mean);
        assert_true(mid <= 1.15 * peer_median);
    } else {
        assert_true(mid <= 1e-3);
    }
}

/* The same bits in steps of any size, on any number of threads, on every ISA this machine has. */
static void check_invariance(const char *dir, json_object *root, const struct model *m) {
    static double kl[100000];
    size_t n = (size_t)m->n_vocab * 4096;
    float *first = calloc(n, sizeof(float));
    float *again = calloc(n, sizeof(float));
    struct golden g = {.n_vocab = (int)m->n_vocab, .kl = kl, .all = first};
    run_cases(dir, root, m, "cpu", 64, 1, &g);
    const struct {
        const char *isa;
        uint32_t ubatch, threads;
    } runs[] = {{"avx512", 1, 1}, {"avx512", 7, 2}, {"avx512", 300, 3}, {"avx2", 64, 2},
                {"avx2", 3, 1},   {"ref", 128, 2},  {"amx", 64, 2},     {"amx", 300, 1}};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        if (!kernels_by_name(runs[i].isa)) {
            continue;
        }
        setenv("SLUICE_CPU", runs[i].isa, 1);
        g.n_kl = 0;
        g.all = again;
        run_cases(dir, root, m, "cpu", runs[i].ubatch, runs[i].threads, &g);
        unsetenv("SLUICE_CPU");
        if (memcmp(first, again, n * sizeof(float)) != 0) {
            fail_msg("ubatch %u, %u threads, %s: logits differ from those of one thread and ubatch 64", runs[i].ubatch,
                     runs[i].threads, runs[i].isa);
        }
    }
    free(first);
    free(again);
}

static int run_folder(const char *dir) {
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len < 5 || strcmp(e->d_name + len - 5, ".json") != 0) {
            continue;
        }
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        json_object *root = json_object_from_file(path);
        assert_non_null(root);
        json_object *file = json_object_object_get(root, "model");
        if (file) {
            snprintf(path, sizeof path, "%s/%s", dir, json_object_get_string(file));
            if (access(path, R_OK) != 0) { /* the shipped model lies with its recipe */
                snprintf(path, sizeof path, REPO_DIR "/models/%s", json_object_get_string(file));
            }
            struct model *m;
            sluice_error err = {0};
            if (model_load(path, &m, &err) != SLUICE_OK) {
                fail_msg("%s", err.text);
            }
            printf("%s\n", e->d_name);
            check_ref(dir, root, m);
            check_cpu(dir, root, m);
            check_invariance(dir, root, m);
            model_free(m);
            n++;
        }
        json_object_put(root);
    }
    closedir(d);
    return n;
}

static void golden_files(void **state) {
    (void)state;
    assert_true(run_folder(TEST_DATA "/golden/peer") >= 4);
}

static void shipped_model(void **state) {
    (void)state;
    assert_true(run_folder(TEST_DATA "/golden") >= 1);
}

static void more_golden_files(void **state) {
    (void)state;
    const char *dir = getenv("SLUICE_GOLDEN_DIR");
    if (dir) {
        assert_true(run_folder(dir) > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_files),
        cmocka_unit_test(shipped_model),
        cmocka_unit_test(more_golden_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
