/* The prefix cache on its way to a file and back, over the scripted backend. */
#include "engine/state_file.h"
#include "unit/engine_fake.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define ASKED 12
#define CTX   1024

static char folder[64], path[128], refused[160], temporary[160];
static int32_t prompts[ASKED][700];
static uint32_t lengths[ASKED];
static struct answer *right[ASKED]; /* what an engine without a cache says */

static sluice_request_options request(uint32_t i) {
    sluice_request_options o = rig_exactly(prompts[i], lengths[i], 10 + i * 9);
    o.sampling.temperature = i % 2 ? 0.8f : 0;
    o.sampling.seed = i;
    o.logprobs = true;
    return o;
}

/* Random prompts; the first half of them begin alike, as conversations under one system prompt do. */
static void make_requests(void) {
    uint64_t rnd = 77;
    for (uint32_t i = 0; i < ASKED; i++) {
        lengths[i] = 65 + rig_below(&rnd, 600);
        for (uint32_t k = 0; k < lengths[i]; k++) {
            bool shared = i < ASKED / 2 && k < 200;
            prompts[i][k] = shared ? prompts[0][k] : (int32_t)rig_below(&rnd, RIG_VOCAB);
            if (i == 0) {
                prompts[0][k] = (int32_t)rig_below(&rnd, RIG_VOCAB);
            }
        }
    }
    sluice_engine *solo = rig_open_solo(0, CTX);
    for (uint32_t i = 0; i < ASKED; i++) {
        sluice_request_options o = request(i);
        right[i] = rig_ask(solo, &o);
    }
    sluice_engine_free(solo);
}

static sluice_engine *open_engine(void) {
    return rig_open_shape(4, 0, CTX);
}

/* Asks everything; returns how many prompt tokens came from the cache. */
static uint32_t ask_all(sluice_engine *e, bool all_cached) {
    uint32_t cached = 0;
    for (uint32_t i = 0; i < ASKED; i++) {
        sluice_request_options o = request(i);
        struct answer *a = rig_ask(e, &o);
        answer_assert_equal(a, right[i]);
        cached += a->last.timings.cache_n;
        if (all_cached) {
            assert_int_equal(a->last.timings.cache_n, (lengths[i] - 1) / KV_PAGE_TOKENS * KV_PAGE_TOKENS);
        }
        answer_free(a);
    }
    return cached;
}

static uint32_t cached_pages(sluice_engine *e) {
    sluice_engine_metrics m;
    sluice_engine_get_metrics(e, &m);
    assert_int_equal(m.pages_cached + m.pages_free, m.pages_total); /* nothing is running */
    return m.pages_cached;
}

static void save(sluice_engine *e, sluice_state_info *info) {
    sluice_error err = {0};
    if (sluice_engine_save(e, path, info, &err) != SLUICE_OK) {
        fail_msg("save: %s", err.text);
    }
    assert_int_not_equal(access(temporary, F_OK), 0);
}

static void restore(sluice_engine *e, sluice_state_info *info) {
    sluice_error err = {0};
    if (sluice_engine_restore(e, path, info, &err) != SLUICE_OK) {
        fail_msg("restore: %s", err.text);
    }
}

/* A file with all that the requests leave. */
static sluice_state_info save_all(void) {
    sluice_state_info info;
    sluice_engine *e = open_engine();
    ask_all(e, false);
    save(e, &info);
    sluice_engine_free(e);
    return info;
}

static void expect_no_restore(sluice_engine *e, sluice_status status, const char *words, bool aside) {
    sluice_error err = {0};
    sluice_state_info info = {.n_pages = 12345};
    bool was_there = access(path, F_OK) == 0;
    unlink(refused);
    assert_int_equal(sluice_engine_restore(e, path, &info, &err), status);
    if (!strstr(err.text, words)) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
    }
    assert_int_equal(strstr(err.text, "set aside with .refused") != NULL, aside);
    assert_int_equal(info.n_pages, 12345);
    assert_int_equal(cached_pages(e), 0);
    assert_int_equal(access(refused, F_OK) == 0, aside);
    assert_int_equal(access(path, F_OK) == 0, was_there && !aside);
}

/* ---- Back and forth ---------------------------------------------------------------------------------------- */

static void a_new_engine_goes_on_where_the_old_one_was(void **state) {
    (void)state;
    sluice_state_info saved, got;
    struct stat st;
    sluice_engine *e = open_engine();
    ask_all(e, false);
    uint32_t n = cached_pages(e);
    assert_true(n > ASKED);
    save(e, &saved);
    assert_int_equal(saved.n_pages, n);
    assert_int_equal(saved.n_tokens, n * KV_PAGE_TOKENS);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(saved.n_bytes, st.st_size);
    sluice_engine_free(e);

    e = open_engine();
    restore(e, &got);
    assert_int_equal(got.n_pages, saved.n_pages);
    assert_int_equal(got.n_tokens, saved.n_tokens);
    assert_int_equal(got.n_bytes, saved.n_bytes);
    assert_int_equal(cached_pages(e), n);
    ask_all(e, true);
    assert_int_equal(cached_pages(e), n);
    restore(e, &got); /* all of it is there */
    assert_int_equal(got.n_pages, 0);
    assert_int_equal(cached_pages(e), n);
    sluice_engine_clear_cache(e);
    assert_int_equal(cached_pages(e), 0);
    restore(e, NULL);
    save(e, NULL); /* from restored pages */
    sluice_engine_free(e);

    e = open_engine();
    restore(e, &got);
    assert_int_equal(got.n_pages, n);
    ask_all(e, true);
    sluice_engine_free(e);
}

static void an_empty_cache_makes_an_empty_file(void **state) {
    (void)state;
    sluice_state_info info = {.n_pages = 1};
    sluice_engine *e = open_engine();
    save(e, &info);
    assert_int_equal(info.n_pages, 0);
    restore(e, &info);
    assert_int_equal(info.n_pages, 0);
    assert_int_equal(cached_pages(e), 0);
    sluice_engine_free(e);
}

static void what_is_known_is_not_taken_in_twice(void **state) {
    (void)state;
    sluice_state_info all, got;
    sluice_engine *e = open_engine();
    all = save_all();
    for (uint32_t i = 0; i < ASKED; i += 3) { /* part of it */
        sluice_request_options o = request(i);
        answer_free(rig_ask(e, &o));
    }
    uint32_t before = cached_pages(e);
    restore(e, &got);
    assert_true(got.n_pages < all.n_pages);
    assert_int_equal(cached_pages(e), before + got.n_pages);
    assert_int_equal(cached_pages(e), all.n_pages);
    ask_all(e, true);
    sluice_engine_free(e);
}

static void it_takes_in_what_there_is_room_for(void **state) {
    (void)state;
    sluice_state_info all = save_all(), got;
    sluice_engine_options o = rig_options(1, 0, CTX);
    uint64_t page = model_page_bytes(&rig_weights);
    o.kv_bytes_max = page * (CTX / KV_PAGE_TOKENS + 5); /* few pages */
    sluice_engine *e = rig_open(&o);
    restore(e, &got);
    assert_int_equal(got.n_pages, sluice_engine_get_info(e)->n_pages);
    assert_true(got.n_pages < all.n_pages);
    assert_int_equal(cached_pages(e), got.n_pages);
    assert_true(ask_all(e, false) > 0);
    sluice_engine_free(e);

    uint64_t budgets[] = {0, 3}; /* few that may stay */
    for (size_t i = 0; i < 2; i++) {
        o = rig_options(4, 0, CTX);
        o.cache_bytes_max = budgets[i] * page;
        e = rig_open(&o);
        restore(e, &got);
        assert_int_equal(got.n_pages, budgets[i]);
        assert_int_equal(cached_pages(e), got.n_pages);
        ask_all(e, false);
        sluice_engine_free(e);
    }
}

static void equal_records_are_one_node(void **state) {
    (void)state;
    struct state_header header = {.page_bytes = sizeof(struct rig_page), .page_format = "scripted-1"};
    struct rig_page page = {.full = 1};
    struct state_writer *w;
    sluice_state_info got;
    strcpy(header.fingerprint, rig_model.info.fingerprint);
    assert_int_equal(state_writer_open(path, &header, &w, NULL), SLUICE_OK);
    assert_int_equal(state_writer_put(w, STATE_ROOT, prompts[0], &page, NULL), SLUICE_OK);
    assert_int_equal(state_writer_put(w, STATE_ROOT, prompts[0], &page, NULL), SLUICE_OK);
    assert_int_equal(state_writer_put(w, 1, prompts[0], &page, NULL), SLUICE_OK);
    assert_int_equal(state_writer_put(w, 0, prompts[0], &page, NULL), SLUICE_OK);
    assert_int_equal(state_writer_finish(w, NULL, NULL), SLUICE_OK);
    sluice_engine *e = open_engine();
    restore(e, &got);
    assert_int_equal(got.n_pages, 2);
    assert_int_equal(cached_pages(e), 2);
    restore(e, &got);
    assert_int_equal(got.n_pages, 0);
    sluice_engine_clear_cache(e);
    assert_int_equal(cached_pages(e), 0);
    sluice_engine_free(e);
}

/* ---- Beside requests --------------------------------------------------------------------------------------- */

struct saver {
    sluice_engine *e;
    atomic_bool stop;
    uint32_t n_saves, n_busy;
};

static void *save_again_and_again(void *arg) {
    struct saver *s = arg;
    while (!atomic_load(&s->stop)) {
        sluice_status status = sluice_engine_save(s->e, path, NULL, NULL);
        assert_true(status == SLUICE_OK || status == SLUICE_E_BUSY);
        s->n_saves += status == SLUICE_OK;
        s->n_busy += status == SLUICE_E_BUSY;
    }
    return NULL;
}

/* Few pages, so that what is listed is given up before its turn; files restored meanwhile into the same engine. */
static void requests_run_beside_saves_and_restores(void **state) {
    (void)state;
    sluice_engine_options o = rig_options(3, 0, CTX);
    o.kv_bytes_max = model_page_bytes(&rig_weights) * 40;
    sluice_engine *e = rig_open(&o);
    struct saver savers[2] = {{.e = e}, {.e = e}};
    pthread_t threads[2];
    unlink(path);
    for (int i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, save_again_and_again, &savers[i]);
    }
    for (uint32_t round = 0; round < 8; round++) {
        sluice_request *r[ASKED];
        for (uint32_t i = 0; i < ASKED; i++) {
            sluice_request_options q = request(i);
            r[i] = rig_submit(e, &q);
        }
        sluice_status status = sluice_engine_restore(e, path, NULL, NULL);
        assert_true(status == SLUICE_OK || status == SLUICE_E_IO); /* not yet there */
        for (uint32_t i = 0; i < ASKED; i++) {
            struct answer *a = answer_new();
            answer_read(a, r[i]);
            answer_assert_equal(a, right[i]);
            answer_free(a);
            sluice_request_free(r[i]);
        }
    }
    for (int i = 0; i < 2; i++) {
        atomic_store(&savers[i].stop, true);
        pthread_join(threads[i], NULL);
    }
    assert_true(savers[0].n_saves + savers[1].n_saves > 0);
    sluice_engine_clear_cache(e);
    assert_int_equal(cached_pages(e), 0);
    restore(e, NULL);
    ask_all(e, false);
    sluice_engine_free(e);
}

static void one_save_at_a_time(void **state) {
    (void)state;
    sluice_error err = {0};
    sluice_engine *e = open_engine();
    atomic_store(&e->saving, true);
    assert_int_equal(sluice_engine_save(e, path, NULL, &err), SLUICE_E_BUSY);
    assert_non_null(strstr(err.text, "being saved already"));
    atomic_store(&e->saving, false);
    save(e, NULL);
    sluice_engine_free(e);
}

/* ---- Files not to be believed ------------------------------------------------------------------------------ */

static void a_damaged_file_is_set_aside_and_leaves_nothing(void **state) {
    (void)state;
    sluice_state_info info = save_all();
    sluice_engine *e = open_engine();
    for (uint64_t at = 0; at < info.n_bytes; at += at < 200 ? 13 : info.n_bytes / 40 + 1) {
        uint8_t byte;
        int fd = open(path, O_RDWR);
        assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
        byte ^= 4;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
        expect_no_restore(e, SLUICE_E_FORMAT, at < 16 ? "no sluice state file" : "damaged", true);
        byte ^= 4;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
        close(fd);
        assert_int_equal(rename(refused, path), 0);
    }
    sluice_state_info got;
    restore(e, &got);
    assert_int_equal(got.n_pages, info.n_pages);
    sluice_engine_clear_cache(e);
    assert_int_equal(truncate(path, (off_t)info.n_bytes - 40), 0);
    expect_no_restore(e, SLUICE_E_FORMAT, "cut off", true);
    sluice_engine_free(e);
}

static void another_models_file_is_set_aside(void **state) {
    (void)state;
    const char *fingerprint = rig_model.info.fingerprint;
    save_all();
    rig_model.info.fingerprint = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    sluice_engine *e = open_engine();
    expect_no_restore(e, SLUICE_E_UNSUPPORTED, "another model", true);
    sluice_engine_free(e);
    rig_model.info.fingerprint = fingerprint;
}

static void another_backends_file_is_set_aside(void **state) {
    (void)state;
    save_all();
    sluice_engine *e = open_engine();
    ((struct rig_backend *)e->backend)->caps.page_format = "scripted-2";
    expect_no_restore(e, SLUICE_E_UNSUPPORTED, "in the form scripted-1; this backend's are in the form scripted-2",
                      true);
    save_all();
    ((struct rig_backend *)e->backend)->caps.page_format = "scripted-1";
    ((struct rig_backend *)e->backend)->caps.page_bytes += 8;
    expect_no_restore(e, SLUICE_E_UNSUPPORTED, "pages of 64 tokens in", true);
    sluice_engine_free(e);
}

static void a_file_that_cannot_be_read_stays(void **state) {
    (void)state;
    sluice_engine *e = open_engine();
    unlink(path);
    expect_no_restore(e, SLUICE_E_IO, strerror(ENOENT), false);
    assert_int_equal(mkdir(path, 0700), 0);
    expect_no_restore(e, SLUICE_E_IO, "a folder, not a file", false);
    rmdir(path);
    sluice_engine_free(e);
}

static void a_model_without_a_fingerprint_keeps_no_state(void **state) {
    (void)state;
    const char *fingerprint = rig_model.info.fingerprint;
    sluice_error err = {0};
    save_all();
    const char *none[] = {"", NULL};
    for (size_t i = 0; i < 2; i++) {
        rig_model.info.fingerprint = none[i];
        sluice_engine *e = open_engine();
        expect_no_restore(e, SLUICE_E_UNSUPPORTED, "has no fingerprint", false);
        assert_int_equal(sluice_engine_save(e, path, NULL, &err), SLUICE_E_UNSUPPORTED);
        sluice_engine_free(e);
    }
    rig_model.info.fingerprint = fingerprint;
}

/* ---- Failures ---------------------------------------------------------------------------------------------- */

static void a_failing_backend_fails_the_call_only(void **state) {
    (void)state;
    sluice_state_info all, got;
    sluice_error err = {0};
    sluice_engine *e = open_engine();
    ask_all(e, false);
    save(e, &all);
    atomic_store(&rig_fake.fail_save, 5);
    assert_int_equal(sluice_engine_save(e, path, &got, &err), SLUICE_E_BACKEND);
    assert_int_not_equal(access(temporary, F_OK), 0);
    sluice_engine_clear_cache(e);
    assert_int_equal(cached_pages(e), 0); /* no page is still marked as being written */
    int failing[] = {1, 5, (int)all.n_pages};
    for (size_t i = 0; i < 3; i++) {
        atomic_store(&rig_fake.fail_load, failing[i]);
        expect_no_restore(e, SLUICE_E_BACKEND, "scripted failure of page_load", false);
    }
    restore(e, &got);
    assert_int_equal(got.n_pages, all.n_pages);
    ask_all(e, true);
    sluice_engine_free(e);
}

static void a_full_disk_leaves_the_old_file(void **state) {
    (void)state;
    struct rlimit before, limit;
    sluice_error err = {0};
    sluice_state_info all, got;
    sluice_engine *e = open_engine();
    ask_all(e, false);
    save(e, &all);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = all.n_bytes / 2;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    sluice_status status = sluice_engine_save(e, path, &got, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(status, SLUICE_E_IO);
    assert_non_null(strstr(err.text, strerror(EFBIG)));
    assert_int_not_equal(access(temporary, F_OK), 0);
    sluice_engine_free(e);
    e = open_engine();
    restore(e, &got);
    assert_int_equal(got.n_pages, all.n_pages);
    sluice_engine_free(e);
}

static void missing_memory_is_an_error_that_passes(void **state) {
    (void)state;
    sluice_state_info all, got;
    sluice_error err = {0};
    sluice_engine *e = open_engine();
    ask_all(e, false);
    save(e, &all);
    long n = 0;
    sluice_status status;
    do {
        mem_fail_nth(++n);
        status = sluice_engine_save(e, path, &got, &err);
        mem_fail_nth(0);
        assert_true(status == SLUICE_OK || (status == SLUICE_E_NOMEM && strstr(err.text, "out of memory")));
        assert_int_not_equal(access(temporary, F_OK), 0);
    } while (status != SLUICE_OK);
    assert_true(n > 6);
    sluice_engine_clear_cache(e);
    for (n = 1; n <= 8; n++) {
        mem_fail_nth(n);
        expect_no_restore(e, SLUICE_E_NOMEM, "out of memory", false);
        mem_fail_nth(0);
        if (n == 6) {
            break;
        }
    }
    restore(e, &got);
    assert_int_equal(got.n_pages, all.n_pages);
    ask_all(e, true);
    sluice_engine_free(e);
}

static int make_folder(void **state) {
    strcpy(folder, "/tmp/sluice-engine-state-XXXXXX");
    if (!mkdtemp(folder)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/state.bin", folder);
    snprintf(refused, sizeof refused, "%s.refused", path);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    rig_setup(state);
    make_requests();
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    for (uint32_t i = 0; i < ASKED; i++) {
        answer_free(right[i]);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

#define STATE_TEST(f) cmocka_unit_test_teardown(f, rig_clean)

int main(void) {
    const struct CMUnitTest tests[] = {
        STATE_TEST(a_new_engine_goes_on_where_the_old_one_was),
        STATE_TEST(an_empty_cache_makes_an_empty_file),
        STATE_TEST(what_is_known_is_not_taken_in_twice),
        STATE_TEST(it_takes_in_what_there_is_room_for),
        STATE_TEST(equal_records_are_one_node),
        STATE_TEST(requests_run_beside_saves_and_restores),
        STATE_TEST(one_save_at_a_time),
        STATE_TEST(a_damaged_file_is_set_aside_and_leaves_nothing),
        STATE_TEST(another_models_file_is_set_aside),
        STATE_TEST(another_backends_file_is_set_aside),
        STATE_TEST(a_file_that_cannot_be_read_stays),
        STATE_TEST(a_model_without_a_fingerprint_keeps_no_state),
        STATE_TEST(a_failing_backend_fails_the_call_only),
        STATE_TEST(a_full_disk_leaves_the_old_file),
        STATE_TEST(missing_memory_is_an_error_that_passes),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
